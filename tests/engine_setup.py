"""Small banks for the tests of the engine: a random model in parts, texts in batches, and what training leaves behind.

All models are random; nothing is read from disk. One thread: the machine's other cores are not the tests' to take.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

import tiny_models
from ldc.domains.document import Document
from ldc.domains.encoding import Encoder
from ldc.domains.packing import rows
from ldc.engine.bank import Bank, Base
from ldc.engine.batches import Batch
from ldc.engine.members import Member
from ldc.engine.train import Course, train
from ldc.models.layout import Layout, find_layout
from ldc.models.roles import Component
from ldc.study.schema import TrainingSpec

torch.set_num_threads(1)

LAYERS, HIDDEN = 4, 32
RANK, SCALING = 4, 2.0
WORDS = ("heart", "blood", "add", "return", "three", "seven", "market", "stress", "atom", "the", "of", "is", "makes")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""The bank's contract (design, section 5): what a run may differ by from the same run alone."""

Factors = dict[str, tuple[Tensor, Tensor]]
Disturb = Callable[[int, Bank], None]


@dataclass(frozen=True)
class Setup:
    """A model with where its parts are, and the same in the parts that the engine takes."""

    model: hf.PreTrainedModel
    layout: Layout
    base: Base


@dataclass(frozen=True)
class Outcome:
    """What a run left: its factors, its gradients at the first step before clipping, its course; by component label."""

    factors: Factors
    gradients: Factors
    course: Course


