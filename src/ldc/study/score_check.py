"""Whether a study has the runs that its ranking score is read from."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING, get_args

from ldc.errors import StudyError
from ldc.study.leg_measures import MEASURES, regime_of
from ldc.study.leg_specs import GATE
from ldc.study.selection_spec import Score, SelectionSpec

if TYPE_CHECKING:
    from ldc.study.schema import Study


def score_fault(selection: SelectionSpec, study: Study) -> str:
    """What is wrong with ranking a study's layers by this score; empty if nothing is."""
    score, regime = selection.score, regime_of(selection.score)
    if regime is None:
        return ""
    measure = MEASURES[score]
    if measure.leg not in study.legs:
        legs = ", ".join([*study.legs, measure.leg])
        return f"`{score}` is a measure of the leg {measure.leg}, which the study lacks; add it as `legs: [{legs}]`"
    if selection.unit == "component":
        return f"`{score}` is measured for whole blocks; rank by it with `unit: block`"
    if measure.sources:
        count = Counter(spec.domain or name for name, spec in study.domains.items() if not spec.reference)
        if single := [name for name, texts in count.items() if texts < 2]:
            return f"`{score}` needs two sources of every domain, and {single[0]} has one; rank by `swap`"
    if regime == GATE:
        return _gate_fault(selection, study)
    return ""


def with_score(study: Study, score: str) -> Study:
    """The study with another ranking score.

    Raises:
        StudyError: there is no such score, or the study lacks the runs that it is read from.
    """
    known = get_args(Score)
    if score not in known:
        near = get_close_matches(score, known, n=1)
        meant = f"; did you mean `{near[0]}`?" if near else ""
        raise StudyError(f"no score is called `{score}`{meant} (one of {', '.join(known)})")
    selection = study.selection.model_copy(update={"score": score})
    if wrong := score_fault(selection, study):
        raise StudyError(wrong)
    return study.model_copy(update={"selection": selection})


def _gate_fault(selection: SelectionSpec, study: Study) -> str:
    """Whether the adapters are gated that this ranking needs."""
    score, regime = selection.score, study.regimes.get(selection.regime)
    if regime is None or study.measured_regime is None:
        return (
            f"`{score}` is measured on the adapters of `{selection.regime}`, which is no regime of the study that "
            "tunes adapters on fixed layers; name one in selection.regime"
        )
    needed = study.seeds if selection.cross_fit is not None else selection.seeds
    if lacking := [seed for seed in needed if seed not in study.gated_seeds]:
        return f"`{score}` ranks by the adapters of seed {lacking[0]}, which are not gated; add it to causation.seeds"
    return ""
