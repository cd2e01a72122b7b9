"""The probe's passes: every document once through the model, its units read at the sites of some layers.

Shapes: R documents of a batch, T tokens, U units, D hidden, K classes, Q questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldc.engine.moments import Space
from ldc.engine.readout import Question, Readout, Units
from ldc.engine.rows import by_length, padded
from ldc.engine.sites import EMBEDDINGS, Block, Sites
from ldc.engine.units import CONTROL, PERMUTED, TEST, Item, Material
from ldc.errors import ModelError

WORDS, BEFORE, ATTN, MLP = range(4)
"""The parts of a layer's row: embeddings e, the stream before the layer r, what attention adds a, what the MLP adds m.
The stream between the halves is r + a, and behind the layer r + a + m."""
STATES: Mapping[str, tuple[int, ...]] = {
    "words": (WORDS,),
    "before": (BEFORE,),
    "attn": (ATTN,),
    "between": (BEFORE, ATTN),
    "mlp": (MLP,),
    "stream": (BEFORE, ATTN, MLP),
}
"""The states of a layer as sums of parts."""
MEMORY = 2 * 2**30
"""Bytes of sums that are kept at once; a study that needs more reads its text once for each group of layers."""


def _space(*states: str) -> Space:
    return tuple(STATES[state] for state in states)


QUESTIONS: Mapping[str, Question] = {
    **{name: Question(_space(name)) for name in ("words", "between")},
    **{name: Question(_space(name), coded=True) for name in ("before", "attn", "mlp", "stream")},
    **{f"words+{name}": Question(_space("words", name)) for name in ("attn", "mlp", "stream")},
    **{f"{a}+{b}": Question(_space(a, b)) for a, b in (("before", "attn"), ("between", "mlp"))},
    **{f"permuted {s}": Question(_space(s), PERMUTED) for s in ("before", "attn", "between", "mlp", "stream")},
    **{f"permuted {a}+{b}": Question(_space(a, b), PERMUTED) for a, b in (("before", "attn"), ("between", "mlp"))},
    **{f"control {s}": Question(_space(s), CONTROL) for s in ("before", "attn", "mlp", "stream")},
}
"""What is asked at every layer, by name: the states that are read together, behind the kind of labels if not the
domain's."""
POOLED: Mapping[str, Question] = {"pooled": Question(((0,),))}
"""What is asked of the mean over a window."""


@dataclass(frozen=True)
class LayerReadouts:
    """The readouts of a layer.

    Attributes:
        units: of `QUESTIONS`, on positions.
        pooled: on the mean of the window of the stream behind the layer; of the embeddings too under layer 0.
    """

    units: Readout
    pooled: dict[int, Readout]

    @property
    def every(self) -> list[Readout]:
        """All of them."""
        return [self.units, *self.pooled.values()]


class NotFinite(ModelError):
    """A state of the model is NaN or infinite."""


