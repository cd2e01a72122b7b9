"""Put LDC's questions to the figures its method was published with: size null, direction, controls. No model is needed.

Run as `python examples/origin_audit/audit.py [--markdown FILE]`.
"""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ldc.errors import DataError, LdcError
from ldc.models.known import KNOWN
from ldc.models.roles import Component
from ldc.models.shapes import shape_of
from ldc.report.facts import listed
from ldc.report.markdown import grid

DATA = Path(__file__).resolve().parent / "data"
HUB_IDS = {
    "Llama 3.2 3B": "meta-llama/Llama-3.2-3B",
    "Llama 3.2 1B": "meta-llama/Llama-3.2-1B",
    "Gemma 3 4B": "google/gemma-3-4b-pt",
    "Gemma 3 1B": "google/gemma-3-1b-pt",
}
NORM_COLUMNS = ["model", "domain", "block", "full_run", "ensemble", "top_solo"]
ARMS = {
    "mlp": "MLP",
    "attn": "Attn",
    "both": "All",
    "top1_mlp": "Top-1 MLP",
    "top1_attn": "Top-1 Attn",
    "top3_mlp": "Top-3 MLP",
    "top3_attn": "Top-3 Attn",
}
TARGETED = [arm for arm in ARMS if arm.startswith("top")]
WIDTH, DOCUMENT_WIDTH = 80, 120


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs parted by empty lines, and a table that stands after the first of them."""

    title: str
    text: str
    header: list[str]
    rows: list[list[str]]
    words: int = 1
    """How many columns, from the left, hold words."""


def read(folder: Path = DATA) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The published norms, and the published scores with the domain as index.

    Raises:
        DataError: a file is absent, or lacks columns or models that the audit needs.
    """
    norms = _table(folder / "published_norms.csv", NORM_COLUMNS)
    unknown = sorted(set(norms["model"]) - set(HUB_IDS))
    if unknown:
        raise DataError(f"{folder / 'published_norms.csv'}: no shapes of {', '.join(unknown)}; add them to HUB_IDS")
    scores = _table(folder / "published_validation_llama-3.2-3b.csv", ["domain", "pt", *ARMS])
    return norms, scores.set_index("domain")


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: not found; it comes with the repository, beside this script")
    table = pd.read_csv(path)
    absent = [c for c in columns if c not in table.columns]
    if absent:
        raise DataError(f"{path}: lacks the columns {', '.join(absent)}; see data/README.md")
    return table[columns]


def block_ratio(components: Sequence[Component], size: Callable[[Component], float], mean: bool = False) -> float:
    """MLP over attention of a component's `size`, summed over the components of the blocks, or averaged over them."""
    parts = {b: [size(c) for c in components if c.block == b] for b in ("mlp", "attn")}
    ratio = sum(parts["mlp"]) / sum(parts["attn"])
    return ratio * len(parts["attn"]) / len(parts["mlp"]) if mean else ratio


def size_nulls(norms: pd.DataFrame) -> pd.DataFrame:
    """A row for each model: published MLP / attention over domains, and what the matrices' sizes alone give.

    Columns: mean, low, high of the full run's ratio over domains; `one` and `both`, the null if only B moves (norm
    proportional to sqrt(d_out)) or both factors do (sqrt(d_in d_out)); `component`, `both` for a mean over
    components in place of the sum; `under_one`, `under_both`, how many of `cells` are no larger than these.
    """
    wide = norms.pivot(index=["model", "domain"], columns="block", values="full_run")
    ratios = wide["mlp"] / wide["attn"]
    rows = []
    for model, hub_id in HUB_IDS.items():
        if model not in ratios.index.get_level_values("model"):
            continue
        components, published = shape_of(KNOWN[hub_id], hub_id).components, ratios.loc[model]
        one = block_ratio(components, lambda c: math.sqrt(c.d_out))
        both = block_ratio(components, lambda c: math.sqrt(c.d_in * c.d_out))
        rows.append(
            {
                "model": model,
                "mean": published.mean(),
                "low": published.min(),
                "high": published.max(),
                "one": one,
                "both": both,
                "component": block_ratio(components, lambda c: math.sqrt(c.d_in * c.d_out), mean=True),
                "under_one": int((published <= one).sum()),
                "under_both": int((published <= both).sum()),
                "cells": len(published),
            }
        )
    return pd.DataFrame(rows)


