"""The page's view of the evidence: contrasts, every layer alone, known truths. Frames in, records out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

import pandas as pd

from ldc.analysis.predictors import MEASURES
from ldc.analysis.recovery import independent_cases
from ldc.analysis.statistics import wilson
from ldc.analysis.truth_metrics import OVER, needs_original
from ldc.domains.embedded import SYNTHETIC_DOMAINS
from ldc.report import facts, plots
from ldc.report.proof import Proof
from ldc.report.truth_words import label, title_of
from ldc.study.schema import Study

CONTRASTS = {
    "top-random": "top layers vs random layers",
    "top-bottom": "top layers vs the lowest-ranked",
    "top-first": "top layers vs the first",
    "top-last": "top layers vs the last",
    "top-spaced": "top layers vs evenly spaced layers",
    "top-foreign": "top layers vs top layers of other domains",
    "mlp-attn": "MLP vs attention",
    "mlp-attn-equal": "MLP vs attention, equal number of parameters",
}
"""The page's names for the kinds of contrast in the tables."""


def _absent(value: object) -> bool:
    return value is None or bool(pd.isna(value))


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign and a true minus; zero has no sign."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def between(low: object, high: object, level: object = None, digits: int = 3) -> str:
    """`low to high (95 %)`; empty where there is no interval."""
    if _absent(low) or _absent(high):
        return ""
    share = "" if _absent(level) else f" ({100 * float(level):g} %)"  # type: ignore[arg-type]
    return f"{signed(float(low), digits)} to {signed(float(high), digits)}{share}"  # type: ignore[arg-type]


def p_text(value: object) -> str:
    """A p value as text: `0.030`, `0.25`, `< 0.001`; empty if there is none."""
    if _absent(value):
        return ""
    p = float(value)  # type: ignore[arg-type]
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def contrasts(table: pd.DataFrame, model: str, domains: Iterable[str]) -> dict[str, Any] | None:
    """The contrasts of one model, grouped by contrast, on one scale; None if there are none."""
    order = {d: n for n, d in enumerate(domains)}
    rows = table[table["model"] == model]
    if rows.empty:
        return None
    rows = rows.assign(place=rows["domain"].map(order).fillna(len(order)))
    names = list(dict.fromkeys(str(c) for c in rows["contrast"]))
    rows = rows.assign(turn=rows["contrast"].astype(str).map({c: n for n, c in enumerate(names)}))
    rows = rows.sort_values(["turn", "place"], kind="stable").reset_index(drop=True)
    strips, reach = plots.intervals(rows)
    groups: list[dict[str, Any]] = [{"contrast": CONTRASTS.get(c, c), "rows": []} for c in names]
    for r, strip in zip(rows.itertuples(), strips):
        apart = not (_absent(r.low) or _absent(r.high)) and (float(r.low) > 0 or float(r.high) < 0)
        groups[int(r.turn)]["rows"].append(
            {
                "domain": str(r.domain),
                "arms": f"{r.left} vs {r.right}",
                "effect": signed(float(r.effect), 4) if not _absent(r.effect) else "",
                "interval": between(r.low, r.high, digits=4) or "no interval",
                "apart": apart,
                "p": p_text(r.p_adjusted),
                "documents": "" if _absent(r.documents) else f"{int(r.documents)}",
                "seeds": "" if _absent(r.seeds) else f"{int(r.seeds)}",
                "strip": strip,
            }
        )
    levels = sorted({float(v) for v in rows["level"].dropna()})
    return {
        "groups": groups,
        "ends": (signed(-reach, 4), signed(reach, 4)),
        "unit": str(rows["unit"].iloc[0]),
        "level": facts.listed(f"{100 * v:g} %" for v in levels),
    }


def soloist(proof: Proof, model: str, domains: Iterable[str], synthetic: Iterable[str]) -> dict[str, Any] | None:
    """Every layer alone: a scatter for each domain, and how well the score predicts the gain; None without runs."""
    rows = proof.soloist[proof.soloist["model"] == model].dropna(subset=["score", "gain"])
    if rows.empty:
        return None
    order = [d for d in domains if (rows["domain"] == d).any()]
    reach = rows[["gain", "low", "high"]].astype(float)
    gains = (float(reach.min().min()), float(reach.max().max()))
    charts = [plots.scatter(facts.label(d, synthetic), rows[rows["domain"] == d], gains) for d in order]
    summary = proof.soloist_summary[proof.soloist_summary["model"] == model]
    lines = [
        {
            "domain": d,
            "block": facts.BLOCK_WORDS.get(str(r.block), str(r.block)),
            "tau": "" if _absent(r.tau) else signed(float(r.tau), 2),
            "interval": between(r.tau_low, r.tau_high, digits=2) or "no interval",
            "regret": "" if _absent(r.regret) else f"{float(r.regret):.4f}",
            "place": "" if _absent(r.rank_of_top1) else f"{int(r.rank_of_top1)} of {int(r.layers)}",
            "seeds": "" if _absent(r.seeds) else f"{int(r.seeds)}",
        }
        for d in order
        for r in summary[summary["domain"] == d].itertuples()
    ]
    return {"charts": charts, "rows": lines}


