"""What is exported: the components of one model, domain and regime, with the base and the study's settings."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from ldc.models.roles import BLOCKS, Component
from ldc.study.schema import AdapterSpec, TrainingSpec

NF4 = "nf4"


@dataclass(frozen=True)
class Base:
    """The base model. `note` is empty for a model of the Hub; for any other it explains the name."""

    name: str
    revision: str | None
    dtype: str
    note: str
    trust_remote_code: bool = False

    @property
    def quantised(self) -> bool:
        """Whether the study held the base in four bits."""
        return self.dtype == NF4

    @property
    def compute_dtype(self) -> str:
        """The precision of the activations: float32 or bfloat16."""
        return "bfloat16" if self.quantised else self.dtype


@dataclass(frozen=True)
class Selection:
    """Components to adapt, and everything else that a configuration contains.

    Attributes:
        how: how the layers were chosen, in words.
        scored: held-out bits per byte, in words; empty where the regime was not scored.
        completion_only: whether the loss is on completions only, not on all text.
        doubts: what speaks against these layers, in sentences: seeds that disagree, training without a clear gain.
    """

    study: str
    model: str
    domain: str
    regime: str
    components: tuple[Component, ...]
    base: Base
    adapter: AdapterSpec
    training: TrainingSpec
    seed: int
    how: str
    scored: str
    completion_only: bool
    doubts: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        """The full module path of every component, in the model's order."""
        return [c.path for c in self.components]

    @property
    def alpha(self) -> int | float:
        """Alpha, as an `int` if it is whole: most trainers declare it as one."""
        return int(self.adapter.alpha) if self.adapter.alpha.is_integer() else self.adapter.alpha

    @property
    def parameters(self) -> int:
        """Trainable parameters of the adapter."""
        return self.adapter.rank * sum(c.d_in + c.d_out for c in self.components)


def where(components: tuple[Component, ...]) -> str:
    """The layers of each block in words: `attn 0, 3; mlp 0-5`."""
    parts = []
    for block in BLOCKS:
        layers = sorted({c.layer for c in components if c.block == block})
        if layers:
            parts.append(f"{block} {ranges(layers)}")
    return "; ".join(parts)


def ranges(layers: list[int]) -> str:
    """Ascending numbers with ranges: `0-5, 7`."""
    spans: list[list[int]] = []
    for layer in layers:
        if spans and layer == spans[-1][1] + 1:
            spans[-1][1] = layer
        else:
            spans.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def provenance(selection: Selection) -> list[str]:
    """The provenance of the selection, as lines of a comment."""
    s = selection
    lines = [
        f"ldc {metadata.version('layer-domain-control')}, study {s.study}: "
        f"model {s.model}, domain {s.domain}, regime {s.regime}",
        f"layers: {where(s.components)} ({s.how})",
        f"{len(s.components)} modules by their full paths, {s.parameters:,} LoRA parameters",
    ]
    if s.scored:
        lines.append(f"held out: {s.scored}")
    lines += [f"caution: {doubt}" for doubt in s.doubts]
    if s.base.note:
        lines.append(f"base: {s.base.note}")
    return lines
