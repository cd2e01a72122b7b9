"""The tables in Markdown, each headed with its unit and its direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from ldc.report.facts import NOT_IMPROVED, label, listed

MISSING = "missing"

MEASURES: Mapping[str, tuple[str, str]] = {
    "bits_per_byte": ("Bits per byte", "bits per byte of held-out text; lower is better; the primary measure"),
    "recovery": ("Recovery", "share of the gain of `all` over PT, from bits per byte; 0 = as PT, 1 = as good as `all`"),
    "inverse_perplexity": ("Inverse perplexity", "exp(-mean NLL per token), in (0, 1]; higher is better"),
}
"""Title, and unit with direction, of each measure."""


EVIDENCE: Mapping[str, str] = {
    "claims": "the claims: family (primary or secondary), question, sentence, null, effect, interval (null with one "
    "seed), texts that the mean is over, seeds, p, Holm's p over the family, verdict and reason",
    "gate": "gain of the ranked regime over PT on each text, in bits per byte; low, high: over seeds and documents "
    "(over documents alone with fewer than three seeds); gains: the interval lies above 0",
    "regime_gains": "the same of every regime in the validation table, on the validation seeds; a family counts as the "
    "mean of its members; the intervals are not corrected for their number",
    "contrasts": "differences between two regimes in bits per byte, on the validation seeds; positive: left is better; "
    "low, high: over seeds and documents (null with one seed); document_low, document_high: over documents alone; "
    "rank_p: one-sided, from the rank among random draws; p: against the mean of the draws",
    "stability": "Kendall's tau-b of S_block and overlap of the first k layers between seeds; chance: k / layers",
    "excess": "log(S_block / null map); nulls: matrix size (size, size-out), shuffled text, other domains, a reference",
    "soloist": "every layer's block tuned alone: score from the ranking seeds, gain in bits per byte below PT",
    "soloist_summary": "tau-b of score and gain over layers, regret and rank of the layer with the highest score",
    "necessity": "worth of every layer in bits per byte: gain of the layer tuned alone, gain of its adapters of "
    "the full run kept alone, loss of the full run when they are removed; low, high: over seeds and documents",
    "necessity_means": "the means of `necessity` over texts; low, high: over seeds and documents",
    "predictors": "how well measures predict the gain of every layer alone: tau-b, mean over domains, p, Holm's p; "
    "regret and rank by gain of the layer it would choose; measures come from the ranking seeds",
    "decomposition": "shares of layer, domain, interaction and seed in log S_block; a negative estimate counts as 0",
    "proxy": "every component's update under full fine-tuning and LoRA; share_top_<r>: share of S^2 of a full update "
    "that its best rank-r approximation holds",
    "proxy_runs": "bits per byte of held-out text under PT, full fine-tuning and LoRA; loss of the first and last step",
    "proxy_summary": "how far the maps of full fine-tuning (left) and LoRA (right) agree: tau-b of S_block over units, "
    "mean over cells (domain, seed); low, high: over seeds; layers_low, layers_high: over layers; across: "
    "different seeds; ceiling_full, ceiling_lora: a method with itself under another seed; ceiling: their geometric "
    "mean; disattenuated: across / ceiling, with the jackknife interval over seeds (none under three)",
    "map_similarity": "tau-b and Pearson's r of log S_block between domains, over pairs of different seeds; rows with "
    "left = right compare the seeds of one domain",
    "subspaces": "similarity of the updates of two runs of the ranked regime: phi of the output space (write) and of "
    "the input space (read), cosine of the update; random: expected for random directions; low, high: over seeds; null "
    "component: mean over components; null layer: mean over layers; domains: pairs of one seed, which start with one A",
    "planted": "of a calibration: rank of every changed block by every metric, and the block that ranked first; "
    "strength: standard deviations of noise, or optimiser steps of a teacher",
    "planted_summary": "shares of changed blocks that ranked first, or among the first three, mean over seeds, with "
    "intervals over independent cases (blocks, or pairs damaged together), and the mean reciprocal rank; plants: "
    "changed blocks; chance is one of the metrics",
    "planted_confusion": "which half of a layer (attention or MLP) was changed, and which ranked first",
    "planted_nothing": "nothing changed: the largest excess of a block over the median block, in nats",
    "planted_above": "share of changed blocks with a larger excess than any block has where nothing is changed (bound)",
    "planted_power": "cases in which the study's ranking score, mean over ranking seeds, ranks the changed block first "
    "of all blocks, and first of its half; intervals with n = independent, the changed blocks; domain all without a "
    "strength: all of a kind together",
    "leg_truths": "of a calibration with several legs: the block that was taught (of three, the one with the largest "
    "dose), and the block that each measure names; score: the taught block's share of the gain, or the rank "
    "correlation of three doses with three shares; placebo: the lesson's text was shuffled",
    "leg_truth_summary": "how often the taught block is named first, with the exact interval for independent blocks, "
    "and chance",
}
"""What the tables of statistics hold."""


def grid(header: list[str], rows: Iterable[list[str]], left: int = 1) -> str:
    """A Markdown table with padded columns; the first `left` of them are set left, the others right."""
    body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(r[i]) for r in [header, *body]) for i in range(len(header))]
    widths = [max(3, w) for w in widths]
    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [header, rule, *body]
    padded = [
        [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))]
        for line in lines
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)


def seeds_phrase(count: int) -> str:
    """How many seeds a mean is over, in words that do not promise an interval."""
    return "1 seed: no interval" if count == 1 else f"means over {count} seeds"


def _validation_cells(table: pd.DataFrame, scored: pd.DataFrame, synthetic: Iterable[str]) -> list[list[str]]:
    """Four decimals; `missing` where no run is done, `n/a` where a run is done but the measure is undefined."""
    rows = []
    for position, domain in enumerate(table["Domain"]):
        cells = [
            f"{value:.4f}" if not pd.isna(value) else MISSING if pd.isna(known) else "n/a"
            for value, known in zip(table.iloc[position, 1:], scored.iloc[position, 1:])
        ]
        rows.append([label(str(domain), synthetic), *cells])
    return rows


def validation_markdown(
    model: str,
    tables: Mapping[str, pd.DataFrame],
    counts: pd.DataFrame,
    seeds: int,
    undefined: list[str],
    synthetic: Iterable[str],
) -> str:
    """Three blocks: bits per byte, inverse perplexity, recovery.

    Args:
        model: the model's name.
        tables: `validation_table` by measure.
        counts: number of seeds of each cell, domains x column names.
        seeds: seeds the study asks for.
        undefined: domains in which recovery is undefined.
        synthetic: domains of synthetic text.
    """
    parts = [f"# Validation: {model}\n\nScored on held-out text of the domain trained on; {seeds_phrase(seeds)}.\n"]
    for measure in ("bits_per_byte", "inverse_perplexity", "recovery"):
        title, unit = MEASURES[measure]
        table = tables[measure]
        parts.append(f"## {title}\n\nUnit and direction: {unit}.\n")
        parts.append(grid(list(table.columns), _validation_cells(table, tables["bits_per_byte"], synthetic)))
        parts += [f"{label(d, synthetic)}: {NOT_IMPROVED}.\n" for d in undefined if measure == "recovery"]
    if fewer := _fewer(counts, seeds):
        parts.append(
            "Means over fewer seeds than the study has; recovery compares each with PT and `all` on the same seeds:\n\n"
            + "\n".join(fewer)
            + "\n"
        )
    return "\n".join(parts)


def _fewer(counts: pd.DataFrame, seeds: int) -> list[str]:
    """A line for each column and number of seeds below `seeds`, with its domains. PT has no seeds."""
    found: dict[tuple[str, int], list[str]] = {}
    for domain, row in counts.iterrows():
        for column, n in row.items():
            if 0 < n < seeds and column != "PT":
                found.setdefault((str(column), int(n)), []).append(str(domain))
    return [
        f"- {column}: {n} of {seeds} seeds ({'all domains' if len(of) == len(counts) else listed(of)})"
        for (column, n), of in found.items()
    ]


def norm_summary_markdown(model: str, summary: pd.DataFrame, full: str, synthetic: Iterable[str]) -> str:
    """The origin's norm table, with a note on what each mean is over."""
    rows, previous = [], None
    for _, row in summary.iterrows():
        domain = str(row["Domain"])
        numbers = [MISSING if pd.isna(v) else f"{v:.3e}" for v in row.iloc[2:]]
        rows.append(["" if domain == previous else label(domain, synthetic), str(row["Component Group"]), *numbers])
        previous = domain
    note = (
        "S_block: Frobenius norms of the effective update, summed over a block's components; no unit.\n"
        f"Neither high nor low is better. Full run: mean over the top layers in the `{full}` run. Ensemble:\n"
        "mean over the same layers in the `top<k>` run. Solo: the top layer in the `top1` run. Means over\n"
        "seeds. A run with fewer adapters puts the same loss on fewer matrices, so its norms are expected\n"
        "to be larger.\n"
    )
    return f"# Norms of the highest-ranked layers: {model}\n\n{note}\n{grid(list(summary.columns), rows, left=2)}"


