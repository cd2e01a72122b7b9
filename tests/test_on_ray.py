"""What the Ray executor decides, with a stand-in for Ray: what is sent, sent again, given up, and refused."""

from __future__ import annotations

import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ldc.cli import main
from ldc.errors import EnvironmentFault, StoreError
from ldc.execute import on_ray
from ldc.execute.conductor import Outcome, run_study
from ldc.execute.worker import Worker
from ldc.plan import memory
from ldc.plan.machine import Machine
from ldc.plan.place import Place
from ldc.progress import Silent
from ldc.report import figures
from ldc.store.claims import Claims
from ldc.study.reading import read_study
from ray_stand_in import RayTaskError, StandIn, WorkerCrashedError, node
from study_setup import MiniStudy, mini_study, results

Capture = pytest.CaptureFixture[str]
CPU = Machine("cpu", "2 CPUs", 8 * 10**9, 1e11, "told", bf16=False)


@pytest.fixture(autouse=True)
def small_banks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs a bank, so that there are several; no figures, no matmul rate, no waiting for a network file system."""
    monkeypatch.setattr(memory, "BANK_TOKENS", 32)
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    monkeypatch.setattr("ldc.execute.ray_bank.find_machine", lambda _: CPU)
    monkeypatch.setattr(on_ray, "SETTLING", 0.0)


class Told(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep a sentence."""
        self.said.append(text)


def run(study: MiniStudy, out: Path, place: Place | None = None, told: Silent | None = None) -> Outcome:
    return run_study(read_study(study.path), out, told or Silent(), "cpu", threads=1, place=place or Place("ray", None))