def sign_test(above: int, below: int) -> float:
    """Two-sided p of so uneven a split, were either side as likely; ties are left out by the caller. Exact binomial."""
    n = above + below
    tail = sum(math.comb(n, k) for k in range(min(above, below) + 1)) / 2**n
    return min(1.0, 2 * tail)


def directions(scores: pd.DataFrame) -> pd.DataFrame:
    """A row for each run: in how many domains its score is above, at and below PT's and the full run's (`both`)."""
    rows = []
    for arm in ARMS:
        counts = {
            f"{side}_{than}": int(getattr(scores[arm], how)(scores[than]).sum())
            for than in ("pt", "both")
            for side, how in (("above", "gt"), ("equal", "eq"), ("below", "lt"))
        }
        rows.append({"arm": arm, **counts})
    return pd.DataFrame(rows)


def matched(scores: pd.DataFrame, larger_is_better: bool) -> tuple[list[str], list[str]]:
    """Domains in which full tuning beats PT, and those of them in which some targeted run is no worse than it."""
    better = scores if larger_is_better else -scores
    helped = better[better["both"] > better["pt"]]
    targeted = helped[TARGETED].max(axis=1)
    return [str(d) for d in helped.index], [str(d) for d in helped.index[targeted >= helped["both"]]]


def _ordered(norms: pd.DataFrame) -> pd.Series:
    return (norms["top_solo"] > norms["ensemble"]) & (norms["ensemble"] > norms["full_run"])


def concentration(norms: pd.DataFrame) -> pd.DataFrame:
    """A row for each model and block: mean solo / full and ensemble / full; domains with solo > ensemble > full."""
    table = norms.assign(
        solo=norms["top_solo"] / norms["full_run"],
        few=norms["ensemble"] / norms["full_run"],
        ordered=_ordered(norms),
    )
    grouped = table.groupby(["model", "block"], sort=False)
    return grouped.agg(
        few=("few", "mean"), solo=("solo", "mean"), ordered=("ordered", "sum"), cells=("ordered", "size")
    ).reset_index()


def parameter_shares() -> dict[str, float]:
    """Trainable parameters of each run on Llama 3.2 3B over those of `both`, at one rank for all of them."""
    hub_id = HUB_IDS["Llama 3.2 3B"]
    shape = shape_of(KNOWN[hub_id], hub_id)
    whole = shape.lora_parameters()
    shares = {"both": 1.0}
    for block in ("mlp", "attn"):
        shares[block] = shape.lora_parameters(block) / whole
        shares |= {f"top{k}_{block}": shares[block] * k / shape.layers for k in (1, 3)}
    return shares


def _size_section(norms: pd.DataFrame) -> Section:
    nulls = size_nulls(norms)
    cells, one, both = (int(nulls[c].sum()) for c in ("cells", "under_one", "under_both"))
    return Section(
        "1. Size: do the shapes of the matrices alone explain the norms?",
        f"""
        Published: "the optimizer dedicates the vast majority of its updates to the MLP layers". The norm of a larger
        matrix is larger when each of its elements moves by the same amount. Below, MLP over attention: the published
        full-run norms of the top-3 layers (mean and range over the six domains), and the ratio that the shapes alone
        give, summed over a block's components as S_block is, if both LoRA factors move (sqrt(d_in d_out)), or only B
        does (sqrt(d_out)); last, the first of these for a mean over components in place of the sum.

        {both} of {cells} model x domain cells are at or below the null in which both factors move, {one} of {cells} at
        or below the one in which only B does. Relative to its size, then, attention moved as much as the MLP or more in
        most cells. The published figures do not show a preference for the MLP beyond the size of its matrices. They do
        not exclude one either: they are of layers picked for their own norm, and one number for a block.
        """,
        ["model", "published", "both move", "B moves", "component mean"],
        [
            [r.model, f"{r.mean:.2f} ({r.low:.2f}-{r.high:.2f})", *(f"{v:.2f}" for v in (r.both, r.one, r.component))]
            for r in nulls.itertuples()
        ],
    )


