"""A calibration's findings on standard output, from the `summary.json` of its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from ldc import console

WIDTH = 80


def known_truths(out: Path) -> dict[str, Any]:
    """What the summary of a folder says about known truths, model by model."""
    return dict(json.loads((out / "summary.json").read_text(encoding="utf-8"))["calibration"])


def put_known_truths(out: Path) -> None:
    """Print the shares found, the halves that raw S named, what stands out in unchanged models, the test of the
    instrument, file paths, and at the end the power of each model's study in one sentence."""
    from ldc.report.truth_words import power_sentence

    sections = known_truths(out)
    for model, section in sections.items():
        if len(sections) > 1:
            console.put(f"{model}\n")
        _put_section(section)
    files = {"page": "report.html", "table": "tables/planted.csv", "json": "summary.json"}
    for model in sections:
        files |= {f"figure of {model}" if len(sections) > 1 else "figure": f"figures/fig_planted_{model}.png"}
        files |= {f"references of {model}" if len(sections) > 1 else "against": f"figures/fig_references_{model}.png"}
    for name, path in files.items():
        if (out / path).exists():
            console.put(f"{name:<8} {out / path}")
    for model, section in sections.items():
        if sentence := power_sentence(section):
            _put_sentence(f"{model}: {sentence}" if len(sections) > 1 else sentence)


def _put_section(section: Mapping[str, Any]) -> None:
    from ldc.report.truth_text import INSTRUMENT, confusion_tables, instrument_tables, recovery_tables, text_sentences
    from ldc.report.truth_words import leg_sentences, nothing_sentences

    for title, rows, sentence in recovery_tables(section):
        console.put(title)
        console.put_table(rows)
        console.put(f"{sentence}\n")
    for title, rows in confusion_tables(section):
        console.put(title)
        console.put_table(rows)
        console.put("")
    for sentence in nothing_sentences(section["nothing"]):
        console.put(sentence)
    for place, (title, rows) in enumerate(instrument_tables(section)):
        console.put(title if place else f"{INSTRUMENT}\n{title}")
        console.put_table(rows)
        console.put("")
    for sentence in leg_sentences(section["legs"]):
        _put_sentence(sentence)
    for sentence in text_sentences(section):
        _put_sentence(sentence)


def _put_sentence(sentence: str) -> None:
    console.put(fill(sentence, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
