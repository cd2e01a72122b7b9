"""What thousands of stored runs cost: `ldc status` and `ldc report`, in seconds and memory.

    python -m benchmarks.stored_runs [--models 1,3,10] [--folder FOLDER] [--plot FILE]

The runs are made, not trained: numbers drawn at random, written by the store itself. A model has 1,040 runs: five
domains, three seeds, and the usual regimes with 19 random draws and each layer alone. The models are equal in all but
their name, so a run of one is stored under the name of each. Prints a line for each number of models and command:
seconds on the wall and of the processor, and the most memory. `report again` is the report of a study of which nothing
has changed. The plot shows the seconds of the processor over the number of runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.console import say
from ldc.engine.results import Result
from ldc.models.folders import EMBEDDED
from ldc.models.headers import read_shape
from ldc.plan.runs import Inputs, ModelInputs, Run
from ldc.plan.specs import RunId
from ldc.state import StudyState
from ldc.store.adapter import peft_config
from ldc.store.atomic import write_text
from ldc.store.report_file import ReportFile
from ldc.store.runs import STUDY, Store
from ldc.study.reading import resolved_yaml, study_from_dict
from ldc.study.schema import Study
from ldc.tables import DOCUMENTS, IMPORTANCE, LOSSES, NORMS

DOMAINS, SEEDS, HELD_OUT, STEPS = 5, 3, 24, (0, 10, 20, 30, 40)


def study_of(models: int) -> Study:
    """Five domains, three seeds, 69 runs with adapters for each, and the bare model."""
    regimes = ["attn", "mlp", "all", "top1-mlp", "top3-mlp", "top1-attn", "top3-attn"]
    regimes += ["solo-attn", "solo-mlp", "random3-attn", "random3-mlp"]
    return study_from_dict(
        {
            "name": "stored",
            "models": {f"m{i}": {"source": "folder"} for i in range(models)},
            "domains": {f"d{i}": {"source": f"d{i}.jsonl"} for i in range(DOMAINS)},
            "regimes": regimes,
            "seeds": list(range(SEEDS)),
            "adapter": {"rank": 1},
            "training": {"steps": STEPS[-1]},
        }
    )


def result_of(run: Run, random: np.random.Generator) -> Result:
    """A run as the engine hands it over, with numbers that were drawn."""
    components = run.components
    tables = {"evaluation": DOCUMENTS.rows(list(_documents(run, random)))}
    measures = ("effect",) if components else ("saliency", "snr", "weight")
    if run.id.regime in ("all", "pt"):
        of = components or read_shape(EMBEDDED / "tiny-llama").components
        tables["importance"] = IMPORTANCE.rows(
            [(m, c.layer, c.block, c.name, random.lognormal()) for m in measures for c in of]
        )
    if components:
        sizes = random.lognormal(size=(len(STEPS), len(components)))
        rows = [
            (step, c.layer, c.block, c.name, size, size / 9, size / 90, size / 2, 1.5, 1.2)
            for step, of_step in zip(STEPS, sizes)
            for c, size in zip(components, of_step)
        ]
        tables["norms"] = NORMS.rows(rows)
        tables["losses"] = LOSSES.rows([(s, 3.0 - s / 90, 1e-4, 1.0, 8192) for s in range(1, STEPS[-1] + 1)])
    factors = {
        c.path: (random.normal(size=(1, c.d_in)).astype("f4"), random.normal(size=(c.d_out, 1)).astype("f4"))
        for c in components
    }
    return Result(run, tables, factors, sum(c.d_in + c.d_out for c in components))


def _documents(run: Run, random: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for domain, _ in run.scores:
        for document, nll in enumerate(300 + 20 * random.normal(size=HELD_OUT)):
            yield domain, f"{domain}-{document}", 120, 500, nll


def make_store(out: Path, models: int) -> int:
    """A folder in which every run of the study is done. Returns how many there are."""
    study, shape = study_of(models), read_shape(EMBEDDED / "tiny-llama")
    model = ModelInputs("weights", "tokenizer", "float32", shape.components)
    inputs = Inputs(dict.fromkeys(study.models, model), {name: f"text of {name}" for name in study.domains})
    store = Store(out)
    store.prepare()
    store.plan.record_inputs(inputs, study=resolved_yaml(study))
    write_text(out / STUDY, resolved_yaml(study))
    state = StudyState(study, inputs, store)
    random, stored = np.random.default_rng(0), 0
    for runs in (state.fixed, state.later):
        for run in runs("m0"):
            names = [RunId(m, run.id.domain, run.id.regime, run.id.seed) for m in study.models]
            config = {} if run.adapter is None else peft_config(run.components, run.adapter, "base", None)
            store.write(result_of(run, random), names, config, {"bank_runs": 8, "versions": {"torch": "2"}})
            stored += len(names)
    return stored


@dataclass(frozen=True)
class Cost:
    """What one command took: seconds on the wall, seconds of the processor, bytes of memory at most."""

    runs: int
    command: str
    seconds: float
    processor_seconds: float
    peak_bytes: int
    code: int


def cost_of(runs: int, *words: str) -> Cost:
    """Run `ldc` with these words in a process of its own."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "ldc", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    return Cost(runs, words[0], seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, process.returncode)


def main() -> None:
    """Make the stores, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default="1,3,10")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--commands", default="status,report,report again")
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    costs: list[Cost] = []
    os.fsync = lambda _: None
    for models in map(int, asked.models.split(",")):
        out = folder / f"{models}-models"
        if not out.exists():
            began = time.monotonic()
            say(f"{make_store(out, models):,} runs stored in {time.monotonic() - began:.0f} s")
        runs = sum(1 for _ in out.glob("runs/*/*/*/*/run.json"))
        for command in asked.commands.split(","):
            if command == "report":
                ReportFile(out).path.unlink(missing_ok=True)
            costs.append(replace(cost_of(runs, command.split()[0], str(out)), command=command))
            sys.stdout.write(json.dumps(asdict(costs[-1])) + "\n")
            sys.stdout.flush()
    if asked.plot:
        draw(costs, asked.plot)


def draw(costs: list[Cost], path: Path) -> None:
    """Seconds of the processor over the number of runs, both to the logarithm, a line for each command."""
    from benchmarks.plots import LOOK, STYLE, plt  # here: what this process holds counts as its children's

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
        for command, (colour, style, marker) in zip(dict.fromkeys(c.command for c in costs), LOOK.values()):
            own = [c for c in costs if c.command == command]
            xs, ys = [c.runs for c in own], [c.processor_seconds for c in own]
            axes.loglog(xs, ys, color=colour, linestyle=style, marker=marker, label=f"ldc {command}")
        axes.set_xlabel("stored runs")
        axes.set_ylabel("seconds of the processor")
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