def _split(counts: pd.Series, than: str) -> str:
    return " / ".join(str(counts[f"{side}_{than}"]) for side in ("above", "equal", "below"))


def _direction_rows(table: pd.DataFrame) -> list[list[str]]:
    rows = []
    for arm, name in ARMS.items():
        counts = table.loc[arm]
        rows.append([name, _split(counts, "pt"), "", ""])
        if arm != "both":
            p = sign_test(int(counts["above_both"]), int(counts["below_both"]))
            rows[-1][2:] = [_split(counts, "both"), f"{p:.2f}"]
    return rows


def _share(domains: tuple[list[str], list[str]]) -> str:
    whole, part = domains
    return f"{len(part)} of {len(whole)}" + (f" ({', '.join(part)})" if part else "")


def _direction_section(scores: pd.DataFrame) -> Section:
    table, n = directions(scores).set_index("arm"), len(scores)
    targeted = scores[TARGETED].max(axis=1)
    largest, under_pt = int((targeted == scores[list(ARMS)].max(axis=1)).sum()), int((targeted < scores["pt"]).sum())
    worse = table.loc["both", "below_pt"]
    return Section(
        "2. Direction: is a larger score better?",
        f"""
        Published for Llama 3.2 3B: "domain-specific perplexity (normalized between 0 and 1)", with the best cell of
        each row in bold. Neither the normalisation nor its direction is given; it is no scaling to the least and
        greatest of a row or of the table. Below, in how many of {n} domains a run's score is above / equal to / below
        that of the pre-trained model (PT) and that of full tuning (All), and the sign test's two-sided p for the
        latter.

        If larger is better (the bold cell is the largest of the adapted ones in {largest} of {n} rows), tuning the full
        model made {worse} of {n} domains worse than no tuning, and in {under_pt} the best targeted run is still worse
        than none. Then targeted runs beat the full run mostly by doing less harm, and the full run's rate, length or
        text needs a look first.

        If smaller is better, as of a perplexity, full tuning helps in {worse} of {n} domains, and the bold cell is the
        worst of the adapted ones in {largest} of {n}.

        The published sentence is that targeted tuning is often "comparable" to full tuning, or exceeds it. Of the
        domains in which full tuning helps at all, some targeted run does as well in {_share(matched(scores, True))} if
        larger is better, and in {_share(matched(scores, False))} if smaller is. With {n} domains and no interval, the
        least p that a sign test can reach is {sign_test(n, 0):.2f}.
        """,
        ["run", "against PT", "against All", "p"],
        _direction_rows(table),
    )


def _concentration_section(norms: pd.DataFrame) -> Section:
    table = concentration(norms)
    ordered, cells = (table.groupby("block")[c].sum() for c in ("ordered", "cells"))
    unlike = norms[~_ordered(norms)]
    places = listed(f"{d} of {m}" for m, d in unlike[["model", "domain"]].drop_duplicates().itertuples(index=False))
    return Section(
        "3. Concentration: do larger norms of the chosen layers mean that they matter?",
        f"""
        Published: "targeted adaptation often elicits an even stronger response from these key layers". Below, the means
        over domains of ensemble / full and solo / full norms, and in how many domains solo > ensemble > full.

        The order holds in {ordered["mlp"]} of {cells["mlp"]} cells of the MLP and {ordered["attn"]} of {cells["attn"]}
        of attention; the others are {places}. It is what one would expect of any layers: fewer adapters carry the same
        loss. Whether the top layers respond more than others takes the same figures for random layers, and these were
        not published.
        """,
        ["model", "block", "ensemble / full", "solo / full", "ordered"],
        [
            [
                r.model,
                {"mlp": "MLP", "attn": "Attn"}[r.block],
                f"{r.few:.2f}",
                f"{r.solo:.2f}",
                f"{r.ordered} of {r.cells}",
            ]
            for r in table.itertuples()
        ],
        words=2,
    )


