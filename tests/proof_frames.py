"""Tables of evidence made by hand for tests of the page: synthetic, not measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ldc.report.proof import COLUMNS, Proof

_CLAIMS = """
mlp-raw | secondary | | MLP blocks move more than attention. | S of MLP over attention, log | equal S | 0.42 \
| log ratio | 0.35 | 0.49 | 0.95 | 6 | 5 | 0.0004 | 0.0016 | supported | the interval is above zero
specific | secondary | | The map is domain specific. | share of interaction | noise | | | | | | 6 | 1 | | \
| undecided | one seed: no interval
mlp-size | secondary | | MLP blocks move more than their size explains. | excess over size | size | -0.08 \
| log ratio | -0.13 | -0.03 | 0.95 | 6 | 5 | 0.004 | 0.012 | contradicted | the interval is below zero
top | primary | top | The top-3 layers do better than three random ones. | top3-mlp - random3-mlp | any layers | 0.004 \
| bits per byte | -0.002 | 0.010 | 0.95 | 6 | 5 | 0.21 | 0.42 | undecided | the interval includes 0; and a note
locus | primary | locus | The MLP contributes more of the gain than attention | Shapley share | alike | 0.11 \
| share of the gain | 0.05 | 0.17 | 0.95 | 6 | 5 | 0.001 | 0.005 | supported | the MLP's share is 61%
"""


def claims(model: str = "alpha") -> pd.DataFrame:
    """Two primary tests, one of them decided, and three secondary sentences, two of them decided; in mixed order."""
    rows = [[cell.strip() for cell in line.split("|")] for line in _CLAIMS.strip().splitlines()]
    table = pd.DataFrame(rows, columns=[c for c in COLUMNS["claims"] if c != "model"]).assign(model=model)
    for name in ("effect", "low", "high", "level", "texts", "seeds", "p", "p_adjusted"):
        table[name] = pd.to_numeric(table[name])
    return table[list(COLUMNS["claims"])]


def gate(model: str = "alpha") -> pd.DataFrame:
    """The full run gains on two texts of three."""
    rows = [
        (model, "cpp", 0.021, 0.012, 0.030, 0.001, 24, 5, True),
        (model, "math", 0.062, 0.041, 0.083, 0.001, 24, 5, True),
        (model, "medical", -0.001, -0.004, 0.002, 0.4, 24, 5, False),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS["gate"]))


def regime_gains(model: str = "alpha") -> pd.DataFrame:
    """The MLP and the full run gain alike on three texts."""
    rows = [(model, d, r, 0.0152, 0.0053, 0.0251, 24, 5) for d in ("cpp", "math", "medical") for r in ("mlp", "all")]
    return pd.DataFrame(rows, columns=list(COLUMNS["regime_gains"]))


def necessity_means(model: str = "alpha", layers: int = 6) -> pd.DataFrame:
    """Higher layers gain more alone and are needed less; adapters kept alone were not run."""
    rows = []
    for block in ("attn", "mlp"):
        for n in range(layers):
            up, down = 0.01 * (n + 1), 0.02 * (layers - n)
            kept = (np.nan, np.nan, np.nan)
            rows.append((model, block, n, up, up - 0.002, up + 0.002, *kept, down, down - 0.003, down + 0.003, 3, 5))
    return pd.DataFrame(rows, columns=list(COLUMNS["necessity_means"]))


def contrasts(model: str = "alpha", domains: tuple[str, ...] = ("cpp", "math", "medical")) -> pd.DataFrame:
    """Three contrasts; the last domain has one seed and no interval."""
    rng = np.random.default_rng(1)
    kinds = {"gain of the top 3": "pt", "top 3 against random": "random3-mlp", "own against foreign": "foreign3-mlp"}
    rows = []
    for name, right in kinds.items():
        for domain in domains:
            effect, p, seeds = 0.01 * float(rng.normal(0.4, 1.0)), 0.03, 5
            low, high = effect - 0.006, effect + 0.006
            if domain == domains[-1]:
                low, high, p, seeds = np.nan, np.nan, np.nan, 1
            ends = (effect, low, high, 0.95, 24, seeds, p, 3 * p, "bits per byte")
            rows.append((model, domain, name, "top3-mlp", right, *ends))
    return pd.DataFrame(rows, columns=list(COLUMNS["contrasts"]))


def soloist(
    model: str = "alpha", domains: tuple[str, ...] = ("cpp", "math"), layers: int = 6
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gains that follow the score in the MLP and do not in attention; the last domain has no intervals."""
    rng = np.random.default_rng(2)
    rows, summary = [], []
    for domain in domains:
        for block in ("attn", "mlp"):
            for layer in range(layers):
                score = 2.0 + float(rng.random()) + (1.5 if block == "mlp" else 0.0)
                gain = 0.01 * score * (block == "mlp") + 0.004 * float(rng.normal())
                known = domain != domains[-1]
                rows.append(
                    (model, domain, block, layer, score, gain)
                    + ((gain - 0.003, gain + 0.003, 3) if known else (np.nan, np.nan, 1))
                )
            ends = (0.1, 0.9) if domain != domains[-1] else (np.nan, np.nan)
            summary.append((model, domain, block, 0.6, *ends, 0.0012, 2, layers, 3))
    return (
        pd.DataFrame(rows, columns=list(COLUMNS["soloist"])),
        pd.DataFrame(summary, columns=list(COLUMNS["soloist_summary"])),
    )


def predictors(model: str = "alpha", layers: int = 6) -> pd.DataFrame:
    """Output effect tells the gain of the MLP, S does not; chance has no interval."""
    rows = [
        (model, "mlp", "frobenius", 0.1, -0.6, 0.7, 0.8, 0.8, 0.004, 3.5, 3, layers, 3),
        (model, "mlp", "effect", 0.9, 0.4, 1.0, 0.0004, 0.0008, 0.0, 1.0, 3, layers, 3),
        (model, "mlp", "chance", 0.0, *[np.nan] * 4, 0.005, 3.5, 3, layers, 3),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS["predictors"]))


def planted(model: str = "alpha", layers: int = 6) -> pd.DataFrame:
    """Ranks by hand: the contrast always finds the block, raw S from a strength of 0.1 on, chance every twelfth."""
    rows = []
    for strength in (0.03, 0.1, 0.3):
        for number, (layer, block) in enumerate((n, b) for n in range(layers) for b in ("attn", "mlp")):
            ranks = {"contrast": 1, "raw S": 1 if strength >= 0.1 or number < 3 else 4, "chance": number + 1}
            rows += [
                (model, "damage", layer, block, strength, 0, metric, rank, rank == 1) for metric, rank in ranks.items()
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS["planted"]))


def proof(model: str = "alpha", domains: tuple[str, ...] = ("cpp", "math", "medical"), layers: int = 6) -> Proof:
    solo, summary = soloist(model, domains, layers)
    return Proof(
        claims=claims(model),
        gate=gate(model),
        regime_gains=regime_gains(model),
        contrasts=contrasts(model, domains),
        soloist=solo,
        soloist_summary=summary,
        necessity_means=necessity_means(model, layers),
        predictors=predictors(model, layers),
        planted=planted(model, layers),
    )
