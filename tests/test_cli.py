"""The command line: its frozen surface, its exit codes, its streams, and how quickly it starts."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer.main
from rich.console import Console

from ldc import console
from ldc.cli import main
from ldc.commands.app import app
from ldc.errors import DataError, EnvironmentFault, ExitCode, ModelError, StoreError, StudyError
from ldc.plan.place import Place
from ldc.study.example import example_text

STUDY_OPTIONS = [
    "--compile",
    "--device",
    "--dry-run",
    "--help",
    "--json",
    "--on",
    "--out",
    "--quiet",
    "--redo",
    "--threads",
    "--workers",
    "-h",
    "-o",
    "-q",
]
EXPORT_OPTIONS = [
    *(
        "--anyway",
        "--by",
        "--domain",
        "--force",
        "--help",
        "--json",
        "--list",
        "--model",
        "--out",
        "--regime",
        "--seed",
        "--to",
        "-h",
        "-o",
    ),
    "out",
]
SURFACE = {
    "calibrate": [
        *(
            "--blocks",
            "--device",
            "--domain",
            "--dry-run",
            "--help",
            "--json",
            "--kind",
            "--learning-rate",
            "--legs",
            "--length",
            "--lesson",
            "--on",
            "--out",
            "--quick",
            "--quiet",
            "--redo",
            "--rows",
            "--seeds",
            "--steps",
            "--strength",
            "--text",
            "--threads",
            "--workers",
            "-h",
            "-o",
            "-q",
        ),
        "model",
    ],
    "work": ["--device", "--help", "--quiet", "--shard", "--threads", "-h", "-q", "out"],
    "submit": [
        *("--cpus", "--gpus", "--help", "--jobs", "--out", "--quiet", "--sbatch", "--send", "--time"),
        *("-h", "-o", "-q", "study"),
    ],
    "doctor": ["--help", "--json", "--markdown", "-h"],
    "demo": STUDY_OPTIONS,
    "fetch": ["--dry-run", "--help", "--json", "--quiet", "-h", "-q", "study"],
    "export": EXPORT_OPTIONS,
    "diff": ["--by", "--csv", "--figure", "--help", "--json", "--stable-rank", "-h", "base", "tuned"],
    "init": ["--domain", "--force", "--help", "--model", "-h", "path"],
    "import": ["--help", "--json", "--out", "--quiet", "-h", "-o", "-q", "file"],
    "norms": [
        *(
            "--base",
            "--by",
            "--csv",
            "--figure",
            "--help",
            "--intruders",
            "--json",
            "--name",
            "--threshold",
            "--top",
            "-h",
        ),
        "adapter",
    ],
    "proxy": [
        *(
            "--alpha",
            "--device",
            "--domain",
            "--dry-run",
            "--full-rate",
            "--help",
            "--json",
            "--learning-rate",
            "--length",
            "--on",
            "--out",
            "--quiet",
            "--rank",
            "--redo",
            "--rows",
            "--seeds",
            "--steps",
            "--threads",
            "--workers",
            "-h",
            "-o",
            "-q",
        ),
        "model",
    ],
    "report": ["--help", "--quiet", "-h", "-q", "out"],
    "run": [*STUDY_OPTIONS, "study"],
    "status": ["--help", "--json", "-h", "out"],
}
HEAVY = ("torch", "transformers", "peft", "datasets", "pandas", "matplotlib", "numpy", "scipy", "pyarrow")


@dataclass(frozen=True)
class Line:
    model: str = "m"
    domain: str = "math"
    regime: str = "mlp"
    seed: int = 0
    status: str = "done"
    detail: str = ""


@dataclass(frozen=True)
class Outcome:
    report: Path
    done: int = 2
    computed: int = 2
    failed: list[Line] = field(default_factory=list)
    shared: int = 0

    def show(self, console: Console) -> None:
        console.print(str(self.report))


@pytest.fixture
def study(tmp_path: Path) -> str:
    """The path of a valid study file."""
    path = tmp_path / "study.yaml"
    path.write_text(example_text(), encoding="utf-8")
    return str(path)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts functions in the place of a module of the package."""

    def put(module: str, **functions: Any) -> None:
        fake = ModuleType(module)
        vars(fake).update(functions)
        monkeypatch.setitem(sys.modules, module, fake)

    return put


def test_commands_and_options_are_frozen() -> None:
    group = typer.main.get_command(app)
    context = typer.Context(group)
    surface = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        options = [option for p in command.get_params(context) for option in p.opts]
        surface[name] = sorted({*options, "--help", "-h"})
    assert surface == SURFACE
    top = {option for p in group.params for option in p.opts}
    assert top == {"--version", "--debug", "--install-completion", "--show-completion"}


