"""`cpu.md`: the rows as a table, plots beside them, and every setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.rows import Row, read

WHAT = {
    "stage1-U": "stage 1, 18 runs, against TRL's SFTTrainer with PEFT",
    "stage1-trainer": "the same, against transformers' Trainer with PEFT",
    "stage1-T": "the same, against T",
    "stage1-d1024-T": "stage 1 where products dominate (d = 1024), against T",
    "real-stage1-U": "stage 1 on SmolLM2-135M, 18 runs, against what a user types (TRL if it is installed)",
    "real-stage1-T": "the same, against T",
    "real-stage2-T": "top-k and every layer alone on SmolLM2-135M, against T",
    "busy": "a step of 18 runs beside one busy process: quiet over busy",
    "gemm-share": "share of the measured sgemm ceiling, d = 256",
    "stage2-flop-share": "stage 2, share of the FLOP ratio, against T",
    "norms": "all S of 18 runs, Llama 3.2 1B shapes, against dense B A",
    "head-memory-128k": "peak memory of the head, vocabulary 128,256, against full logits",
    "head-memory-262k": "peak memory of the head, vocabulary 262,144, against full logits",
    "growth": "cost of a run at the worst bank size, against K = 18",
    "overhead-d128": "the frozen model's own passes against a bank's, 18 runs over all projections, d = 128",
    "overhead-d1024": "the same, d = 1024, 6 runs",
    "ablation-trunk": "all 2 L blocks ablated over the shared trunk, share of the FLOP ratio, against hooks",
    "ablation-peer": "the same work, against nnsight",
    "demo-seconds": "the demo after installation, against 4 minutes",
}


def write(folder: Path) -> None:
    """Draw the plots and write the page from what `folder` holds."""
    rows = read(folder / "cpu.json")
    path = folder / "cpu-record.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    curves = record.get("curves", {})
    drawn = plots.draw(folder, rows, curves)
    parts = [
        _head(record),
        _table(rows),
        *(f"![{alt}]({name})" for name, alt in drawn),
        _crossover(curves),
        _settings(rows),
    ]
    (folder / "cpu.md").write_text("\n\n".join(part for part in parts if part) + "\n")


def _head(record: dict[str, Any]) -> str:
    facts = record.get("machine", {})
    versions = ", ".join(f"{k} {v}" for k, v in facts.get("versions", {}).items() if v)
    flags = ", ".join(f"{k} {'yes' if v else 'no'}" for k, v in facts.get("flags", {}).items())
    took = sum(record.get("wall_seconds", {}).values()) / 60
    return f"""# Benchmarks on a CPU

Written by `make bench`; one row alone: `python -m benchmarks stage1-T`. Numbers: [cpu.json](cpu.json); machine and
curves: [cpu-record.json](cpu-record.json). These rows took {took:.0f} minutes.

Machine of the last measurement ({facts.get("date")}): {facts.get("cpu")}, family/model {facts.get("cpu_family_model")};
{facts.get("cores")} cores, {facts.get("threads")} threads, {facts.get("memory_gb")} GB; {flags}; load average at the
start {facts.get("load_average_at_start")}; {facts.get("blas")}; Python {facts.get("python")}; {versions}.

All arms of a row run in one process, block by block (A B A B ...), on identical token ids, from the same initial A,
with the same AdamW. A ratio is baseline over ours, more is better: the median of the pairs, and their range. Adapters
that the two ways trained are compared in the same measurement, which fails if they differ. Imports, model loading,
trainers' construction and compilation are in no rate; they stand in the settings. *Cap* is the machine's matmul ceiling
over the rate of useful products that the baseline achieves: no way of training that needs the same products can gain
more. **T** is a tuned loop of our own (`benchmarks/tuned.py`), the faster of compiled and not. All arms have all
processors: the baselines within their products, the bank in parts on threads, which only many runs allow."""


def _table(rows: list[Row]) -> str:
    lines = [
        "| row | what | ratio | range | cap | at least | aim | | parity |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cap = row.settings.get("cap", "")
        aim = row.settings.get("aim", "")
        parity = "" if row.parity is None else f"{row.parity:.0e}"
        lines.append(
            f"| `{row.name}` | {WHAT.get(row.name, '')} | **{row.ratio:g}** | {row.low:g} to {row.high:g} | {cap} | "
            f"{row.target:g} | {aim} | {'holds' if row.holds else '**misses**'} | {parity} |"
        )
    notes = [_time_note(row.settings) for row in rows if "time_ratio" in row.settings]
    notes += [
        f"`{row.name}`: {row.target:g} lies beyond the cap; of what the products allow ({row.settings['cap']:g}) "
        f"{row.ratio / row.settings['cap']:.0%} is reached."
        for row in rows
        if not row.holds and row.settings.get("cap", row.target) < row.target
    ]
    notes += [
        f"`{row.name}`: {row.settings['share_of_cap']:.0%} of its cap."
        for row in rows
        if "share_of_cap" in row.settings
    ]
    return "\n".join(lines) + ("\n\n" + " ".join(notes) if notes else "")


def _time_note(settings: dict[str, Any]) -> str:
    ratio = settings["time_ratio"]
    word = "holds" if ratio["holds"] else "misses"
    return (
        f"Time of the head at {settings['vocabulary']:,} entries: {ratio['ours_over_full']} times that of full logits "
        f"(at most {ratio['target']}: {word})."
    )


def _crossover(curves: dict[str, Any]) -> str:
    sweep = curves.get("sweep")
    if not sweep:
        return ""
    lines = ["## Where lockstep stops helping", "", "One run's step takes t = t0 + c n for n tokens:", ""]
    lines += ["| way | t0, ms | c, µs per token | gain below a tenth from |", "|---|---|---|---|"]
    for arm, line in sweep["fit"].items():
        at = sweep["crossover_tokens"].get(arm)
        where = "" if arm == "T" else (f"{at:,} tokens" if at else "not within the sweep")
        lines.append(f"| {arm} | {line['t0_milliseconds']:.1f} | {line['microseconds_per_token']:.0f} | {where} |")
    lines += ["", f"Model: {sweep['model']}. Nothing is compiled here, on either side."]
    return "\n".join(lines)


def _settings(rows: list[Row]) -> str:
    parts = ["## Exact settings"]
    for row in rows:
        body = json.dumps(row.settings, indent=1, ensure_ascii=False)
        parts.append(f"### {row.name}\n\nbaseline {row.baseline:g}, ours {row.value:g}\n\n```json\n{body}\n```")
    return "\n\n".join(parts)