def _control_section() -> Section:
    shares = parameter_shares()
    return Section(
        "4. Controls: what would each sentence need?",
        f"""
        What the published tables hold beside each sentence, and the comparison that would decide it. In LDC each of
        these is a regime or a command, with seeds and an interval.

        Nor are seeds, learning rate, steps, texts and their splits given there. At one rank the top-3 MLP run trains
        {shares["top3_mlp"]:.1%} of the parameters of All on Llama 3.2 3B, top-1 MLP {shares["top1_mlp"]:.1%},
        attention {shares["attn"]:.1%}: an equal-budget control fixes the count and changes the layers.
        """,
        ["sentence", "published", "what would decide it"],
        [
            ["MLP moves more than attention", "raw norms", "norms over size; equal-budget ranks"],
            ["the top layers matter most", "full tuning", "random, bottom and spaced layers"],
            ["the map predicts the gain", "top 1, top 3", "every layer alone"],
            ["the map belongs to the domain", "six maps", "another domain's layers"],
            ["a layer holds the domain", "norms", "shuffled text; planted locus"],
            ["any of these", "one number", "seeds and intervals"],
        ],
        words=3,
    )


INTRODUCTION = """
    The method that LDC implements was published with tables of norms for four models and of scores for one. This report
    puts to those tables the questions that LDC puts to every study. It recomputes nothing that was measured: it needs
    the published numbers and the shapes of the models, no more. It says what these numbers can carry, not that the
    sentences are wrong.
"""


def sections(norms: pd.DataFrame, scores: pd.DataFrame) -> list[Section]:
    """The four parts of the report."""
    return [_size_section(norms), _direction_section(scores), _concentration_section(norms), _control_section()]


def _paragraphs(text: str, width: int) -> list[str]:
    return [textwrap.fill(" ".join(part.split()), width) for part in text.split("\n\n") if part.strip()]


def plain(parts: Sequence[Section]) -> str:
    """The report for a terminal, no line longer than `WIDTH`."""
    blocks = ["THE ORIGIN'S PUBLISHED FIGURES", *_paragraphs(INTRODUCTION, WIDTH)]
    for part in parts:
        widths = [max(len(row[i]) for row in [part.header, *part.rows]) for i in range(len(part.header))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in [part.header, *part.rows]]
        lines.insert(1, "  ".join("-" * w for w in widths))
        first, *others = _paragraphs(part.text, WIDTH)
        blocks += [f"{part.title}\n{'=' * len(part.title)}", first, "\n".join(lines), *others]
    return "\n\n".join(blocks) + "\n"


def markdown(parts: Sequence[Section]) -> str:
    """The report as Markdown; `docs/results/origin_audit.md` is this."""
    made = """
        Made by `python examples/origin_audit/audit.py --markdown docs/results/origin_audit.md`; source of the figures:
        `examples/origin_audit/data/README.md`.
    """
    blocks = ["# The origin's published figures", *_paragraphs(f"{INTRODUCTION}\n\n{made}", DOCUMENT_WIDTH)]
    for part in parts:
        first, *others = _paragraphs(part.text, DOCUMENT_WIDTH)
        blocks += [f"## {part.title}", first, grid(part.header, part.rows, part.words).rstrip(), *others]
    return "\n\n".join(blocks) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the report here")
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help="where the published tables are")
    given = parser.parse_args(arguments)
    try:
        parts = sections(*read(given.data))
        if given.markdown:
            given.markdown.write_text(markdown(parts), encoding="utf-8")
    except LdcError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    except OSError as error:
        sys.stderr.write(f"error: {given.markdown}: {error.strerror}; choose a file that can be written\n")
        return 4
    sys.stdout.write(plain(parts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
