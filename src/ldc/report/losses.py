"""The training loss of the ranked regime: one small curve for each domain of a model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ldc.study.schema import Study

WIDTH, HEIGHT = 160, 30
_EDGE = 2


def curves(losses: pd.DataFrame, study: Study, model: str) -> list[dict[str, Any]]:
    """First and last loss and the curve of each domain, mean over seeds; nothing for domains without a run.

    Args:
        losses: as in `tables.LOSSES`, in nats per supervised token.
        study: sets the regime and the order of domains.
        model: whose runs.
    """
    rows = losses[(losses["model"] == model) & (losses["regime"] == study.selection.regime)]
    found = []
    for domain in study.domains:
        own = rows[rows["domain"] == domain].groupby("step")["loss"].mean().astype(float).dropna().sort_index()
        if own.empty:
            continue
        first, last = float(own.iloc[0]), float(own.iloc[-1])
        found.append(
            {
                "domain": domain,
                "first": f"{first:.3f}",
                "last": f"{last:.3f}",
                "steps": int(own.index[-1]),
                "path": _path(own),
                "alt": f"{domain}: training loss from {first:.3f} to {last:.3f} over {int(own.index[-1])} steps",
                "width": WIDTH,
                "height": HEIGHT,
            }
        )
    return found


def _path(loss: pd.Series) -> str:
    """A line over the box, the steps from left to right, the lowest loss at its bottom; flat if there is one step."""
    low, high = float(loss.min()), float(loss.max())
    start, span = int(loss.index[0]), max(1, int(loss.index[-1]) - int(loss.index[0]))
    points = [
        (
            _EDGE + (WIDTH - 2 * _EDGE) * (int(step) - start) / span,
            HEIGHT - _EDGE - (HEIGHT - 2 * _EDGE) * ((value - low) / (high - low) if high > low else 0.5),
        )
        for step, value in loss.items()
    ]
    points = points if len(points) > 1 else [points[0], (WIDTH - _EDGE, points[0][1])]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
