"""Truths known beforehand for the legs beside adaptation: blocks that are taught, and that a leg should name. No torch.

A calibration has these runs where its study has the legs. Every run has a placebo: the same lesson on text whose tokens
stand in random order.
"""

from __future__ import annotations

from collections.abc import Sequence

from ldc.plan.arms import components_of
from ldc.plan.runs import Inputs, Run, make_run
from ldc.plan.specs import RunId, Truth
from ldc.plan.texts import Text
from ldc.plan.variants import MARK, Unit, Variant, spread, units_of
from ldc.study.schema import Study

TRUTH, PLACEBO = "truth", "placebo"
"""What the names of the runs begin with, in place of a regime's."""
DOSES = (0.25, 0.5, 1.0)
"""Shares of its own lesson that each of three blocks keeps: 1 : 2 : 4."""


def leg_truth_runs(study: Study, inputs: Inputs, model: str) -> list[Run]:
    """All runs of a model's known truths for the legs; none unless a calibration with several legs teaches blocks."""
    spec, legs = study.calibration, tuple(leg for leg in study.legs if leg != "adaptation")
    if spec is None or not legs or "taught" not in spec.kinds:
        return []
    name = study.selection.regime
    units = units_of(components_of(study.regimes[name], name, model, inputs.components(model)))
    chosen: list[tuple[Unit, ...]] = [(unit,) for unit in spread(units, spec.blocks)]
    chosen += triples(units, spec.blocks) if "causation" in legs else []
    return [
        _run(study, inputs, model, Variant("taught", taught, float(steps), domain), seed, shuffled, legs)
        for domain in study.taught_domains
        for seed in study.seeds
        for taught in chosen
        for shuffled in (False, True)
        for steps in sorted(spec.lessons)
    ]


def triples(units: Sequence[Unit], count: int | None) -> list[tuple[Unit, ...]]:
    """Three blocks of one half that are taught together, as far apart as can be; every block once, but for those left
    over. None where there are fewer than three layers.

    Args:
        count: at most so many blocks in all, so that there are no more triples than a third of it.
    """
    found: list[tuple[Unit, ...]] = []
    for block in ("attn", "mlp"):
        own = [unit for unit in units if unit[1] == block]
        third = len(own) // 3
        found += [(own[i], own[i + third], own[i + 2 * third]) for i in range(third)]
    if count is None:
        return found
    wanted = max(1, count // 3)
    return found if wanted >= len(found) else [found[i * len(found) // wanted] for i in range(wanted)]


def _run(
    study: Study, inputs: Inputs, model: str, taught: Variant, seed: int, shuffled: bool, legs: tuple[str, ...]
) -> Run:
    several = len(taught.units) > 1
    turn = seed % len(DOSES)  # so that with other seeds a block keeps another share
    doses = (*DOSES[turn:], *DOSES[:turn]) if several else ()
    text = Text(taught.domain, seed, shuffled)
    general = Text(taught.domain, 0, source="general")
    spec = Truth(taught, text, general, doses, ("adaptation",) if several else legs)
    places = MARK.join(f"{layer:02d}.{block}" for layer, block in taught.units)
    regime = f"{PLACEBO if shuffled else TRUTH}-{taught.strength:g}-{places}"
    return make_run(study, inputs, RunId(model, taught.domain, regime, seed), spec, scored=False)
