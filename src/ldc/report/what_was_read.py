"""What was read of each domain: documents, characters, repeats, tokens and passes, and where it is too little."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ldc.domains.document import SPLITS
from ldc.domains.sufficiency import too_little
from ldc.study.schema import Study

COLUMNS = [
    "domain",
    "read_as",
    *(f"{split}_documents" for split in SPLITS),
    *(f"{split}_characters" for split in SPLITS),
    *(f"{split}_duplicates" for split in SPLITS),
    "left_out",
    "empty",
    "train_tokens",
    "passes",
    "warning",
]

HEADINGS = ("text", "train", "test", "chars", "tokens", "passes", "repeats", "empty", "read as")
"""The columns that people are shown."""


def texts_table(
    study: Study, texts: Mapping[str, Mapping[str, Any]], documents: pd.DataFrame, losses: pd.DataFrame
) -> pd.DataFrame:
    """One row for each domain of the study, in its order, of which a text is recorded.

    Args:
        study: the resolved study.
        texts: what is recorded of each text (`store.domain_file.read_texts`).
        documents: scores of held-out documents (`tables.DOCUMENTS`), from which tokens per byte are taken.
        losses: `tables.LOSSES`, whose last step says how long training was.

    Returns:
        `COLUMNS`. `<split>_duplicates` stay although their split has their text already; `left_out` repeat a document
        of another split; `empty` are records without text. `train_tokens` is an estimate: the training text's bytes
        times the tokens per byte of the scored test documents, of the model with the most tokens. `passes` is the
        tokens trained on over `train_tokens`. Null where the record or the runs do not tell.
    """
    rows = []
    for domain in study.domains:
        text = texts.get(domain)
        if text is None:
            continue
        tokens = _train_tokens(text, documents[documents["eval_domain"] == domain])
        steps = losses.loc[losses["domain"] == domain, "step"].max()
        passes = math.nan if pd.isna(steps) else float(steps) * study.training.tokens_per_step / tokens
        counts = text["documents"]
        rows.append(
            {
                "domain": domain,
                "read_as": ", ".join(text.get("read_as", ())) or _origin(study, domain),
                **{f"{split}_documents": counts[split] for split in SPLITS},
                **{f"{split}_characters": text["characters"][split] for split in SPLITS},
                **{f"{split}_duplicates": text.get("duplicates", {}).get(split) for split in SPLITS},
                "left_out": text.get("left_out"),
                "empty": text.get("empty"),
                "train_tokens": None if math.isnan(tokens) else round(tokens),
                "passes": passes,
                "warning": "; ".join(too_little(counts["train"], counts["test"], passes)),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _origin(study: Study, domain: str) -> str:
    return "embedded" if study.domains[domain].source == "embedded" else ""


def _train_tokens(text: Mapping[str, Any], scored: pd.DataFrame) -> float:
    """The tokens of the training text, estimated; NaN where bytes or scores are not known."""
    if "bytes" not in text or scored.empty:
        return math.nan
    sums = scored.groupby("model")[["tokens", "bytes"]].sum()
    return float(text["bytes"]["train"] * (sums["tokens"] / sums["bytes"]).max()) or math.nan


def print_texts(console: Console, table: pd.DataFrame) -> None:
    """Print one line for each domain, and the warnings below; nothing for an empty table."""
    if table.empty:
        return
    rows = [_row(row) for row in table.to_dict("records")]
    widths = [max(len(name), *(len(row[at]) for row in rows)) for at, name in enumerate(HEADINGS)]
    room = max(len(HEADINGS[-1]), console.width - sum(width + 2 for width in widths[:-1]) - 4)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for at, (name, width) in enumerate(zip(HEADINGS, widths)):
        last = at == len(HEADINGS) - 1
        shown.add_column(
            name,
            justify="left" if at == 0 or last else "right",
            no_wrap=True,
            min_width=min(width, room),
            max_width=room,
        )
    for row in rows:
        shown.add_row(*row[:-1], row[-1] if len(row[-1]) <= room else f"{row[-1][: room - 1]}~")
    console.print()
    console.print(Text("Text: documents for training and test; characters, tokens and passes of training", style="dim"))
    console.print(Padding(shown, (0, 0, 0, 2), expand=False), highlight=False)
    for sentence in told(table):
        console.print(Padding(Text(sentence, style="yellow"), (0, 0, 0, 2)))


def told(table: pd.DataFrame) -> list[str]:
    """A sentence for each domain of which too little was read."""
    return [f"{row['domain']}: {row['warning']}" for row in table.to_dict("records") if row["warning"]]


def cells(table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each domain its cells as text, by the heading of their column; as the terminal shows them."""
    return [
        {"domain": row["domain"], "cells": dict(zip(HEADINGS[1:], _row(row)[1:]))} for row in table.to_dict("records")
    ]


def _row(row: Mapping[Any, Any]) -> list[str]:
    """The cells of one domain."""
    repeats = [row[f"{split}_duplicates"] for split in SPLITS] + [row["left_out"]]
    return [
        str(row["domain"]),
        *map(_count, (row["train_documents"], row["test_documents"], row["train_characters"])),
        _count(row["train_tokens"], about=True),
        "" if pd.isna(row["passes"]) else f"{row['passes']:.2g}",
        "" if any(map(pd.isna, repeats)) else _count(sum(repeats)),
        _count(row["empty"]),
        str(row["read_as"]),
    ]


def _count(value: Any, about: bool = False) -> str:
    """A whole number in full up to 99,999, then in thousands or millions; nothing for null."""
    if value is None or pd.isna(value):
        return ""
    number = int(value)
    if number < 100_000:
        return f"{'~' * about}{number:,}"
    return f"{'~' * about}{number / 1e6:.3g}M" if number >= 1_000_000 else f"{'~' * about}{number / 1e3:.0f}k"