def layers_at_once(layers: int, width: int, folds: int, memory: int = MEMORY) -> list[range]:
    """Groups of layers whose sums fit into memory: for each layer and fold (4 D)^2 + D^2 float64 numbers."""
    each = 8 * folds * 17 * width**2
    count = max(1, memory // each)
    return [range(first, min(first + count, layers)) for first in range(0, layers, count)]


def probe_layers(
    sites: Sites, read: Material, layers: range, batch_tokens: int, tell: Callable[[int], None]
) -> dict[int, LayerReadouts]:
    """Read every document once and answer all questions at some layers.

    Args:
        batch_tokens: the most tokens of a batch, padding included.
        tell: told the tokens of each batch.

    Raises:
        NotFinite: a state is.
    """
    device, classes = sites.base.device, len(read.domains)
    width = sites.base.head.weight_VD.shape[1]

    def readout(parts: int, questions: Mapping[str, Question]) -> Readout:
        return Readout(parts, width, list(questions.values()), read.folds, classes, device)

    readouts = {
        layer: LayerReadouts(
            readout(4, QUESTIONS), {at: readout(1, POOLED) for at in ([EMBEDDINGS, 0] if layer == 0 else [layer])}
        )
        for layer in layers
    }
    for block in range(TEST + 1):
        for found in readouts.values():
            for one in found.every:
                one.begin(block)
        for batch in batches(read, block, batch_tokens, device):
            sites.read(batch.tokens_RT, _Listener(batch, readouts))
            tell(sum(len(item.tokens) for item in batch.items))
    return readouts


@dataclass(frozen=True)
class Reading:
    """Documents of a batch with what is read of them.

    Attributes:
        items: in row order.
        tokens_RT: padded on the right.
        row_U, position_U: where the units are.
        units: the labels of the units.
        documents: one unit a document.
        share_RT: the weight of each position in the mean of the window; 0 for what is not scored.
    """

    items: tuple[Item, ...]
    tokens_RT: Tensor
    row_U: Tensor
    position_U: Tensor
    units: Units
    documents: Units
    share_RT: Tensor


def batches(read: Material, block: int, batch_tokens: int, device: torch.device) -> Iterator[Reading]:
    """The documents of a block in batches of like length."""
    numbered = [(number, item) for number, item in enumerate(read.items) if item.block == block]
    for group in by_length([len(item.tokens) for _, item in numbered], batch_tokens):
        own = [numbered[place] for place in group]
        items = tuple(item for _, item in own)
        tokens_RT = padded([item.tokens for item in items], device)
        cells = [(row, position) for row, item in enumerate(items) for position in item.units]
        row_U, position_U = (torch.tensor(column, device=device) for column in zip(*cells, strict=True))
        table_3R = torch.tensor([[n, item.fold, item.label] for n, item in own], device=device).T
        permuted_R = torch.tensor([item.permuted for item in items], device=device)
        drawn_U = read.control_V.to(device)[tokens_RT[row_U, position_U]]
        labels = torch.stack([table_3R[2, row_U], permuted_R[row_U], drawn_U])
        share_RT = torch.zeros(tokens_RT.shape, dtype=torch.float64)
        for row, item in enumerate(items):
            share_RT[row, : len(item.tokens)] = torch.tensor(item.scored, dtype=torch.float64) / sum(item.scored)
        yield Reading(
            items,
            tokens_RT,
            row_U,
            position_U,
            Units(table_3R[0, row_U], table_3R[1, row_U], labels),
            Units(table_3R[0], table_3R[1], table_3R[2:]),
            share_RT.to(device),
        )


class _Listener:
    """Takes the units of each site as the model computes it, and passes on those of a layer when it is done."""

    def __init__(self, batch: Reading, readouts: Mapping[int, LayerReadouts]) -> None:
        self.batch, self.readouts = batch, readouts
        self.words_UD = self.before_UD = torch.empty(0)
        self.added: dict[str, Tensor] = {}

    def __call__(self, block: Block, layer: int, state_RTD: Tensor) -> None:
        x_UD = state_RTD[self.batch.row_U, self.batch.position_U].double()
        if not torch.isfinite(x_UD).all():
            where = "the embeddings" if layer == EMBEDDINGS else f"block {block} of layer {layer}"
            raise NotFinite(f"the states of {where} are not finite; use a wider dtype, such as bfloat16 or float32")
        if layer == EMBEDDINGS:
            self.words_UD = self.before_UD = x_UD
            self._pool(0, EMBEDDINGS, state_RTD)
        elif block == "stream":
            if layer in self.readouts:
                parts = [self.words_UD, self.before_UD, self.added["attn"], self.added["mlp"]]
                self.readouts[layer].units.read(torch.stack(parts, dim=1), self.batch.units)
                self._pool(layer, layer, state_RTD)
            self.before_UD = x_UD
        else:
            self.added[block] = x_UD

    def _pool(self, owner: int, layer: int, state_RTD: Tensor) -> None:
        if owner in self.readouts:
            mean_RD = torch.einsum("rt,rtd->rd", self.batch.share_RT, state_RTD.double())
            self.readouts[owner].pooled[layer].read(mean_RD[:, None], self.batch.documents)


def rows_of(names: Sequence[str]) -> list[int]:
    """The places of questions of `QUESTIONS`."""
    order = list(QUESTIONS)
    return [order.index(name) for name in names]
