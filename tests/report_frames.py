"""Frames of a study made by hand, whose norms and scores can be worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from ldc.report import Frames, RunLine
from ldc.study.schema import Study
from ldc.tables import EVALUATION, LOSSES, NORMS, RANKING, empty

MODELS = ("alpha", "beta")
DOMAINS = ("cpp", "math", "medical")
REGIMES = ("attn", "mlp", "all", "top1-mlp", "top1-attn", "top3-mlp", "top3-attn")
COMPONENTS = {"attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}
BITS = {"pt": 2.0, "attn": 1.6, "mlp": 1.4, "all": 1.2, "top1-mlp": 1.8, "top1-attn": 1.9, "top3-mlp": 1.5}
BITS["top3-attn"] = 1.7
LAYERS = 6
BEST = {"attn": (1, 2, 0), "mlp": (4, 3, 5)}
"""The three highest-ranked layers of each block, best first, in every domain."""

Run = tuple[str, str, str, int]


def make_study(models: tuple[str, ...] = MODELS, seeds: tuple[int, ...] = (0, 1), **more: object) -> Study:
    return Study.model_validate(
        {
            "name": "trial",
            "models": {m: {"source": "embedded"} for m in models},
            "domains": {d: {"source": "embedded"} for d in DOMAINS},
            "seeds": seeds,
            "training": {"steps": 10},
            **more,
        }
    )


def planned(study: Study) -> list[Run]:
    return [
        (m, d, r, k) for m in study.models for d in study.domains for r in ("pt", *study.regimes) for k in study.seeds
    ]


def run_lines(study: Study, undone: dict[Run, str] | None = None) -> list[RunLine]:
    undone = undone or {}
    return [RunLine(*run, "failed" if run in undone else "done", undone.get(run, "")) for run in planned(study)]


def adapted(regime: str, block: str) -> tuple[int, ...]:
    """Layers of the block that carry adapters."""
    if regime in ("all", block):
        return tuple(range(LAYERS))
    if regime.startswith("top") and regime.endswith(block):
        return BEST[block][: int(regime[3])]
    return ()


def strength(regime: str, block: str, layer: int, seed: int) -> float:
    """S of each component: 4 to 1 by rank; times 1, 2, 3 in the full, ensemble, solo run; plus the seed."""
    rank = BEST[block].index(layer) if layer in BEST[block] else 3
    return (4 - rank) * {"top3": 2.0, "top1": 3.0}.get(regime[:4], 1.0) + seed


def make_frames(study: Study, undone: tuple[Run, ...] = (), eval_domains: bool = False) -> Frames:
    """Frames whose every number can be worked out by hand, but for small seeded ranks and spectra."""
    rng = np.random.default_rng(0)
    norms, scores, losses = [], [], []
    for run in planned(study):
        _, domain, regime, seed = run
        if run in undone:
            continue
        for scored in DOMAINS if eval_domains else (domain,):
            bits = BITS[regime] + 0.1 * seed if scored == domain else 2.5 + (0.25 if regime == "all" else 0.0)
            nll = bits * 1000 * math.log(2)
            inverse = math.exp(-nll / 250)
            scores.append((*run, scored, 10, 250, 1000, nll, 1 / inverse, bits, inverse, 0 if regime == "pt" else 1234))
        for block, names in COMPONENTS.items():
            for layer in adapted(regime, block):
                for name in names:
                    s = strength(regime, block, layer, seed)
                    spectrum = tuple(rng.random(2))
                    norms.append((*run, 0, layer, block, name, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
                    norms.append((*run, 10, layer, block, name, s, s / 50, s / 100, s / 2, *spectrum))
        losses.append((*run, 1, 3.0, 1e-4, 1.0, 4096))
    ranking = [
        (model, domain, block, position + 1, layer, float(4 - position), seed)
        for model in study.models
        for domain in study.domains
        for block, layers in BEST.items()
        for position, layer in enumerate(layers)
        for seed in (None, *study.seeds)
    ]
    return Frames(
        norms=pd.DataFrame(norms, columns=list(NORMS.names)),
        evaluation=pd.DataFrame(scores, columns=list(EVALUATION.names)),
        ranking=pd.DataFrame(ranking, columns=list(RANKING.names)).astype({"seed": "Int64"}),
        losses=pd.DataFrame(losses, columns=list(LOSSES.names)),
    )


def nothing() -> Frames:
    return Frames(empty(NORMS), empty(EVALUATION), empty(RANKING), empty(LOSSES))
