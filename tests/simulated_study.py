"""Studies that no model was trained for: norms and scores drawn from distributions with known effects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd

from ldc.analysis.ranking import rank
from ldc.report import Frames
from ldc.store.evaluation import evaluation_table
from ldc.study.schema import Study
from ldc.tables import DOCUMENTS, LOSSES, NORMS, SIZES, empty

MODEL = "alpha"
NAMES = {"attn": ("q", "k", "o"), "mlp": ("gate", "up", "down")}
WIDTH = 64


@dataclass(frozen=True)
class Truth:
    """What holds in a simulated study; in one of pure noise all runs gain alike, and nothing else holds.

    Attributes:
        ratio: log of S of the MLP over S of attention. All matrices have the same size.
        own: standard deviation of the part of log S that is a domain's own.
        ranked: bits per byte by which the top of the ranking is better than other layers.
        gain: bits per byte that a layer gains alone for each standard deviation of its log S.
        tuned: bits per byte that every run gains over the bare model.
        layers_differ: standard deviation in bits per byte between sets of layers, whatever their S.
        run, document, cell: standard deviations in bits per byte of a run, of a document under an arm, of both.
    """

    ratio: float = 0.0
    own: float = 0.0
    ranked: float = 0.0
    gain: float = 0.0
    tuned: float = 0.2
    layers_differ: float = 0.0
    run: float = 0.01
    document: float = 0.03
    cell: float = 0.01


@dataclass
class Simulation:
    """A study of one model, drawn from a truth."""

    truth: Truth = field(default_factory=Truth)
    domains: int = 4
    layers: int = 10
    documents: int = 24
    draws: int = 19
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    ranking: tuple[int, ...] = (0, 1)
    random: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.random)
        names = [f"d{i}" for i in range(self.domains)]
        regimes = ["attn", "mlp", "all", "mlp-equal", "all-shuffled", "solo-mlp"]
        regimes += ["top3-mlp", "bottom3-mlp", "spaced3-mlp"]
        controls: list[object] = [{"random3-mlp": {"block": "mlp", "random": 3, "draws": self.draws}}]
        self.study = Study.model_validate(
            {
                "models": {MODEL: "embedded"},
                "domains": {name: {"source": "some.jsonl"} for name in names},
                "regimes": [*regimes, *controls, *(["foreign3-mlp"] if self.domains > 1 else [])],
                "seeds": self.seeds,
                "selection": {"seeds": self.ranking},
                "training": {"steps": 10},
            }
        )

    def frames(self) -> Frames:
        """Everything the report is made from."""
        norms = self._norms()
        documents = self._documents(norms)
        return Frames(
            norms=norms,
            evaluation=evaluation_table(documents.assign(trainable_parameters=1)),
            ranking=rank(norms, self.study.selection),
            losses=empty(LOSSES),
            documents=documents[list(DOCUMENTS.names)],
            sizes=pd.DataFrame(
                [
                    (MODEL, b, n, c, WIDTH, WIDTH)
                    for b, names in NAMES.items()
                    for n in range(self.layers)
                    for c in names
                ],
                columns=list(SIZES.names),
            ),
        )

    def _norms(self) -> pd.DataFrame:
        """Norms of `all` and of `all-shuffled`, whose map is the same but for noise."""
        profile = {b: self._profile() for b in NAMES}
        start = self.rng.normal(0, 0.05, (len(self.seeds), 2, self.layers))
        rows = []
        for domain in self.study.domains:
            shift = self.rng.normal(0, 0.2)
            own = {b: self.rng.normal(0, 1.0, self.layers) * self.truth.own for b in NAMES}
            for k, seed in enumerate(self.seeds):
                run = shift + self.rng.normal(0, 0.05)
                for i, (block, names) in enumerate(NAMES.items()):
                    tilt = (0.5 if block == "mlp" else -0.5) * self.truth.ratio + self.rng.normal(0, 0.05)
                    noise = self.rng.normal(0, 0.05, self.layers)
                    s = np.exp(profile[block] + own[block] + run + start[k, i] + tilt + noise)
                    for n, c in product(range(self.layers), names):
                        measures = (s[n], s[n], s[n] / WIDTH, 1.0, 1.0, 1.0)
                        rows.append((MODEL, domain, "all", seed, 10, n, block, c, *measures))
        own_text = pd.DataFrame(rows, columns=list(NORMS.names))
        scale = np.exp(self.rng.normal(0, 0.05, len(own_text)))
        shuffled = own_text.assign(regime="all-shuffled", frobenius=own_text["frobenius"] * scale)
        return pd.concat([own_text, shuffled], ignore_index=True)

    def _profile(self) -> np.ndarray:
        """The generic profile of a block's log S over layers; S sums to the same in both blocks."""
        log_s = self.rng.normal(0, 0.3, self.layers)
        return np.asarray(log_s - np.log(np.exp(log_s).mean()))

    def _arms(self, domain: str) -> dict[str, tuple[tuple[int, ...], str]]:
        """Every scored run of a domain: its seeds, and the set of layers it tunes; all for whole blocks."""
        late = self.study.validation_seeds
        sets = {name: name for name in ("bottom3-mlp", "spaced3-mlp")}
        sets |= {name: name for name in (f"random3-mlp.{i:02d}" for i in range(1, self.draws + 1))}
        sets |= {name: name for name in (f"solo-mlp.{n:02d}" for n in range(self.layers))}
        sets |= {f"foreign3-mlp.{other}": f"top of {other}" for other in self.study.domains if other != domain}
        sets["top3-mlp"] = f"top of {domain}"
        whole = dict.fromkeys(("attn", "mlp", "all", "mlp-equal"), (self.seeds, ""))
        return whole | {name: (late, layers) for name, layers in sets.items()}

    def _documents(self, norms: pd.DataFrame) -> pd.DataFrame:
        t, parts = self.truth, []
        everywhere = {"": 0.0}
        for domain in self.study.domains:
            sizes = self.rng.integers(300, 900, self.documents)
            base = self.rng.normal(2.0, 0.3, self.documents)
            own = norms[(norms["domain"] == domain) & (norms["regime"] == "all") & (norms["block"] == "mlp")]
            logs = np.log(own.groupby("layer")["frobenius"].mean().to_numpy())
            parts.append(self._scored(domain, "pt", 0, base, sizes))
            for arm, (seeds, layers) in self._arms(domain).items():
                if layers not in everywhere:
                    everywhere[layers] = self.rng.normal(0, t.layers_differ)
                effect = -t.tuned + everywhere[layers] + (self.rng.normal(0, t.layers_differ) if layers else 0.0)
                effect -= t.ranked * (arm == "top3-mlp")
                if arm.startswith("solo"):
                    effect -= t.gain * (logs[int(arm[-2:])] - logs.mean()) / logs.std()
                kept = self.rng.normal(0, t.document, self.documents)
                for seed in seeds:
                    noise = self.rng.normal(0, t.run) + self.rng.normal(0, t.cell, self.documents)
                    parts.append(self._scored(domain, arm, seed, base + effect + kept + noise, sizes))
        return pd.concat(parts, ignore_index=True)

    def _scored(self, domain: str, regime: str, seed: int, bits: np.ndarray, sizes: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "model": MODEL,
                "domain": domain,
                "regime": regime,
                "seed": seed,
                "eval_domain": domain,
                "document": [f"{domain}:{i}" for i in range(self.documents)],
                "tokens": sizes // 3,
                "bytes": sizes,
                "nll": bits * sizes * math.log(2),
            }
        )