def predictors(table: pd.DataFrame, model: str) -> list[dict[str, Any]]:
    """For each block, how well every measure predicts the gain of a layer alone, the best first; empty if no layer was
    tuned alone."""
    rows = table[table["model"] == model].assign(tau=table["tau"].astype(float))
    found = []
    for block, of in rows.groupby("block", sort=False):
        of = of.sort_values("tau", ascending=False, kind="stable", na_position="last")
        found.append(
            {
                "block": facts.BLOCK_WORDS.get(str(block), str(block)),
                "layers": int(of["layers"].max()),
                "rows": [_predictor(r) for r in of.itertuples()],
            }
        )
    return found


def _predictor(row: Any) -> dict[str, str]:
    return {
        "measure": MEASURES.get(str(row.measure), str(row.measure)),
        "tau": "" if _absent(row.tau) else signed(float(row.tau), 2),
        "interval": between(row.tau_low, row.tau_high, digits=2) or "no interval",
        "p": p_text(row.p_adjusted),
        "regret": "" if _absent(row.regret) else f"{float(row.regret):.4f}",
        "place": "" if _absent(row.mean_rank) else f"{float(row.mean_rank):.1f}",
        "domains": f"{int(row.domains)}",
        "seeds": f"{int(row.seeds)}",
    }


def synthetic_texts(study: Study, synthetic: Collection[str]) -> frozenset[str]:
    """The domains of synthetic text that tables of known truths may name: the study's own, and the embedded ones that
    the study does not have, which a calibration has from the package.

    Args:
        study: the study.
        synthetic: its domains of synthetic text. A user's own text under an embedded name is not among them.
    """
    return frozenset(synthetic) | (frozenset(SYNTHETIC_DOMAINS) - frozenset(study.domains))


def _kinds(planted: pd.DataFrame, synthetic: Collection[str]) -> pd.Series:
    """The kind of each row in words: with its text, and with the folder of its calibration where a model has several of
    one kind and text."""
    kind = planted["kind"].astype("str")
    if "domain" in planted:
        domain = planted["domain"].astype("str")
        known = domain.isin(list(synthetic))
        if "synthetic" in planted:
            known = planted["synthetic"].where(planted["synthetic"].notna(), known).astype(bool)
        words = {key: title_of(*key[:2], key[1:2] if key[2] else ()) for key in set(zip(kind, domain, known))}
        kind = pd.Series([words[key] for key in zip(kind, domain, known)], index=planted.index, dtype="str")
    if "folder" not in planted:
        return kind
    folder = planted["folder"].fillna("").astype("str")
    several = folder.groupby([planted["model"].astype("str"), kind]).transform("nunique") > 1
    return kind.where(~several | (folder == ""), kind + ", calibration " + folder)


def recovery(planted: pd.DataFrame, synthetic: Collection[str]) -> pd.DataFrame:
    """Shares of changed blocks found: model, kind, metric, strength, plants, share, low, high, top3, mrr, astray.

    `plants` is the number of independent cases: changed blocks, or pairs damaged together. The seeds of a case are
    averaged first, because they are not independent; the interval is Wilson's over cases. `astray` is the share in
    which a block of the other kind ranked first, NaN if the table does not say which block that was. If the table has a
    domain, it is part of the kind, and so is the calibration's folder if a model has several of one kind.

    Args:
        planted: as `proof.Proof.planted`.
        synthetic: domains of synthetic text.
    """
    named = planted["named_block"] if "named_block" in planted else pd.Series(math.nan, index=planted.index)
    kind = _kinds(planted, synthetic)
    table = planted.assign(
        kind=kind,
        share=planted["hit"].astype(float),
        top3=(planted["rank"] <= 3).astype(float),
        mrr=1 / planted["rank"].astype(float),
        astray=(named != planted["block"]).astype(float).where(named.notna()),
        case=independent_cases(planted if "partner" in planted else planted.assign(partner="")),
    )
    keys, measured = ["model", "kind", "metric", "strength"], ["share", "top3", "mrr", "astray"]
    blocks = table.groupby([*keys, "case"], as_index=False, dropna=False, sort=False)[measured].mean()
    grouped = blocks.groupby(keys, as_index=False, dropna=False, sort=False)
    found = grouped.agg(plants=("share", "size"), **{name: (name, "mean") for name in measured})
    ends = [wilson(float(share), int(n)) for share, n in zip(found["share"], found["plants"])]
    return found.assign(low=[low for low, _ in ends], high=[high for _, high in ends])


