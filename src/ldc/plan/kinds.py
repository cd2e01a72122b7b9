"""The kinds of run: what each does with a model on a text, what decides its result, and what it costs. No torch.

A kind is one record here and one module of the same name in `ldc.engine.kinds`, which does the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from ldc.models.roles import Component
from ldc.models.shapes import ModelShape
from ldc.plan.texts import Text
from ldc.plan.variants import Variant
from ldc.study.schema import AdapterSpec, Study

SHARE_RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Every full run records how much of its update each of these ranks could hold. So a study that later asks for another
of them needs no new training."""

CHARACTERS_PER_TOKEN = 3.0
"""Taken for the cost of text before it is read."""


@dataclass(frozen=True, slots=True, order=True)
class RunId:
    """The name of a run; joined by slashes it is the run's path in the store."""

    model: str
    domain: str
    regime: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}/{self.domain}/{self.regime}/seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Bare:
    """The unchanged model, which is only scored."""

    text: Text
    measures: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class Tune:
    """LoRA adapters trained on a text.

    Attributes:
        components: the adapted components.
        adapter: rank and scaling.
        rate: peak learning rate.
        seed: the seed of the adapters' start.
        text: the training text.
        variant: the variant that is tuned; None for the study's own model.
        against: the run of the own model whose update this one's is compared with (measure `shift`).
        measures: what is measured besides the norms; no result depends on it.
        keeps: whether its adapter is stored.
        capped: whether no component gets a rank that it cannot have (see `engine.kinds.tune.cap_ranks`).
        equal_steps: whether every component's relative update is made equal after each step
            (see `engine.kinds.tune.equalise`).
    """

    components: tuple[Component, ...]
    adapter: AdapterSpec
    rate: float
    seed: int
    text: Text
    variant: Variant | None = None
    against: RunId | None = None
    measures: tuple[str, ...] = ()
    keeps: bool = True
    capped: bool = False
    equal_steps: bool = False


@dataclass(frozen=True, slots=True)
class Full:
    """Full fine-tuning of the weights of some components.

    Attributes:
        components: the tuned components.
        rate: peak learning rate, one for all matrices.
        text: the training text.
        ranks: the ranks of the LoRA runs that it is compared with. It is measured how much of the update these ranks
            and SHARE_RANKS could hold.
    """

    components: tuple[Component, ...]
    rate: float
    text: Text
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Graft:
    """Scores some of the adapters that another run has trained; trains nothing.

    Attributes:
        components: the components whose adapters are used.
        adapter: the adapter of the source.
        source: the run that trained them.
        source_key: its key.
        text: the training text of the source.
    """

    components: tuple[Component, ...]
    adapter: AdapterSpec
    source: RunId
    source_key: str
    text: Text


@dataclass(frozen=True, slots=True)
class Probe:
    """Reads at every site of the model how much it tells about the domain of a text; forward only.

    Attributes:
        texts: the study's texts and the domain of each, which is the class to tell apart.
        shuffled: whether the tokens of each document are in random order.
        random_weights: whether the model's weights are drawn anew, as before any training.
        components: none.
    """

    texts: tuple[tuple[str, str], ...]
    shuffled: bool = False
    random_weights: bool = False
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class Ablate:
    """Replaces what each block of the model adds, one block at a time, and scores held-out text; forward only.

    Attributes:
        text: the held-out text.
        others: the study's texts and the domain of each, which lend outputs of blocks.
        components: none.
    """

    text: Text
    others: tuple[tuple[str, str], ...]
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class Gate:
    """Scales the trained adapters of each block of another run; trains nothing.

    Attributes:
        components: the components whose adapters are gated.
        adapter: the adapter of the source.
        source: the run that trained them.
        source_key: its key.
        text: the training text of the source; its domain's held-out text is scored.
    """

    components: tuple[Component, ...]
    adapter: AdapterSpec
    source: RunId
    source_key: str
    text: Text


