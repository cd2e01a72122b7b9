"""The kinds of run: what decides a run's result, what it costs, and which tables it leaves. No torch.

A kind is one record here, one record of what it is asked in `plan/specs.py`, and one module of the same name in
`ldc.engine.kinds`, which does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from ldc.models.shapes import ModelShape
from ldc.plan import flops
from ldc.plan.specs import Ablate, Bare, Full, Gate, Graft, Probe, Truth, Tune
from ldc.plan.texts import Text
from ldc.study.schema import Study

SHARE_RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Every full run records how much of its update each of these ranks could hold. So a study that later asks for another
of them needs no new training."""


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


def _truth_decides(study: Study, text_of: Callable[[Text], Any], spec: Truth) -> dict[str, Any]:
    assert study.calibration is not None
    return {
        "taught": [list(unit) for unit in spec.taught.units],
        "steps": spec.taught.strength,
        "rate": study.calibration.teaching_rate,
        "rows": (study.training.batch * study.training.accumulation, study.training.block_length),
        "text": text_of(spec.text),
        "seed": spec.text.seed,
        "general": text_of(spec.general),
        "doses": list(spec.doses),
        "legs": list(spec.legs),
        "causation": study.causation.model_dump(include={"documents", "points"}),
        "representation": study.representation.model_dump(include={"documents"}),
        "evaluation": study.evaluation.model_dump(exclude={"batch_tokens", "domains"}),
    }


def _training(study: Study, rate: float) -> dict[str, Any]:
    """The training settings in a key. The key also has the text and the tokenizer, which set the steps of an epoch."""
    training = study.training
    settings = training.model_dump(exclude={"steps", "tokens", "epochs"})
    settings |= {"steps": training.total_steps, "learning_rate": rate}
    return settings if training.epochs is None else settings | {"epochs": training.epochs}


BARE = Kind("bare", 1, ("evaluation", "importance"), _bare_decides, lambda spec: (), flops.none)
TUNE = Kind(
    "tune",
    1,
    ("norms", "losses", "evaluation", "importance"),
    _tune_decides,
    lambda spec: (spec.adapter, spec.variant, spec.capped, spec.equal_steps),
    flops.tune_flops,
    trains=True,
    stores_adapter=True,
)
FULL = Kind(
    "full", 1, ("norms", "losses", "evaluation", "shares"), _full_decides, lambda spec: (), flops.full_flops, alone=True
)
GRAFT = Kind(
    "graft", 1, ("evaluation",), _graft_decides, lambda spec: spec.adapter, flops.none, trains=True, uses_adapter=True
)
PROBE = Kind("probe", 2, ("effects",), _probe_decides, lambda spec: spec, flops.probe_flops)
ABLATE = Kind("ablate", 1, ("effects",), _ablate_decides, lambda spec: spec, flops.ablate_flops)
GATE = Kind("gate", 1, ("effects",), _gate_decides, lambda spec: spec.text.domain, flops.gate_flops, uses_adapter=True)

TRUTH = Kind(
    "truth", 1, ("effects",), _truth_decides, lambda spec: (spec.text.domain, spec.text.seed), flops.truth_flops
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (BARE, TUNE, FULL, GRAFT, PROBE, ABLATE, GATE, TRUTH)}
"""Every kind by its name."""
KIND_OF: Mapping[type, Kind] = {
    Bare: BARE,
    Tune: TUNE,
    Full: FULL,
    Graft: GRAFT,
    Probe: PROBE,
    Ablate: ABLATE,
    Gate: GATE,
    Truth: TRUTH,
}
"""The kind of a spec."""