class _WideNorm(nn.Module):
    """An RMSNorm in the precision of its input.

    That of transformers rounds to float32 whatever comes in. Two float64 runs that differ by 1e-16 would now and then
    round to different sides and differ by 1e-7, which no test could tell from a leak.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        gain = norm.get_parameter("weight")
        self.weight = nn.Parameter(gain + 1 if "Gemma" in type(norm).__name__ else gain, requires_grad=False)
        self.epsilon = float(getattr(norm, "variance_epsilon", None) or norm.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)


def fresh_model(family: str, dtype: torch.dtype, layers: int = LAYERS) -> hf.PreTrainedModel:
    """A frozen random model. The head is made ten times larger, so that its predictions differ from uniform ones."""
    model = tiny_models.build(family, layers, HIDDEN).to(dtype).requires_grad_(False)
    head = model.get_output_embeddings().weight
    if head is not model.get_input_embeddings().weight:
        head.mul_(10)
    if dtype == torch.float64:
        for path, module in list(model.named_modules()):
            if type(module).__name__.endswith("RMSNorm"):
                parent, _, name = path.rpartition(".")
                setattr(model.get_submodule(parent), name, _WideNorm(module))
    return model


@cache
def setup(family: str = "llama", dtype: torch.dtype = torch.float64) -> Setup:
    """A random model of a family, shared by all tests that leave it as it is."""
    model = fresh_model(family, dtype)
    layout = find_layout(model)
    return Setup(model, layout, Base.of(model, layout))


def documents(name: str, count: int = 12, words: int = 12) -> list[Document]:
    """Documents of random words, up to `words` long, from the name alone; a third of each is its prompt."""
    generator = random.Random(name)
    out = []
    for i in range(count):
        text = " ".join(generator.choices(WORDS, k=generator.randint(2, words)))
        out.append(Document(f"{name}{i}", text, len(text) // 3))
    return out


@dataclass(frozen=True)
class Reading:
    """How batches are made: rows of one text in a batch, tokens of a row, batches of a step."""

    rows: int = 2
    length: int = 20
    accumulation: int = 1
    completion_only: bool = False
    words: int = 12


def windows(texts: Sequence[str], reading: Reading) -> Iterator[list[Batch]]:
    """The batches of each step. A text is called `<domain>#<seed>`, and these two decide what it holds."""
    encoder = Encoder(tiny_models.tokenizer(), reading.completion_only)
    streams = []
    for text in texts:
        domain, _, seed = text.partition("#")
        read = documents(domain, words=reading.words)
        streams.append(rows(read, encoder, reading.length, domain, int(seed or 0)))
    while True:
        yield [_batch(texts, streams, reading.rows) for _ in range(reading.accumulation)]


def _batch(texts: Sequence[str], streams: Sequence[Any], count: int) -> Batch:
    taken = [next(stream) for stream in streams for _ in range(count)]
    tokens, labels, positions = (
        torch.tensor([getattr(r, n) for r in taken]) for n in ("tokens", "labels", "positions")
    )
    return Batch(tuple(texts), tokens, labels, positions)


def spec(**changes: Any) -> TrainingSpec:
    """Training settings with a rate that moves a tiny model in three steps, and no clipping unless asked for."""
    return TrainingSpec.model_validate({"steps": 3, "learning_rate": 5e-3, "clip": 0.0, "trajectory": 1} | changes)


def regime(layout: Layout, block: str = "all", layers: Sequence[int] | None = None) -> tuple[Component, ...]:
    """The components of a block in some layers, or in all."""
    return tuple(c for c in layout.components if block in ("all", c.block) and (layers is None or c.layer in layers))


def member(layout: Layout, name: str, steps: int = 3) -> Member:
    """The run that a name such as `math/mlp/1` or `math/mlp-2/0` (only layer 2) or `math/attn-1.3/0` describes."""
    domain, what, seed = name.split("/")
    block, _, layers = what.partition("-")
    chosen = regime(layout, block, [int(n) for n in layers.split(".")] if layers else None)
    return Member(name, f"{domain}#{seed}", int(seed), chosen, steps)


def run(
    base: Base,
    members: Sequence[Member],
    training: TrainingSpec | None = None,
    reading: Reading | None = None,
    trunk: bool = True,
    disturb: Disturb = lambda _step, _bank: None,
    compiled: bool = False,
    parts: int = 1,
) -> dict[str, Outcome]:
    """Train a bank and return what became of each member, by name. `disturb` is called before gradients are kept."""
    bank = Bank(base, members, RANK, SCALING, trunk=trunk, compiled=compiled, parts=parts)
    first: list[Factors] = []

    def watch(step: int, bank: Bank) -> None:
        disturb(step, bank)
        if step == 1:
            first.extend(
                {c.label: (a.clone(), b.clone()) for c, a, b in bank.adapters.gradients(k)}
                for k in range(len(bank.members))
            )

    texts = sorted({m.text for m in members})
    courses = train(bank, windows(texts, reading or Reading()), training or spec(), disturb=watch)
    return {
        m.name: Outcome(copies(bank, k), gradients, course)
        for k, (m, gradients, course) in enumerate(zip(bank.members, first, courses, strict=True))
    }


def copies(bank: Bank, k: int) -> Factors:
    """A member's factors as they are now, by component label."""
    return {c.label: (a.clone(), b.clone()) for c, a, b in bank.adapters.factors(k)}


def difference(ours: Factors, theirs: Factors) -> float:
    """The largest distance of two tensors over the norm of the second, taken tensor by tensor.

    A norm, not single entries: Adam divides each entry's gradient by its own size, so that in float32 the few entries
    whose gradient is itself rounding noise move by noise.
    """
    assert ours.keys() == theirs.keys()
    return max(
        float(torch.linalg.vector_norm(x - y) / torch.linalg.vector_norm(y).clamp(min=1e-30))
        for label in ours
        for x, y in zip(ours[label], theirs[label], strict=True)
    )


def same_bits(ours: Factors, theirs: Factors) -> bool:
    """Whether all tensors are equal to the last bit."""
    assert ours.keys() == theirs.keys()
    return all(torch.equal(x, y) for label in ours for x, y in zip(ours[label], theirs[label], strict=True))


def randomise(bank: Bank, seed: int = 0) -> None:
    """Give every B random values, as training would, so that each member is a model of its own."""
    generator = torch.Generator().manual_seed(seed)
    for stack in bank.adapters.stacks.values():
        stack.b.data.copy_(0.2 * torch.randn(stack.b.shape, generator=generator, dtype=torch.float64))