def tables_readme() -> str:
    """What each file of the folder holds. A table of statistics is only written if the runs allow it."""
    lines = [
        ("norms.{parquet,csv}", "norms of every component's update, for each run and snapshot step"),
        ("evaluation.{parquet,csv}", "held-out scores of every run; `nll` is the total in nats"),
        ("ranking.{parquet,csv}", "layers by score, rank 1 the highest; null seed: mean over the ranking seeds"),
        ("validation_<model>.csv", "bits per byte (lower is better), mean over seeds; empty where no run is done"),
        ("validation_<model>.md", "the same, with inverse perplexity (higher is better) and recovery (1 = as `all`)"),
        (
            "norm_summary_<model>.{csv,md}",
            "S_block of the highest-ranked layers in full, ensemble and solo runs; no unit",
        ),
    ]
    lines.append(
        ("overlap.{parquet,csv}", "how many test documents the training text contains whole, or shares 13 words with")
    )
    lines.append(
        ("texts.{parquet,csv}", "documents, characters, repeats, tokens and passes of each domain; what is too little")
    )
    lines.append(
        (
            "importance.{parquet,csv}",
            "other measures of each component: output effect; saliency, SNR and norm of the base weights",
        )
    )
    lines.append(
        (
            "rates.{parquet,csv}",
            "with `training.learning_rate: auto`, the rates tried: loss on validation text in nats per token, gain "
            "over the bare model, and which one the study trains with",
        )
    )
    lines += [(f"{name}.{{parquet,csv}}", what) for name, what in EVIDENCE.items()]
    return "# Tables\n\n" + grid(["file", "what it holds"], [[f"`{name}`", what] for name, what in lines], left=2)