def two_nodes() -> list[dict[str, Any]]:
    return [node("head", memory=1e9), node("a", CPU=1, memory=1e9), node("b", CPU=1, memory=1e9)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[MiniStudy, Path]:
    """A study, and its folder after a run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    study = mini_study(folder, regimes=("attn", "mlp", "all", "top1-mlp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "BANK_TOKENS", 32)
        patch.setattr(figures, "write_figures", lambda *_: [])
        run(study, folder / "here", Place())
    return study, folder / "here"


def same(out: Path) -> dict[str, str]:
    return {path: told for path, told in results(out).items() if not path.startswith("workers/")}


def test_tasks_give_the_bytes_that_one_process_gives(
    alone: tuple[MiniStudy, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, here = alone
    before = signal.getsignal(signal.SIGTERM)
    ray = StandIn(two_nodes()).put(monkeypatch)
    outcome, out = run(study, tmp_path / "ray", Place("ray", None)), tmp_path / "ray"
    assert (outcome.done, outcome.failed) == (outcome.computed, [])
    assert same(out) == same(here)
    assert ray.asked == {"address": "auto", "log_to_driver": False, "configure_logging": False}
    assert all(
        settings == {"num_cpus": 1, "num_gpus": 0, "max_calls": 1, "max_retries": 0, "retry_exceptions": False}
        for settings in ray.settings
    )
    assert (ray.most, ray.stopped) == (4, 1)  # two that run and two that wait
    assert signal.getsignal(signal.SIGTERM) == before
    banks = [name for name, strategy in ray.sent if strategy == "SPREAD"]
    assert len(banks) == len(set(banks)) == len(ray.sent) - 1 > 4
    again = run(study, out)
    assert (again.done, again.computed) == (outcome.done, 0)


def test_no_more_banks_are_sent_than_asked_for(
    alone: tuple[MiniStudy, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = StandIn([node("a", CPU=64)]).put(monkeypatch)
    assert run(alone[0], tmp_path / "out", Place("ray", 3)).failed == []
    assert ray.most == 3


def test_a_bank_whose_worker_is_lost_is_sent_once_more_to_another_machine(
    alone: tuple[MiniStudy, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []

    def before(number: int, name: str) -> None:
        if number == 2:
            lost.append(name)
            raise WorkerCrashedError

    ray = StandIn([*two_nodes(), node(socket.gethostname(), CPU=1)], before).put(monkeypatch)
    told = Told()
    outcome = run(alone[0], tmp_path / "out", told=told)
    assert (outcome.failed, outcome.computed) == ([], outcome.done)
    assert same(tmp_path / "out") == same(alone[1])
    strategies = [strategy for name, strategy in ray.sent if name == lost[0]]
    assert len(strategies) == 2
    assert vars(strategies[1]) == {"node_id": "id-a", "soft": True}
    assert sum("its worker was lost; sent once more" in sentence for sentence in told.said) == 1


def test_a_bank_that_was_stored_before_its_worker_was_lost_is_not_sent_again(
    alone: tuple[MiniStudy, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after(number: int, _: str) -> None:
        if number == 2:
            raise WorkerCrashedError

    ray = StandIn(two_nodes(), after=after).put(monkeypatch)
    outcome = run(alone[0], tmp_path / "out")
    assert (outcome.failed, outcome.computed) == ([], outcome.done)
    assert len({name for name, _ in ray.sent}) == len(ray.sent)


@pytest.mark.parametrize("error", [WorkerCrashedError(), RayTaskError("a traceback\nValueError: no such luck")])
def test_a_bank_that_cannot_be_computed_is_given_up_and_the_others_are_done(
    alone: tuple[MiniStudy, Path],
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    chosen: list[str] = []

    def before(number: int, name: str) -> None:
        if number == 1:
            chosen.append(name)
        if name in chosen:
            raise error

    ray, study, out = StandIn(two_nodes(), before).put(monkeypatch), alone[0], tmp_path / "out"
    assert main(["run", str(study.path), "-o", str(out), "--on", "ray", "--device", "cpu", "-q"]) == 3
    err = capsys.readouterr().err
    words = "its worker was lost twice" if isinstance(error, WorkerCrashedError) else "ValueError: no such luck"
    assert f" failed: {words}" in err
    assert "missing: tiny" in err
    assert sum(name == chosen[0] for name, _ in ray.sent) == (2 if isinstance(error, WorkerCrashedError) else 1)
    assert words in "".join(Claims(out).last_words(chosen[0]).values())
    StandIn(two_nodes()).put(monkeypatch)
    assert main(["run", str(study.path), "-o", str(out), "--on", "ray", "--device", "cpu", "-q"]) == 0
    assert same(out) == same(alone[1])
    assert Claims(out).last_words() == {}


def test_what_ldc_refuses_on_a_node_ends_the_study_with_its_message(
    alone: tuple[MiniStudy, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def completed(*_: Any) -> bool:
        raise StoreError("the text of birds differs from the plan")

    ray = StandIn(two_nodes()).put(monkeypatch)
    monkeypatch.setattr(Worker, "_completed", completed)
    with pytest.raises(StoreError.__base__, match="the text of birds differs") as caught:  # type: ignore[arg-type]
        run(alone[0], tmp_path / "out")
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]
    assert (ray._open, ray.stopped) == ({}, 1)


def test_a_folder_that_the_nodes_do_not_share_is_one_message(
    alone: tuple[MiniStudy, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIn(two_nodes()).put(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("ldc.execute.ray_bank.Path.is_dir", lambda _: False)
        with pytest.raises(EnvironmentFault, match=r"does not see .* one that all nodes share"):
            run_elsewhere(tmp_path)
    monkeypatch.setattr("ldc.execute.on_ray.run_bank", lambda *_: "[]")
    with pytest.raises(EnvironmentFault, match=r"its runs are not here; .* one that all nodes share"):
        run(alone[0], tmp_path / "out")


def run_elsewhere(folder: Path) -> None:
    """A bank on a node that does not see the folder."""
    import json

    from ldc.execute.ray_bank import run_bank
    from ldc.execute.tasks import Compute, Event, Task, error_of
    from ldc.plan.banks import BankPlan

    task = Task(BankPlan("tiny", ("0123",)))
    words = json.loads(run_bank(str(folder), str(folder), json.dumps(asdict(Compute())), json.dumps(task.as_json())))
    raise error_of(Event.from_json(words[-1]))


@pytest.mark.parametrize(
    ("nodes", "words", "told"),
    [
        (
            [node("a", CPU=2), node("b", CPU=4)],
            ["--threads", "8"],
            "no node of the Ray cluster has the 8 CPU that a bank needs (the nodes have 2 CPU; 4 CPU)",
        ),
        ([node("a", CPU=2)], ["--device", "cuda"], "the 1 CPU and 1 GPU that a bank needs (the nodes have 2 CPU and 0"),
        ([node("a", CPU=0, GPU=8)], [], "1 CPU and 1 GPU"),
        ([{**node("a", CPU=9), "Alive": False}], [], "(the nodes have nothing)"),
    ],
)
def test_what_fits_on_no_node_is_refused_before_any_work(
    nodes: list[dict[str, Any]],
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    ray, study = StandIn(nodes).put(monkeypatch), mini_study(tmp_path)
    assert main(["run", str(study.path), "-o", str(study.out), "--on", "ray", *words]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert (ray.sent, ray.stopped) == ([], 1)
    assert not study.out.exists()


def test_one_gpu_of_a_cluster_cannot_be_named(tmp_path: Path, capsys: Capture) -> None:
    study = mini_study(tmp_path)
    assert main(["run", str(study.path), "-o", str(study.out), "--on", "ray", "--device", "cuda:1"]) == 2
    assert "--device cuda:1 --on ray: Ray chooses the GPU of a task" in capsys.readouterr().err


def test_without_ray_one_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    study = mini_study(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", str(study.path), "-o", str(study.out), "--on", "ray"]) == 4
    told = "ldc: error: --on ray: ray is not installed; install it with: pip install 'layer-domain-control[ray]'\n"
    assert capsys.readouterr().err == told
    assert not study.out.exists()


def test_a_cluster_that_does_not_answer_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    study, ray = mini_study(tmp_path), StandIn(two_nodes()).put(monkeypatch)
    words = ["run", str(study.path), "-o", str(study.out), "--on"]

    def refused(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError("[Errno 111] Connection refused")

    monkeypatch.setattr(socket, "create_connection", refused)
    assert main([*words, "ray:10.0.0.1:6379"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "--on ray: no Ray cluster answers at 10.0.0.1:6379 ([Errno 111] Connection refused); start one" in line
    assert ray.asked == {}
    monkeypatch.setattr(sys.modules["ray"], "init", refused)
    assert main([*words, "ray"]) == 4
    assert "no Ray cluster answers here" in capsys.readouterr().err
    assert not study.out.exists()


def test_when_no_node_is_left_the_study_ends_after_a_while(
    alone: tuple[MiniStudy, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, clock = StandIn(two_nodes()).put(monkeypatch), iter(range(0, 10**6, 200))
    monkeypatch.setattr("ldc.execute.on_ray.time", type("Clock", (), {"monotonic": lambda: next(clock)}))

    def wait(references: list[int], num_returns: int = 1, timeout: float = 0) -> tuple[list[int], list[int]]:
        if len(ray.sent) > 1:
            ray.of_cluster = two_nodes()[:1]
            return [], references
        return references, []

    monkeypatch.setattr(sys.modules["ray"], "wait", wait)
    with pytest.raises(EnvironmentFault, match=r"no node of the Ray cluster has the 1 CPU .* repeat the same command"):
        run(alone[0], tmp_path / "out")
    assert ray._open == {}


def test_gpus_elsewhere_decide_the_precision_and_the_size_of_banks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, told = mini_study(tmp_path), Told()
    monkeypatch.setattr(
        "ldc.execute.ray_bank.find_machine", lambda _: Machine("cuda", "H100", 80 * 10**9, 1e15, "told", bf16=True)
    )
    ray = StandIn([node("a", CPU=8, GPU=4)]).put(monkeypatch)
    seen: list[str] = []
    monkeypatch.setattr("ldc.execute.on_ray.run_bank", lambda *words: seen.append(words[2]) or "[]")
    with pytest.raises(EnvironmentFault, match="its runs are not here"):
        run_study(read_study(study.path), study.out, told, place=Place("ray", None))
    assert ray.settings[0]["num_gpus"] == 1
    assert '"device": "cuda", "threads": 1' in seen[0]
    assert "models.tiny.dtype: auto is taken as bfloat16, since the workers have GPUs" in told.said
