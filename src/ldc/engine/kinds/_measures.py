"""What a run leaves beside its norms: output effect, gradient saliency, SNR and norm of the weights, and the shift.

All on the first training batches of the run's text, never on held-out text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ldc.engine.bank import Bank
from ldc.engine.batches import Batch
from ldc.engine.device import free_memory, is_out_of_memory
from ldc.engine.importance import Saliency, output_effects, saliency
from ldc.engine.workspace import Workspace
from ldc.errors import ModelError
from ldc.models.roles import Component
from ldc.norms import Array, frobenius
from ldc.plan.runs import Run
from ldc.plan.specs import Bare, RunId, Tune
from ldc.plan.texts import Text
from ldc.tables import IMPORTANCE

Values = Mapping[Component, float]


def of_base(space: Workspace, spec: Bare) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Saliency on a domain's text, SNR and norm(W) of every component, `ldc.tables.IMPORTANCE`.

    Returns:
        The table, None where nothing is to be measured; and what had to be left out.
    """
    if not spec.measures:
        return None, ()
    found, notes = _of_weights(space, spec.measures, spec.text)
    return _table(found), notes


def of_bank(
    space: Workspace,
    bank: Bank,
    runs: Sequence[Run],
    good: Sequence[int],
    stored: Callable[[RunId], Mapping[str, tuple[Any, Any]]],
) -> tuple[dict[int, pd.DataFrame], tuple[str, ...]]:
    """What the trained members of a bank measure, by position, and what had to be left out.

    Args:
        runs: of the members, in the bank's order.
        good: positions of the runs that did not fail.
        stored: the trained factors of a run that is done.
    """
    specs = {k: run.spec for k, run in enumerate(runs) if k in good and isinstance(run.spec, Tune)}
    places = [k for k, spec in specs.items() if "effect" in spec.measures]
    effects: dict[int, Array] = {}
    if places:
        texts = sorted({specs[k].text for k in places}, key=str)
        effects = output_effects(bank, space.feed.first_batches(texts), places)
    found: dict[int, pd.DataFrame] = {}
    notes: tuple[str, ...] = ()
    for k, spec in specs.items():
        components = [component for component, _, _ in bank.adapters.factors(k)]
        measures: dict[str, Values] = {}
        if k in effects:
            measures["effect"] = dict(zip(components, map(float, effects[k]), strict=True))
        if "weight" in spec.measures:
            more, notes = _of_weights(space, spec.measures, spec.text)
            measures |= more
        if spec.against is not None and "shift" in spec.measures:
            measures["shift"] = _shift(bank, k, stored(spec.against))
        if measures:
            found[k] = _table(measures)
    return found, notes


def shift(a_RI: Array, b_OR: Array, a0_RI: Array, b0_OR: Array, scaling: float) -> float:
    """The Frobenius norm of the difference of two updates, s (B A - B' A').

    B A - B' A' is the product of [B, -B'] and [A; A']: a low-rank update of twice the rank, so it is never formed.
    """
    return float(frobenius(np.concatenate([a_RI, a0_RI]), np.concatenate([b_OR, -b0_OR], axis=1), scaling))


def _shift(bank: Bank, k: int, against: Mapping[str, tuple[Any, Any]]) -> Values:
    return {
        component: shift(_array(a), _array(b), *against[component.path], bank.adapters.scaling)
        for component, a, b in bank.adapters.factors(k)
    }


def _of_weights(space: Workspace, wanted: Sequence[str], text: Text) -> tuple[dict[str, Values], tuple[str, ...]]:
    """What is measured of the model as its weights are now."""
    measures: dict[str, Values] = {"weight": {c: space.weight_norms[c.path] for c in space.components}}
    if "snr" in wanted:
        ratios = space.signal_to_noise()
        measures["snr"] = {c: ratios[c.path] for c in space.components}
    if "saliency" not in wanted:
        return measures, ()
    found = _saliency(space, space.feed.first_batches([text]))
    if isinstance(found, str):
        return measures, (f"no gradient saliency: {found}",)
    at = {path: i for i, path in enumerate(space.base.paths)}
    for name, values in found._asdict().items():
        measures[name] = {c: float(values[at[c.path]]) for c in space.components}
    return measures, ()


def _saliency(space: Workspace, batches: Sequence[Batch]) -> Saliency | str:
    """The saliency, or why it could not be measured: a failed measurement does not stop the study."""
    try:
        return saliency(space.base, batches)
    except ModelError as error:
        return str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    free_memory()
    return "memory does not hold the gradients of base weights; take saliency out of selection.measures"


def _array(factor: Any) -> Any:
    return factor.detach().double().cpu().numpy()


def _table(measures: Mapping[str, Values]) -> pd.DataFrame:
    rows: Iterable[tuple[object, ...]] = [
        (measure, c.layer, c.block, c.name, value)
        for measure, values in measures.items()
        for c, value in values.items()
    ]
    return IMPORTANCE.rows(list(rows))