Spec = Bare | Tune | Full | Graft | Probe | Ablate | Gate


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Attributes:
        name: the name of the kind and of its module in the engine.
        version: the version of its arithmetic; raised when the same key would give another result.
        tables: what a run leaves, by the names of `ldc.tables.RUN_TABLES`; `importance` only where it measures.
        decides: (study, fingerprint of a text, spec) -> what decides the result, beside model and kind; for the key.
        together: runs with equal values may share a bank.
        flops: (shape, study, spec) -> FLOPs of training.
        trains: whether it trains adapters in a bank, whose memory limits how many runs share it.
        alone: whether it changes the model itself, so each run needs its own bank.
        stores_adapter: whether it stores an adapter.
        uses_adapter: whether it needs the stored adapter of another run.
    """

    name: str
    version: int
    tables: tuple[str, ...]
    decides: Callable[[Study, Callable[[Text], Any], Any], dict[str, Any]]
    together: Callable[[Any], Hashable]
    flops: Callable[[ModelShape, Study, Any], float]
    trains: bool = False
    alone: bool = False
    stores_adapter: bool = False
    uses_adapter: bool = False


def forward_flops(shape: ModelShape, first_layer: int = 0) -> float:
    """FLOPs for one token through the layers from `first_layer` on and the head: two for each weight."""
    weights = sum(c.d_in * c.d_out for c in shape.components if c.layer >= first_layer)
    return 2.0 * (weights + shape.hidden * shape.vocabulary)


def _bare_decides(_study: Study, text_of: Callable[[Text], Any], spec: Bare) -> dict[str, Any]:
    return {"text": text_of(spec.text)}


def _tune_decides(study: Study, text_of: Callable[[Text], Any], spec: Tune) -> dict[str, Any]:
    what: dict[str, Any] = {
        "text": text_of(spec.text),
        "components": [c.path for c in spec.components],
        "adapter": spec.adapter.model_dump(),
        "training": _training(study, spec.rate),
        "seed": spec.seed,
    }
    if spec.variant is not None:
        what["variant"] = [spec.variant.name]
    if spec.capped:
        what["capped"] = True
    if spec.equal_steps:
        what["equal_steps"] = True
    if spec.against is not None:
        what["against"] = str(spec.against)  # it decides the measure `shift`
    return what


def _full_decides(study: Study, text_of: Callable[[Text], Any], spec: Full) -> dict[str, Any]:
    return {
        "text": text_of(spec.text),
        "components": [c.path for c in spec.components],
        "training": _training(study, spec.rate),
        "seed": spec.text.seed,
        "ranks": [rank for rank in spec.ranks if rank not in SHARE_RANKS],
    }


def _graft_decides(_study: Study, _text_of: Callable[[Text], Any], spec: Graft) -> dict[str, Any]:
    return {"source": spec.source_key, "components": [c.path for c in spec.components]}


def _probe_decides(study: Study, text_of: Callable[[Text], Any], spec: Probe) -> dict[str, Any]:
    return {
        "texts": [(domain, text_of(Text(name, 0, spec.shuffled))) for name, domain in spec.texts],
        "random_weights": spec.random_weights,
        "representation": study.representation.model_dump(),
        "evaluation": study.evaluation.model_dump(exclude={"batch_tokens", "domains"}),
    }


def _ablate_decides(study: Study, text_of: Callable[[Text], Any], spec: Ablate) -> dict[str, Any]:
    return {
        "text": text_of(spec.text),
        "others": [(domain, text_of(Text(name, 0, spec.text.shuffled))) for name, domain in spec.others],
        "causation": study.causation.model_dump(include={"documents", "draws"}),
        "evaluation": study.evaluation.model_dump(exclude={"batch_tokens", "domains"}),
    }


def _gate_decides(study: Study, text_of: Callable[[Text], Any], spec: Gate) -> dict[str, Any]:
    return {
        "source": spec.source_key,
        "components": [c.path for c in spec.components],
        "causation": study.causation.model_dump(include={"documents", "points"}),
        "evaluation": study.evaluation.model_dump(exclude={"batch_tokens", "domains"}),
    }


def _training(study: Study, rate: float) -> dict[str, Any]:
    """The training settings in a key. The key also has the text and the tokenizer, which set the steps of an epoch."""
    training = study.training
    settings = training.model_dump(exclude={"steps", "tokens", "epochs"})
    settings |= {"steps": training.total_steps, "learning_rate": rate}
    return settings if training.epochs is None else settings | {"epochs": training.epochs}


def _tokens(study: Study) -> int:
    return study.training.total_steps * study.training.tokens_per_step


def _tune_flops(shape: ModelShape, study: Study, spec: Tune) -> float:
    """Forward and backward through the layers from the lowest adapter on, and the adapters three times."""
    trainable = spec.adapter.rank * sum(c.d_in + c.d_out for c in spec.components)
    lowest = min(c.layer for c in spec.components)
    return (2 * forward_flops(shape, lowest) + 6 * trainable) * _tokens(study)


def _full_flops(shape: ModelShape, study: Study, spec: Full) -> float:
    """Forward, and twice that for the gradients of states and weights."""
    return 3 * forward_flops(shape, min(c.layer for c in spec.components)) * _tokens(study)


def held_out_tokens(study: Study, documents: int) -> int:
    """Tokens of so many held-out documents of a text, at most."""
    spec = study.evaluation
    return int(min(documents, spec.documents) * spec.characters / CHARACTERS_PER_TOKEN)


def _probe_flops(shape: ModelShape, study: Study, spec: Probe) -> float:
    """Forward over the documents of every text; second moments of each position that is read, at every site."""
    documents = study.representation.documents + study.evaluation.documents
    tokens = documents * study.evaluation.characters / CHARACTERS_PER_TOKEN
    units = documents * study.representation.positions
    return len(spec.texts) * (tokens * forward_flops(shape) + units * 18.0 * shape.layers * shape.hidden**2)


def _ablate_flops(shape: ModelShape, study: Study, _spec: Ablate) -> float:
    """Every block joins where it is replaced: half of the model on average, for each way of replacing."""
    ways = 2 + 2 * study.causation.draws
    half = sum(forward_flops(shape, layer) for layer in range(shape.layers))
    return held_out_tokens(study, study.causation.documents) * (2 * half + forward_flops(shape)) * ways


def _gate_flops(shape: ModelShape, study: Study, spec: Gate) -> float:
    """Forward and backward at every point of the integral, and forward for every row of the design."""
    blocks = len({(c.layer, c.block) for c in spec.components})
    passes = 2 * study.causation.points + 2 * 2 ** math.ceil(math.log2(blocks + 1))
    return held_out_tokens(study, study.causation.documents) * passes * forward_flops(shape)


def _none(_shape: ModelShape, _study: Study, _spec: Any) -> float:
    return 0.0


BARE = Kind("bare", 1, ("evaluation", "importance"), _bare_decides, lambda spec: (), _none)
TUNE = Kind(
    "tune",
    1,
    ("norms", "losses", "evaluation", "importance"),
    _tune_decides,
    lambda spec: (spec.adapter, spec.variant, spec.capped, spec.equal_steps),
    _tune_flops,
    trains=True,
    stores_adapter=True,
)
FULL = Kind(
    "full", 1, ("norms", "losses", "evaluation", "shares"), _full_decides, lambda spec: (), _full_flops, alone=True
)
GRAFT = Kind(
    "graft", 1, ("evaluation",), _graft_decides, lambda spec: spec.adapter, _none, trains=True, uses_adapter=True
)
PROBE = Kind("probe", 1, ("effects",), _probe_decides, lambda spec: spec, _probe_flops)
ABLATE = Kind("ablate", 1, ("effects",), _ablate_decides, lambda spec: spec, _ablate_flops)
GATE = Kind("gate", 1, ("effects",), _gate_decides, lambda spec: spec.text.domain, _gate_flops, uses_adapter=True)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (BARE, TUNE, FULL, GRAFT, PROBE, ABLATE, GATE)}
"""Every kind by its name."""
KIND_OF: Mapping[type, Kind] = {
    Bare: BARE,
    Tune: TUNE,
    Full: FULL,
    Graft: GRAFT,
    Probe: PROBE,
    Ablate: ABLATE,
    Gate: GATE,
}
"""The kind of a spec."""
