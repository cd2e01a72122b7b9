"""How much more the MLP moves than attention: log(S_MLP / S_attn) against every null."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ldc.analysis.arms import equal_steps, shuffled
from ldc.analysis.findings import Finding
from ldc.analysis.nulls import size_nulls
from ldc.analysis.ranking import final_norms
from ldc.analysis.statistics import t_interval
from ldc.study.schema import Study

NULLS = {
    "raw": ("MLP blocks move more than attention (raw S)", "equal S"),
    "size": (
        "Relative to sqrt(d_in d_out), MLP blocks move more than attention",
        "S proportional to sqrt(d_in d_out): all elements of both factors move equally",
    ),
    "size-out": (
        "Relative to sqrt(d_out), MLP blocks move more than attention",
        "S proportional to sqrt(d_out): A stays at its start",
    ),
    "shuffled": (
        "Relative to training on shuffled text, MLP blocks move more than attention",
        "the ratio in the same runs on shuffled tokens",
    ),
    "equal-steps": (
        "Relative to equal steps, MLP blocks move more than attention",
        "the ratio where every component has one S / norm(W)",
    ),
}
"""Sentence and null of each comparison."""


def log_ratios(norms: pd.DataFrame, model: str, regime: str, texts: Sequence[str]) -> pd.DataFrame:
    """log(S of the MLP / S of attention), summed over layers: a row for each text, a column for each shared seed.

    Empty if a half is missing.
    """
    rows = norms[(norms["model"] == model) & (norms["regime"] == regime) & norms["domain"].isin(list(texts))]
    sums = final_norms(rows).groupby(["domain", "seed", "block"])["frobenius"].sum().unstack("block")
    if not {"attn", "mlp"} <= set(sums.columns):
        return pd.DataFrame()
    logs = np.log(sums["mlp"] / sums["attn"]).replace([np.inf, -np.inf], np.nan)
    return logs.unstack("seed").dropna(axis=1)


def movement(norms: pd.DataFrame, sizes: pd.DataFrame, study: Study, model: str, texts: Sequence[str]) -> list[Finding]:
    """A finding for each null that the study file allows. If their signs differ, each says that its sign depends on it.

    One value for each seed, the mean over texts; the interval is Student-t over seeds.
    """
    regime = study.selection.regime
    own = log_ratios(norms, model, regime, texts)
    known = size_nulls(sizes[sizes["model"] == model]) if len(sizes) else pd.DataFrame()
    paired = {"shuffled": shuffled(study), "equal-steps": equal_steps(study)}
    findings = []
    for null, (sentence, what) in NULLS.items():
        if null in paired and paired[null] is None:
            continue
        blank = Finding(
            f"mlp-over-attn-{null}",
            sentence,
            f"log(S_MLP / S_attn) less its null; summed over layers, mean over texts, regime {regime}",
            "log ratio",
            null=what,
        )
        values, missing = _values(own, null, known, norms, model, paired.get(null), texts)
        if missing or not len(values):
            findings.append(replace(blank, missing=missing or f"no {regime} run of all texts is done"))
        else:
            findings.append(replace(blank, found=t_interval(values), texts=len(own), seeds=len(values)))
    signs = {f.name.removeprefix("mlp-over-attn-"): f.found for f in findings if f.found.tested}
    less = [name for name, e in signs.items() if e.high < 0]
    more = [name for name, e in signs.items() if e.low > 0]
    if less and more:
        told = f"the sign depends on the null: more under {', '.join(more)}, less under {', '.join(less)}"
        findings = [replace(f, note=told) if f.found.tested else f for f in findings]
    return findings


def _values(
    own: pd.DataFrame,
    null: str,
    known: pd.DataFrame,
    norms: pd.DataFrame,
    model: str,
    other: str | None,
    texts: Sequence[str],
) -> tuple[np.ndarray, str]:
    """One value for each seed, and what is missing."""
    nothing = np.array([])
    if own.empty:
        return nothing, ""
    if null in ("size", "size-out"):
        if known.empty:
            return nothing, "the sizes of its matrices are not known"
        expected = known.groupby("block")[null].sum()
        return own.mean().to_numpy(dtype=float) - math.log(expected["mlp"] / expected["attn"]), ""
    if other is None:
        return own.mean().to_numpy(dtype=float), ""
    base = log_ratios(norms, model, other, list(own.index))
    both = [seed for seed in own.columns if seed in base.columns]
    if base.empty or len(base) < len(own) or not both:
        return nothing, f"no {other} run of all texts is done"
    return (own[both] - base[both]).mean().to_numpy(dtype=float), ""
