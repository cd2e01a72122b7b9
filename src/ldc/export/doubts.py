"""What speaks against exported layers: seeds that disagree, and training that gains nothing or does harm."""

from __future__ import annotations

import pandas as pd

from ldc.analysis.backing import backed, harmed, unclear
from ldc.errors import StudyError
from ldc.state import StudyState
from ldc.study.leg_measures import regime_of
from ldc.study.leg_specs import GATE
from ldc.study.regimes import Regime


def doubts(
    state: StudyState, model: str, domain: str, regime: Regime, seed: int | None, anyway: bool
) -> tuple[str, ...]:
    """What speaks against the layers of a regime, in sentences; nothing for fixed layers, which no map has chosen.

    Args:
        state: the study's folder.
        model, domain: whose layers.
        regime: how they are chosen.
        seed: the seed that ranks alone; None for the mean over seeds.
        anyway: tell of harm instead of refusing.

    Raises:
        StudyError: the layers are ranked by their updates, and training did harm.
    """
    if not regime.targeted:
        return ()
    trained = regime_of(state.study.selection.score) in (None, GATE)
    return (*(_training(state, model, domain, anyway) if trained else ()), *_seeds(state, model, domain, regime, seed))


def told_of_training(gate: pd.DataFrame, model: str, domain: str) -> str | None:
    """What training did to a text, in a word or three; None where that is not known."""
    if domain in harmed(gate, model):
        return "harm"
    if domain in unclear(gate, model):
        return "no clear gain"
    return "gain" if ((gate["model"] == model) & (gate["domain"] == domain)).any() else None


def _training(state: StudyState, model: str, domain: str, anyway: bool) -> list[str]:
    full, worse = state.study.selection.regime, harmed(state.gate, model)
    if domain in worse:
        told = f"the `{full}` runs of {model} are worse than the bare model on {domain}"
        by = f"{-worse[domain]:+.4f} bits per byte; higher is worse"
        if not anyway:
            raise StudyError(
                f"{state.store.out}: {told} ({by}), so its map names no layers to use. Train with a lower "
                "training.learning_rate, or give --anyway"
            )
        return [f"{told} ({by}); do not trust these layers"]
    if domain in unclear(state.gate, model):
        return [f"the `{full}` runs of {model} show no clear gain on {domain}, so its map says little"]
    return []


def _seeds(state: StudyState, model: str, domain: str, regime: Regime, seed: int | None) -> list[str]:
    """A sentence on the layers that no more than half of the seeds name; nothing if one seed was asked for."""
    if seed is not None or regime.top is None:
        return []
    units = backed(state.ranking(model), model, domain, regime.block, regime.top)
    place = "first in" if regime.top == 1 else f"among the first {regime.top} of"
    torn = [
        f"{regime.block} {f'{u.layer}.{u.component}'.removesuffix('.')} is {place} only {u.support}"
        for u in units
        if not u.firm
    ]
    return [f"the seeds disagree: {', '.join(torn)}; see `ldc export OUT --list`"] if torn else []
