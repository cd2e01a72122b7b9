"""Full fine-tuning and LoRA in sentences and small tables, for the summary, the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ldc.analysis.lora_and_full import FULL, PT
from ldc.report.facts import label, listed
from ldc.study.schema import Study

Record = Mapping[str, Any]
BLOCKS = {"attn": "attention, over its layers", "mlp": "MLP, over its layers", "both": "all blocks of both kinds"}
KEY = (
    "tau: Kendall's tau-b of S_block, full fine-tuning and LoRA on the same text,\n"
    "  mean over cells (domain, seed), with its 95 % interval over seeds.\n"
    "other: tau of two runs with different seeds. f-f, L-L: full fine-tuning, or\n"
    "  LoRA, with itself under another seed. The root of their product is the\n"
    "  ceiling of other; alike is other / ceiling: 1 if only noise sets them apart.\n"
    "top-1, top-3: the same first layer; share of the first three in common.\n"
    "in rank: share of S^2 of the full update that its best approximation of this\n"
    "  rank holds. S: sum of S_block of LoRA divided by that of full fine-tuning."
)
CLOSE = 0.5
"""Two maps are called alike but for noise only if the interval of `disattenuated` includes 1 and nothing below this."""
BITS = "held-out bits per byte, lower is better; PT: the bare model, r4: LoRA of rank 4"


def proxy_summary(study: Study, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    """The part of `summary.json` on full fine-tuning and LoRA; None if no compared run is done.

    Returns:
        The `settings` that both share, `learning_rates` of the regimes; `summary` and `runs`, the rows of the tables.
    """
    if tables["proxy_runs"].empty:
        return None
    names = dict.fromkeys(tables["proxy_runs"]["regime"])
    rate = study.training.learning_rate
    rates = {name: study.regimes[name].learning_rate or rate for name in names if name != PT}
    parts = ("training", "adapter", "evaluation")
    return {
        "settings": {part: getattr(study, part).model_dump(mode="json") for part in parts},
        "learning_rates": rates,
        "summary": plain_records(tables["proxy_summary"]),
        "runs": plain_records(tables["proxy_runs"]),
    }


def plain_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain JSON, null where a value is missing."""
    rows: list[dict[str, Any]] = frame.astype(object).to_dict(orient="records")
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def agreement_tables(rows: Sequence[Record], model: str) -> list[tuple[str, list[dict[str, object]]]]:
    """(title, a row for each LoRA regime) of each full regime and block of a model.

    Args:
        rows: `summary` of `proxy_summary`.
    """
    found = []
    for full, block, own in _tables(rows, model):
        first = own[0]
        chance = f"by chance {first['chance_top1']:.2f}, {first['chance_top3']:.2f}"
        title = (
            f"{_of(full, rows)}{BLOCKS[block]}: {first['units']} units, {first['cells']} cells; top-1, top-3 {chance}"
        )
        if block == "both":
            title += f"\n  tau from the sizes of attention and MLP alone {first['tau_by_kind']:.2f}"
        found.append((title, [_agreement(row, name) for row, name in zip(own, _names(own))]))
    return found


def bits_table(runs: Sequence[Record], model: str, synthetic: Sequence[str]) -> list[dict[str, object]]:
    """Held-out bits per byte of each domain: PT, full fine-tuning, LoRA of each rank; means over seeds.

    Args:
        runs: `runs` of `proxy_summary`.
    """
    own = [run for run in runs if run["model"] == model]
    columns = list(dict.fromkeys((run["regime"], _column(run, own)) for run in own))
    found: list[dict[str, object]] = []
    for domain in dict.fromkeys(run["domain"] for run in own):
        row: dict[str, object] = {"domain": label(domain, synthetic)}
        for regime, name in columns:
            bits = [r["bits_per_byte"] for r in own if (r["domain"], r["regime"]) == (domain, regime)]
            row[name] = f"{sum(bits) / len(bits):.3f}" if bits else None
        found.append(row)
    return found


def page_view(table: pd.DataFrame, model: str, ranked: str) -> dict[str, Any] | None:
    """The page's part for one model; None if nothing is compared.

    Args:
        table: `proxy_summary`, as the analysis gives it.
        ranked: the study's ranked regime; the sentences are about it if it is among the LoRA regimes.

    Returns:
        `sentences`, one for each block, and `tables`, each with title, chance and rows.
    """
    rows = plain_records(table)
    sentences, tables = [], []
    for full, block, own in _tables(rows, model):
        spoken = next((row for row in own if row["right"] == ranked), own[-1])
        sentences.append(_sentence(spoken, block, _of(full, rows)))
        tables.append(
            {
                "title": _of(full, rows) + BLOCKS[block][0].upper() + BLOCKS[block][1:],
                "units": f"{own[0]['units']} units, {own[0]['cells']} cells",
                "chance": f"{own[0]['chance_top1']:.2f}, {own[0]['chance_top3']:.2f}",
                "kinds": _two(own[0]["tau_by_kind"]) if block == "both" else "",
                "rows": [_page_row(row, name) for row, name in zip(own, _names(own))],
            }
        )
    return {"sentences": sentences, "tables": tables} if tables else None


