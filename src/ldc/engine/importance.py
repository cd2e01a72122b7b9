"""Other definitions of a component's importance than the norm S of its update, measured on rows of text.

Shapes: M members present, P tokens of one, I and O input and output dimension of a component, C components.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ldc.engine.adapters import Stack
from ldc.engine.bank import Bank, Base, Placed
from ldc.engine.batches import Batch
from ldc.engine.head import IGNORED
from ldc.engine.members import Edited, Rows
from ldc.engine.packed import packed_arguments
from ldc.engine.train import member_labels
from ldc.errors import ModelError
from ldc.models.quantised import plain_weight
from ldc.norms import Array
from ldc.plan.measuring import GROUP_BYTES, groups
from ldc.spectrum import signal_to_noise


class Saliency(NamedTuple):
    """First-order importance of each component of a model, [C] each, for the mean NLL L per supervised token.

    gradient: the Frobenius norm of dL/dW. taylor: the sum over the entries of |W o dL/dW|, to first order the change of
    L if each weight in turn were set to zero (Molchanov et al. 2019).
    """

    gradient: Array
    taylor: Array


@torch.no_grad()
def output_effects(bank: Bank, batches: Iterable[Batch], members: Sequence[int] | None = None) -> dict[int, Array]:
    """How much each adapter changes the output of its component: E norm(s B A x) / E norm(W x), both over tokens.

    x is the component's input in the adapted model; a bias is not part of W x. Tokens that are not supervised are left
    out. One pass over the text serves all members.

    Args:
        bank: after its training.
        batches: with the texts of the members.
        members: positions in the bank, in row order; by default all.

    Source: the importance of LoRA-drop (Zhou et al. 2024), here relative to the component's own output.

    Returns:
        {member: [its components]}, in the order of `Adapters.factors`.
    """
    stacks = bank.adapters.stacks
    sums = {path: torch.zeros(2, len(stack.members), dtype=torch.float64) for path, stack in stacks.items()}
    present = range(len(bank.members)) if members is None else members
    for batch in batches:
        counted_MP = (member_labels(bank, batch, present) != IGNORED).view(len(present), -1)
        listeners: dict[str, Placed] = {
            path: (stack.members, _OutputNorms(stack, bank.adapters.scaling, counted_MP, sums[path]))
            for path, stack in stacks.items()
        }
        bank.hidden(batch, present, listeners)
    found: dict[int, list[float]] = {k: [] for k in present}
    for path, stack in stacks.items():
        for member, update, output in zip(stack.members, *sums[path].tolist()):
            if member in found:
                found[member].append(update / output if output else np.nan)
    return {k: np.array(values) for k, values in found.items()}


@dataclass(frozen=True, slots=True)
class _OutputNorms:
    """A listener at a component, which sums the norms of its output and of what each adapter there adds to it.

    Attributes:
        counted_MP: whether a token counts, for all members of the pass.
        sums: [2, K]: for each adapter, the sum over tokens of norm(s B A x) and of norm(W x).
    """

    stack: Stack
    scaling: float
    counted_MP: Tensor
    sums: Tensor

    def around(self, module: nn.Module, rows: Rows) -> nn.Module:
        """See `Edit`."""
        bias = getattr(module, "bias", None)

        def listen(x: Tensor, y: Tensor) -> Tensor:
            for span in rows.spans:
                counted_KP = self.counted_MP[span.start : span.stop]
                a_KRI, b_KOR = self.stack.used_a[span.own], self.stack.used_b[span.own]
                x_KPI = x[rows.of(span, x)].reshape(*counted_KP.shape, -1).to(a_KRI.dtype)
                y_KPO = y[rows.of(span, y)].reshape(*counted_KP.shape, -1)
                update_KPO = self.scaling * (x_KPI @ a_KRI.mT @ b_KOR.mT)
                for i, value in enumerate((update_KPO, y_KPO if bias is None else y_KPO - bias)):
                    wide = torch.promote_types(value.dtype, torch.float32)
                    norm_KP = torch.linalg.vector_norm(value, dim=-1, dtype=wide)
                    self.sums[i, span.own] += (norm_KP * counted_KP).double().sum(dim=1).cpu()
            return y

        return Edited(module, listen)


def saliency(base: Base, batches: Sequence[Batch], group_bytes: int = GROUP_BYTES) -> Saliency:
    """Gradient saliency before any training, over all batches.

    Args:
        base: the bare model.
        batches: rows of text.
        group_bytes: gradients of so many bytes are held at a time; each further group is a pass over all batches.

    Raises:
        ModelError: the weights are quantised and have no gradient.
    """
    weights = [_weight(base, path) for path in base.paths]
    total = sum(int((batch.labels != IGNORED).sum()) for batch in batches)
    found = []
    for group in groups([w.numel() * w.element_size() for w in weights], group_bytes):
        found += _group_saliency(base, batches, total, [weights[i] for i in group])
    gradient, taylor = np.array(found).T
    return Saliency(gradient, taylor)


def _group_saliency(
    base: Base, batches: Sequence[Batch], total: int, weights: Sequence[nn.Parameter]
) -> list[tuple[float, float]]:
    """(norm(dL/dW), sum of |W o dL/dW|) of some weights; the others keep no gradient."""
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for batch in batches:
            mean_loss(base, batch, total).backward()
        pairs = [(w.detach(), w.grad if w.grad is not None else torch.zeros_like(w)) for w in weights]
        return [(float(torch.linalg.vector_norm(g, dtype=torch.float64)), _sum_of_sizes(w * g)) for w, g in pairs]
    finally:
        for weight, wanted in zip(weights, before, strict=True):
            weight.requires_grad_(wanted)
            weight.grad = None


def _sum_of_sizes(values_OI: Tensor) -> float:
    """The sum of the absolute values, row by row first: the same bits for any number of threads."""
    return float(values_OI.abs().sum(dim=-1, dtype=torch.float64).cpu().numpy().sum())


def mean_loss(base: Base, batch: Batch, tokens: int | None = None) -> Tensor:
    """The bare model's NLL in nats over `tokens`, by default the supervised ones of the batch: can be differentiated
    to whatever weights want a gradient."""
    packed = {} if batch.positions is None else packed_arguments(batch.positions, base.masked)
    out: Any = base.decoder(input_ids=batch.tokens, use_cache=False, **packed)
    count = int((batch.labels != IGNORED).sum()) if tokens is None else tokens
    dtype = torch.float64 if base.head.weight_VD.dtype == torch.float64 else torch.float32
    weight = torch.full(batch.labels.shape, 1.0 / max(1, count), dtype=dtype, device=batch.labels.device)
    return base.head.loss(out.last_hidden_state, batch.labels, weight)[0]


def signal_to_noise_ratios(base: Base, paths: Sequence[str] | None = None) -> Array:
    """Spectrum's score of the base weights of all components, or of some: see `ldc.spectrum.signal_to_noise`."""
    found = []
    for path in base.paths if paths is None else paths:
        weight = plain_weight(base.root.get_submodule(path)).float()
        found.append(signal_to_noise(torch.linalg.svdvals(weight).cpu().numpy(), (weight.shape[0], weight.shape[1])))
    return np.array(found)


def _weight(base: Base, path: str) -> nn.Parameter:
    weight: Any = base.root.get_submodule(path).weight
    if not weight.is_floating_point():
        raise ModelError(
            f"{path}: its weights are quantised and have no gradient; load the model in float32 or bfloat16"
        )
    return weight
