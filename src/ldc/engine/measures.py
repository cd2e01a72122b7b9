"""What a run leaves of importance beside S: the output effect of trained adapters; saliency, SNR and norm of the base.

All on the first training batches of the run's text, never on held-out text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import pandas as pd

from ldc.engine.bank import Bank, Base
from ldc.engine.batches import Batch
from ldc.engine.device import free_memory, is_out_of_memory
from ldc.engine.feed import Feed, TextKey
from ldc.engine.importance import Saliency, output_effects, saliency
from ldc.engine.results import IMPORTANCE_COLUMNS
from ldc.errors import ModelError
from ldc.models.roles import Component
from ldc.plan.measuring import probe_batches
from ldc.plan.runs import Run, RunId
from ldc.study.schema import Study


@dataclass(frozen=True)
class Weights:
    """What is known of a model's weights alone, by component path, measured once.

    Attributes:
        components: all of the model's.
        norms: Frobenius norms.
        ratios: Spectrum's SNR; empty where it is not wanted.
    """

    components: tuple[Component, ...]
    norms: Mapping[str, float]
    ratios: Mapping[str, float] = field(default_factory=dict)


def probe(feed: Feed, keys: Sequence[TextKey]) -> list[Batch]:
    """The first training batches of some texts: as many as `probe_batches` says."""
    batches = (batch for window in feed.steps(keys) for batch in window)
    return list(islice(batches, probe_batches(feed.study.training)))


def effects_of_bank(bank: Bank, feed: Feed, study: Study, done: Sequence[Run]) -> dict[RunId, pd.DataFrame]:
    """The output effect of the ranked regime's runs among those of a bank that are `done`: IMPORTANCE_COLUMNS."""
    wanted = {
        str(run.id): run
        for run in done
        if run.id.regime == study.measured_regime and "effect" in study.selection.measures
    }
    places = [k for k, member in enumerate(bank.members) if member.name in wanted]
    if not places:
        return {}
    keys = sorted({TextKey.of(run) for run in wanted.values()}, key=str)
    effects = output_effects(bank, probe(feed, keys), places)
    found = {}
    for k in places:
        components = [component for component, _, _ in bank.adapters.factors(k)]
        found[wanted[bank.members[k].name].id] = _table({"effect": dict(zip(components, effects[k], strict=True))})
    return found


def of_base(
    base: Base, feed: Feed, study: Study, domain: str, weights: Weights
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Saliency on a domain's text in the order of the first ranking seed, SNR and norm(W): IMPORTANCE_COLUMNS.

    Returns:
        The table, None where the study wants no measure; and what had to be left out.
    """
    wanted = study.selection.measures
    if not wanted:
        return None, ()
    measures = {"weight": {c: weights.norms[c.path] for c in weights.components}}
    if weights.ratios:
        measures["snr"] = {c: weights.ratios[c.path] for c in weights.components}
    notes: list[str] = []
    if "saliency" in wanted:
        found = _saliency(base, probe(feed, [TextKey(domain, study.ranking_seeds[0])]))
        if isinstance(found, Saliency):
            at = {path: i for i, path in enumerate(base.paths)}
            for name, values in found._asdict().items():
                measures[name] = {c: float(values[at[c.path]]) for c in weights.components}
        else:
            notes.append(f"no gradient saliency: {found}")
    return _table(measures), tuple(notes)


def _saliency(base: Base, batches: Sequence[Batch]) -> Saliency | str:
    """The saliency, or why it could not be had: a study does not end for it."""
    try:
        return saliency(base, batches)
    except ModelError as error:
        return str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    free_memory()
    return "memory does not hold the gradients of base weights; take saliency out of selection.measures"


def _table(measures: Mapping[str, Mapping[Component, float]]) -> pd.DataFrame:
    rows: Iterable[tuple[object, ...]] = [
        (measure, c.layer, c.block, c.name, float(value))
        for measure, values in measures.items()
        for c, value in values.items()
    ]
    return pd.DataFrame(rows, columns=list(IMPORTANCE_COLUMNS))
