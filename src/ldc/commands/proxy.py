"""The command `ldc proxy`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldc import console
from ldc.commands.cluster import send_to_slurm
from ldc.commands.options import (
    STUDY_ENDINGS,
    AsJson,
    DeviceOption,
    DryRun,
    ModelOrStudy,
    On,
    OutOption,
    Quiet,
    Redo,
    Threads,
    Workers,
    number,
    settings_of,
)
from ldc.errors import ExitCode
from ldc.plan.place import Place, read_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ldc.study.reading import StudyFile

Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        metavar="DOMAIN",
        help="Domain to tune on: an embedded one, a file or a folder; may be repeated. Default: python, medical.",
        show_default=False,
    ),
]
Seeds = Annotated[int | None, number("--seeds", "Number of seeds of each run; default: 3.", 1)]
Ranks = Annotated[
    list[int] | None,
    number("--rank", "LoRA rank; may be repeated. Default: those of 4 to 128 that fit; for a study, its own rank.", 1),
]
Alpha = Annotated[
    float | None, number("--alpha", "The LoRA update is scaled by alpha / rank; default: 32.", letter="X")
]
Steps = Annotated[int | None, number("--steps", "Optimiser steps of every run; default: 40.", 1)]
Rows = Annotated[int | None, number("--rows", "Rows in each step; default: 4.", 1)]
Length = Annotated[int | None, number("--length", "Tokens in a row; default: 64.", 8)]
Rate = Annotated[float | None, number("--learning-rate", "Peak learning rate of LoRA; default: 2e-3.", letter="X")]
FullRate = Annotated[
    float | None,
    number(
        "--full-rate",
        "Peak learning rate of full fine-tuning; default: 4e-4; for a study, a fifth of LoRA's rate.",
        letter="X",
    ),
]


def proxy(
    model: ModelOrStudy,
    out: OutOption = None,
    domain: Domains = None,
    seeds: Seeds = None,
    rank: Ranks = None,
    alpha: Alpha = None,
    steps: Steps = None,
    rows: Rows = None,
    length: Length = None,
    learning_rate: Rate = None,
    full_rate: FullRate = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    device: DeviceOption = "auto",
    threads: Threads = None,
    on: On = None,
    workers: Workers = None,
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Test whether LoRA and full fine-tuning give the same map.

    Tunes a model in full and with LoRA of several ranks on the same text, and compares the maps. `ldc status` and
    `ldc report` read the results, as for any study. Run the same command again to continue.
    """
    if out is None and not dry_run:
        raise typer.BadParameter("name a folder for the results, such as -o out", param_hint="-o")
    asked = {
        "domains": None if domain is None else tuple(dict.fromkeys(domain)),
        "seeds": seeds,
        "alpha": alpha,
        "steps": steps,
        "rows": rows,
        "length": length,
        "learning_rate": learning_rate,
    }
    both = {"ranks": None if rank is None else tuple(sorted(set(rank))), "full_rate": full_rate}
    file = _of_study(model, asked, both) if model.endswith(STUDY_ENDINGS) else _of_model(model, asked | both)
    place = read_place(on, workers)
    if dry_run or out is None:
        from ldc.commands.studies import put_cost

        put_cost(file, as_json, device, out, place, threads)
        return
    _compare(file, out, place, as_json, device, threads, redo, quiet)


def _compare(
    file: StudyFile,
    out: Path,
    place: Place,
    as_json: bool,
    device: str,
    threads: int | None,
    redo: bool,
    quiet: bool,
) -> None:
    """Run the comparison and print what came of it."""
    if place.where == "slurm":
        send_to_slurm(file, out, place, device, threads, redo, quiet)
        return
    from ldc.execute.conductor import run_study

    with console.ConsoleProgress(quiet) as progress:
        outcome = run_study(file, out, progress, device, threads, place=place, redo=redo)
    undone = [f"{r.status}: {r.model} {r.domain} {r.regime} seed {r.seed}: {r.detail}" for r in outcome.failed]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    found = summary.get("proxy", {"summary": [], "runs": []})
    if as_json:
        console.put_json({**found, "synthetic": summary["synthetic_domains"], "failed": undone})
    else:
        _show(found, list(file.study.models), summary["synthetic_domains"], out)
    for sentence in undone:
        console.say(sentence)
    if undone:
        raise typer.Exit(ExitCode.FAILED_RUNS)


def _of_model(text: str, asked: Mapping[str, Any]) -> StudyFile:
    """The comparison for one model. Checks the settings against the model's shape."""
    from ldc.models.folders import resolve_folder
    from ldc.models.headers import read_shape
    from ldc.study.proxy_study import ProxySettings, study_of_model
    from ldc.study.reading import StudyFile
    from ldc.study.short_form import named_domain, named_model

    settings = settings_of(ProxySettings, asked)
    name, spec = named_model(text)
    shape = read_shape(resolve_folder(name, spec, Path()))
    widest = max(min(c.d_in, c.d_out) for c in shape.components)
    domains = [named_domain(domain) for domain in settings.domains]
    return StudyFile(study_of_model((name, spec), domains, settings, widest, shape.context), Path())


def _of_study(path: str, asked: Mapping[str, Any], both: Mapping[str, Any]) -> StudyFile:
    """The comparison with a study's settings."""
    from ldc.plan.defaults import by_size
    from ldc.study.proxy_study import ProxySettings, study_of_study
    from ldc.study.reading import StudyFile, read_study

    settings_of(ProxySettings, both)
    for name, value in asked.items():
        if value is not None:
            option = {"domains": "domain"}.get(name, name).replace("_", "-")
            raise typer.BadParameter("works only with a model; a study file sets its own", param_hint=f"--{option}")
    file, _ = by_size(read_study(Path(path)))
    return StudyFile(study_of_study(file.study, both["ranks"] or (), both["full_rate"]), file.base, file.path)


def _show(found: Mapping[str, Any], models: list[str], synthetic: list[str], out: Path) -> None:
    from ldc.report.proxy_views import BITS, KEY, agreement_tables, bits_table

    for model in models:
        for title, rows in agreement_tables(found["summary"], model):
            console.put(f"{model}: {title}" if len(models) > 1 else title)
            console.put_table(rows)
            console.put("")
    if found["summary"]:
        console.put(f"{KEY}\n")
    for model in models:
        if rows := bits_table(found["runs"], model, synthetic):
            console.put(f"{model}: {BITS}" if len(models) > 1 else BITS)
            console.put_table(rows)
    if synthetic:
        console.put(f"synthetic text: {', '.join(synthetic)}")
    figures = {f"figure {m}" if len(models) > 1 else "figure": out / "figures" / f"fig_proxy_{m}.png" for m in models}
    paths = {"page": out / "report.html", "table": out / "tables" / "proxy_summary.csv", **figures}
    for name, path in paths.items():
        if path.exists():
            console.put(f"{name:<8} {path}")