def planted(proof: Proof, synthetic: Collection[str]) -> list[dict[str, Any]]:
    """For each model and kind of change: curves over strength, and the table of recovery, the best metric first."""
    ranked = proof.planted.dropna(subset=["rank"])
    if ranked.empty:
        return []
    found = []
    for (model, kind), rows in recovery(ranked, synthetic).groupby(["model", "kind"], sort=False):
        best = rows.groupby("metric", sort=False)["share"].mean().sort_values(ascending=False, kind="stable")
        apart = [str(m) for m in best.index if needs_original(str(m))]
        metrics = [str(m) for m in best.index if str(m) not in apart]
        looks = _looks(metrics)
        names, best_name = [label(m) for m in looks], label(metrics[0])
        shown = rows.dropna(subset=["strength"])
        shown = shown.assign(metric=[label(str(m)) for m in shown["metric"]])
        found.append(
            {
                "model": str(model),
                "kind": str(kind),
                "rows": [_recovered(r) for m in metrics if m in looks for r in _of_metric(rows, m).itertuples()],
                "instrument": [_recovered(r) for m in apart for r in _of_metric(rows, m).itertuples()],
                "more": [_recovered(r) for m in metrics if m not in looks for r in _of_metric(rows, m).itertuples()],
                "drawn": plots.curves(shown, names) if shown["strength"].nunique() > 1 else None,
                "looks": names,
                "places": int(rows["plants"].max()),
                "alt": f"{model}, {kind}: share of blocks ranked first, over strength; best on average: {best_name}.",
                "astray": bool(rows["astray"].notna().any()),
            }
        )
    return found


def _looks(metrics: list[str]) -> list[str]:
    """The metrics shown first: raw S, and the best variant of each measure (such as `s-over-others` of S)."""
    best = {metric.partition(OVER)[0]: metric for metric in reversed(metrics)}
    chosen = [m for m in metrics if best[m.partition(OVER)[0]] == m][:LOOKS]
    if "s" in metrics and "s" not in chosen:
        chosen = [*chosen[: LOOKS - 1], "s"]
    return chosen


def _of_metric(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    return rows[rows["metric"] == metric].sort_values("strength")


def _recovered(row: Any) -> dict[str, str]:
    return {
        "metric": label(str(row.metric)),
        "strength": "" if _absent(row.strength) else f"{float(row.strength):g}",
        "plants": str(row.plants),
        "share": f"{row.share:.2f}",
        "interval": f"{row.low:.2f} to {row.high:.2f}",
        "top3": f"{row.top3:.2f}",
        "mrr": f"{row.mrr:.2f}",
        "astray": "" if _absent(row.astray) else f"{row.astray:.2f}",
    }


LOOKS = 6
"""The largest number of curves in a chart; the table has all metrics."""


def overlap(table: pd.DataFrame, domains: Iterable[str]) -> list[dict[str, Any]]:
    """Counts of test documents that training text contains whole, or shares 13 words with.

    There is a row for every domain with itself, and for each other pair that shares anything.
    """
    order = {name: at for at, name in enumerate(domains)}
    rows = [r for r in table.to_dict("records") if r["train_domain"] in order and r["eval_domain"] in order]
    rows = [r for r in rows if r["train_domain"] == r["eval_domain"] or r["ngram_documents"] or r["exact_documents"]]
    rows.sort(key=lambda r: (r["train_domain"] != r["eval_domain"], order[r["eval_domain"]], order[r["train_domain"]]))
    return [
        {
            "test": r["eval_domain"],
            "train": r["train_domain"],
            "documents": int(r["documents"]),
            "exact": int(r["exact_documents"]),
            "shared": int(r["ngram_documents"]),
        }
        for r in rows
    ]