def _tables(rows: Sequence[Record], model: str) -> list[tuple[str, str, list[Record]]]:
    """(full regime, block, rows by rank), for all domains together or for the only one."""
    own = [row for row in rows if row["model"] == model]
    found = []
    for full in dict.fromkeys(row["left"] for row in own):
        of_full = [row for row in own if row["left"] == full]
        for block in BLOCKS:
            chosen = [row for row in of_full if row["block"] == block and row["domain"] == of_full[0]["domain"]]
            if chosen:
                found.append((full, block, chosen))
    return found


def _of(full: str, rows: Sequence[Record]) -> str:
    """The full regime's name if there are several, else nothing."""
    return f"{full}: " if len({row["left"] for row in rows}) > 1 else ""


def _names(rows: Sequence[Record]) -> list[str]:
    """The ranks; with the regime's name if two regimes have the same rank."""
    ranks = [row["rank"] for row in rows]
    return [f"{r['rank']} {r['right']}" if ranks.count(r["rank"]) > 1 else f"{r['rank']}" for r in rows]


def _column(run: Record, runs: Sequence[Record]) -> str:
    if run["method"] == PT:
        return "PT"
    same = {other["regime"] for other in runs if (other["method"], other["rank"]) == (run["method"], run["rank"])}
    short = "full" if run["method"] == FULL else f"r{run['rank']}"
    return short if len(same) == 1 else str(run["regime"])


def _agreement(row: Record, name: str) -> dict[str, object]:
    low, high = row["low"], row["high"]
    return {
        "rank": name,
        "tau": _two(row["tau"]),
        "95 %": "-" if low is None else f"{low:.2f}..{high:.2f}",
        "other": _two(row["tau_across"]),
        "f-f": _two(row["tau_ceiling_full"]),
        "L-L": _two(row["tau_ceiling_lora"]),
        "alike": _two(row["disattenuated"]),
        "top-1": _two(row["top1"]),
        "top-3": _two(row["top3"]),
        "in rank": _two(row["share_top_rank"]),
        "S": _two(row["s_ratio"]),
    }


def _page_row(row: Record, name: str) -> dict[str, str]:
    """One row of the page's table, with the intervals over seeds and over layers."""
    parts = [_between(row, "low", "high", "seeds"), _between(row, "layers_low", "layers_high", "layers")]
    return {
        "rank": name,
        "tau": _two(row["tau"]),
        "small": "; ".join(part for part in parts if part),
        "other": _two(row["tau_across"]),
        "full": _two(row["tau_ceiling_full"]),
        "lora": _two(row["tau_ceiling_lora"]),
        "ceiling": _two(row["ceiling"]),
        "alike": _two(row["disattenuated"]),
        "alike_small": _between(row, "disattenuated_low", "disattenuated_high", "seeds"),
        "top": f"{_two(row['top1'])}, {_two(row['top3'])}",
        "held": _two(row["share_top_rank"]),
        "size": _two(row["s_ratio"]),
    }


def _sentence(row: Record, block: str, of: str) -> str:
    """How far the two agree on one block, and the ceiling to compare it with, if known."""
    what = {"attn": "Over the attention layers", "mlp": "Over the MLP layers", "both": "Over all blocks"}[block]
    said = (
        f"{of}{what}, the maps of rank-{row['rank']} LoRA and full fine-tuning agree with a tau of {_two(row['tau'])}"
    )
    over = [_between(row, "low", "high", "seeds"), _between(row, "layers_low", "layers_high", "layers")]
    if any(over):
        said += f" ({'; '.join(part for part in over if part)})"
    if row["tau_across"] is None:
        return f"{said}. With one seed there is no ceiling to compare it with."
    own = {"full fine-tuning": row["tau_ceiling_full"], "LoRA": row["tau_ceiling_lora"]}
    repeats = listed(f"{name} has {_two(value)} with itself" for name, value in own.items())
    return f"{said}. With different seeds tau is {_two(row['tau_across'])}; {repeats}. {noise_sentence(row)}"


def noise_sentence(row: Record) -> str:
    """What is left of the disagreement of two maps when the noise of both is taken into account.

    Args:
        row: of `proxy_summary`, with several seeds.
    """
    value, low, high = (row[name] for name in ("disattenuated", "disattenuated_low", "disattenuated_high"))
    if value is None:
        return "One of the two does not repeat at all, so the agreement cannot be corrected for noise."
    said = f"Their noise sets a ceiling of {_two(row['ceiling'])}, and tau is {_two(value)} of it"
    if low is None or high is None:
        return f"{said}; fewer than three seeds give no interval, so it is open whether LoRA is noisier or different."
    said += f" ({_between(row, 'disattenuated_low', 'disattenuated_high', 'seeds')})"
    if high < 1:
        return f"{said}: the maps differ by more than noise."
    if low > 1:
        return f"{said}: the two agree better than they repeat, so the correction does not hold here."
    if low < CLOSE:
        return f"{said}: the interval is too wide to tell noise from a difference."
    if row["tau_ceiling_lora"] < row["tau_ceiling_full"]:
        return f"{said}: LoRA is noisier, not different, as far as these seeds tell."
    return f"{said}: no difference beyond noise, as far as these seeds tell."


def _between(row: Record, low: str, high: str, over: str) -> str:
    return (
        ""
        if row[low] is None or row[high] is None
        else f"{row[low]:.2f} to {row[high]:.2f} over {over}".replace("-", "−")
    )


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else float(value)
    return value.item() if isinstance(value, np.generic) else value