def test_exit_codes_are_frozen() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "UNEXPECTED": 1,
        "USAGE": 2,
        "FAILED_RUNS": 3,
        "ENVIRONMENT": 4,
        "INTERRUPTED": 130,
    }
    codes = {error: error.exit_code for error in (StudyError, DataError, ModelError, StoreError)}
    assert set(codes.values()) == {ExitCode.USAGE}
    assert EnvironmentFault.exit_code == ExitCode.ENVIRONMENT


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in SURFACE)
    assert "130 interrupted" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ldc ")


@pytest.mark.parametrize(
    "words", [[], ["foo"], ["run"], ["run", "a.yaml", "--devise", "cpu"], ["run", "a", "--device", "tpu"]]
)
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "Usage: ldc" in out + err


def test_a_run_needs_a_folder_for_its_results(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", study]) == 2
    assert "name a folder for the results, such as -o out" in capsys.readouterr().err


def test_init_writes_a_study_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "study.yaml")
    assert main(["init", path]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{path}\n", f"edit it, then run: ldc run {path} -o out --dry-run\n")
    assert main(["init", path]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        f"ldc: error: {path}: exists already; name another file, or overwrite it with --force\n",
    )
    assert main(["init", path, "--force"]) == 0


def test_init_writes_study_yaml_here_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert (tmp_path / "study.yaml").read_text(encoding="utf-8") == example_text()


def test_a_wrong_study_ends_with_2_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("models: {m: embedded}\ndomains: {no: embedded}\ntrainig: {steps: 3}\n")
    assert main(["run", "study.yaml", "-o", "out"]) == 2
    assert capsys.readouterr().err == (
        "ldc: error: 2 problems in study.yaml\n"
        'study.yaml:2: domains.no: YAML reads `no` as false; as a name, put it in quotes: "no"\n'
        "study.yaml:3: trainig: unknown key; did you mean `training`?\n"
    )
    assert not Path("out").exists()
    assert main(["run", "none.yaml", "-o", "out"]) == 2
    told = "ldc: error: none.yaml: no such file; `ldc init none.yaml` writes an example to edit\n"
    assert capsys.readouterr().err == told


def test_an_errors_control_characters_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text('"\\e[2J": 1\n' + example_text(), encoding="utf-8")
    assert main(["run", str(path), "-o", "out"]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert r"\x1b[2J: unknown key" in err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ModelError("models/x: no weights"), 2, "models/x: no weights"),
        (EnvironmentFault("no access"), 4, "no access"),
        (MemoryError(), 4, "out of memory"),
        (KeyError("x"), 1, "unexpected KeyError: 'x'\nrun again with --debug for the traceback"),
        (ValueError("a\nb"), 1, "unexpected ValueError: a\nrun again with --debug for the traceback"),
    ],
)
def test_each_error_is_one_message_and_its_exit_code(
    error: Exception,
    code: int,
    told: str,
    study: str,
    backend: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_study(*_: Any) -> None:
        raise error

    backend("ldc.execute.conductor", run_study=run_study)
    assert main(["run", study, "-o", "out"]) == code
    assert capsys.readouterr().err == f"ldc: error: {told}\n"
    for words in (["--debug", "run", study, "-o", "out"], ["run", study, "-o", "out", "--debug"]):
        with pytest.raises(type(error)):
            main(words)


def test_an_interrupted_run_ends_with_130_and_says_how_to_go_on(
    study: str, backend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run_study(file: Any, out: Path, progress: console.ConsoleProgress, *_: Any) -> None:
        progress.stage("train", 4)
        progress.advance(1, 100)
        raise KeyboardInterrupt

    backend("ldc.execute.conductor", run_study=run_study)
    assert main(["run", study, "-o", "out"]) == 130
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "train: 0 of 4"
    assert err[1].startswith("train: 1 of 4 stopped after 0 s")
    assert err[2:] == ["ldc: interrupted; run the same command again to continue"]


def test_run_hands_over_what_was_asked_and_prints_the_page(
    study: str, backend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[Any, ...]] = []

    def run_study(file: Any, out: Path, _progress: Any, *compute: Any) -> Outcome:
        seen.append((file.path, file.base, out, *compute))
        return Outcome(out / "report.html")

    backend("ldc.execute.conductor", run_study=run_study)
    assert main(["run", study, "-o", "out", "--device", "cpu", "--threads", "2", "--workers", "3", "-q"]) == 0
    assert seen == [(Path(study), Path(study).parent, Path("out"), "cpu", 2, None, Place("processes", 3), False)]
    assert capsys.readouterr() == (f"{Path('out/report.html')}\n", "2 of 2 runs are done; 2 computed now\n")


def test_failed_runs_end_with_3_and_are_named(
    study: str, backend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [Line(status="failed", detail="loss is not finite at step 3")]

    def run_study(*_: Any) -> Outcome:
        return Outcome(Path("report.html"), done=1, computed=0, failed=failed)

    backend("ldc.execute.conductor", run_study=run_study)
    assert main(["run", study, "-o", "out", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["failed"][0]["detail"] == "loss is not finite at step 3"
    assert err == (
        "1 of 2 runs are done; nothing left to compute\nfailed: m math mlp seed 0: loss is not finite at step 3\n"
    )


def test_the_demo_runs_the_embedded_study(backend: Callable[..., None]) -> None:
    names: list[str] = []

    def run_study(file: Any, out: Path, *_: Any) -> Outcome:
        names.append(file.study.name)
        return Outcome(out / "report.html")

    backend("ldc.execute.conductor", run_study=run_study)
    assert main(["demo", "-o", "out"]) == 0
    assert names == ["demo"]


def test_a_dry_run_prints_a_table_or_json(
    study: str, backend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    banks = [{"model": "m", "runs": 9, "peak_bytes": 1.5e9}]
    cost = {"runs": 14, "tokens": 1_000_000, "flops": 3.2e12, "disk_bytes": 2_500, "run_seconds": 125.0, "banks": banks}
    cost["assumptions"] = ["a guess"]
    backend("ldc.plan.cost", estimate=lambda file, device, **_: cost)
    assert main(["run", study, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:5] == ["runs 14", "tokens 1,000,000", "flops 3.2 T", "disk 2.5 kB", "run 2:05"]
    assert lines[-2:] == ["model runs peak", "m 9 1.5 GB"]
    assert err == "a guess\n"
    assert main(["run", study, "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (cost, "")


def test_status_counts_and_lists_what_is_not_done(
    backend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [Line(), Line(seed=1), Line(seed=2, status="failed", detail="x" * 120)]
    standing = SimpleNamespace(lines=lambda: lines)
    backend("ldc.state", StudyState=SimpleNamespace(of=lambda out: standing))
    assert main(["status", "out"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 of 3 runs done, 1 failed\n")
    assert f"m      math    mlp        2  failed  {'x' * 120}" in out
    assert main(["status", "out", "--json"]) == 0
    assert [line["status"] for line in json.loads(capsys.readouterr().out)] == ["done", "done", "failed"]


@pytest.mark.parametrize(
    "error",
    [
        ImportError("regex.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        MemoryError(),
    ],
)
def test_a_lack_of_memory_is_a_lack_of_the_machine(
    backend: Callable[..., None], capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def lacking(_out: Path) -> None:
        raise error

    backend("ldc.state", StudyState=SimpleNamespace(of=lacking))
    assert main(["status", "out"]) == ExitCode.ENVIRONMENT
    assert capsys.readouterr().err.startswith("ldc: error: out of memory")


def test_report_prints_the_path_of_the_page(backend: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    backend("ldc.execute.reporting", rebuild_report=lambda out, _progress: out / "report.html")
    assert main(["report", "out", "--quiet"]) == 0
    assert capsys.readouterr() == (f"{Path('out/report.html')}\n", "")


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--help"], 0), (["run", "--help"], 0), (["--version"], 0), (["init"], 0), (["run", "none.yaml", "-o", "x"], 2)],
)
def test_quick_commands_import_nothing_heavy(words: list[str], code: int, tmp_path: Path) -> None:
    script = f"import sys; from ldc.cli import main; assert main({words}) == {code}; " + (
        f"print('heavy:', [m for m in {HEAVY} if m in sys.modules])"
    )
    assert python(script, tmp_path).stdout.endswith("heavy: []\n")


def test_help_imports_at_most_half_as_many_modules_again_as_typer(tmp_path: Path) -> None:
    """The start of a command is the time of its imports; a count of them does not depend on the machine's load."""

    def modules(code: str) -> int:
        return int(python(f"import sys; {code}; print(len(sys.modules))", tmp_path).stdout.split()[-1])

    assert modules("from ldc.cli import main; main(['--help'])") < 1.5 * modules("import typer")
