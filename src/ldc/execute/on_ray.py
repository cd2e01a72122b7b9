"""The executor that runs banks as tasks of a Ray cluster. The cluster is the user's: it is never started or stopped.

Every bank is one task in a process of its own, so that its memory is free when it ends. This process owns the retries:
a bank whose process or machine was lost is sent once more, elsewhere if possible; a bank that raised an error is not.
What was computed is read from the study's folder and never from what a task returns.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any

from ldc.errors import EnvironmentFault, StudyError
from ldc.execute.ray_bank import describe, run_bank
from ldc.execute.tasks import Compute, Event, Task, error_of
from ldc.execute.worker import Worker, about
from ldc.plan.machine import Machine
from ldc.plan.place import Place
from ldc.plan.runs import Run
from ldc.progress import Progress
from ldc.store.claims import Claims

SPARE = 2
"""Tasks that wait on the cluster beside those that run, so that no place is idle between two banks."""
ANSWER = 10.0
"""Seconds in which the head of a cluster has to answer."""
LOOK = 30.0
"""Seconds between two looks at the nodes while no task ends."""
PATIENCE = 300.0
"""Seconds to wait for a node to come back when no node is left that could run a task."""
SETTLING = 60.0
"""Seconds in which what a node has stored must be seen here: network file systems keep names for a while."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to.

    Attributes:
        ray: the library.
        need: what a task takes of a node: CPU, and GPU where it computes on one.
        limit: banks at a time, at most; None for as many as fit.
        machine: the device that a task has.
    """

    ray: Any
    need: dict[str, int]
    limit: int | None
    machine: Machine

    def places(self) -> list[int]:
        """How many tasks fit on each node that is alive."""
        return [_fitting(node, self.need) for node in _alive(self.ray)]

    def other_node(self, host: str) -> str | None:
        """A node that could run a task and is on another machine than this; None if there is none."""
        nodes = [n for n in _alive(self.ray) if _fitting(n, self.need) and n["NodeManagerHostname"] != host]
        return nodes[0]["NodeID"] if nodes else None


@contextmanager
def connected(place: Place, device: str, threads: int | None, progress: Progress) -> Iterator[Cluster]:
    """A connection to the cluster, which lasts as long as the block.

    Args:
        place: its address, and the most banks at a time.
        device: auto, cpu or cuda. With auto a task takes a GPU where the cluster has any.
        threads: CPUs of a task; None for one.
        progress: told that a place on the cluster is awaited.

    Raises:
        StudyError: one GPU of the cluster is named; Ray chooses it.
        EnvironmentFault: ray is not installed, no cluster answers, or none of its nodes could ever run a task.
    """
    if device.startswith("cuda:"):
        raise StudyError(f"--device {device} --on ray: Ray chooses the GPU of a task; use --device cuda")
    ray = _library()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, place.address)
    try:
        nodes = _alive(ray)
        on_gpu = device == "cuda" or (device == "auto" and any(node["Resources"].get("GPU") for node in nodes))
        need = {"CPU": threads or 1, **({"GPU": 1} if on_gpu else {})}
        if not any(_fitting(node, need) for node in nodes):
            raise EnvironmentFault(f"--on ray: {_lacking(nodes, need)}")
        yield Cluster(ray, need, place.workers, _machine(ray, need, device if on_gpu else "cpu", progress))
    finally:
        if ours:
            ray.shutdown()


class OnRay:
    """Banks as tasks of a cluster.

    Args:
        cluster: the cluster.
        worker: has the study and its folder; it computes nothing.
        compute: whether layers are compiled.
        handle: told every event.
    """

    def __init__(self, cluster: Cluster, worker: Worker, compute: Compute, handle: Callable[[Event], None]) -> None:
        self.cluster, self.ray, self.worker, self.handle = cluster, cluster.ray, worker, handle
        self.store, self.claims = worker.state.store, Claims(worker.state.store.out)
        device = "cuda" if cluster.machine.on_gpu else "cpu"
        self.compute = Compute(device, cluster.need["CPU"], compute.compiled)
        self._work = _task(self.ray, run_bank, cluster.need)
        self._running: dict[Any, _Sent] = {}

    @property
    def slots(self) -> int:
        """As many banks as fit on the nodes that are alive now, and a few that wait."""
        room = sum(self.cluster.places()) + SPARE
        return room if self.cluster.limit is None else min(room, self.cluster.limit)

    def prepare(self, model: str) -> None:
        """Nothing: each task loads its model."""

    def submit(self, task: Task) -> None:
        """Send a bank to the cluster."""
        names = self.worker.names(task.bank)
        runs = {key: names[key] for key in task.bank.keys}
        self._send(_Sent(task, runs, self._settled(runs)))

    def wait(self) -> None:
        """Wait until a bank ends.

        Raises:
            LdcError: LDC refused a bank on its node; the error is the node's.
            EnvironmentFault: no node is left that could run a task, or what a node stored is not to be seen here.
        """
        lost_since: float | None = None
        while True:
            done, _ = self.ray.wait(list(self._running), num_returns=1, timeout=LOOK)
            if done:
                if self._ended(done[0]):
                    return
            elif sum(self.cluster.places()):
                lost_since = None
            elif time.monotonic() - (lost_since := lost_since or time.monotonic()) > PATIENCE:
                raise EnvironmentFault(
                    f"{_lacking(_alive(self.ray), self.cluster.need)}; finished runs are stored; repeat the same "
                    "command to continue"
                )

    def close(self) -> None:
        """Stop the tasks that are running. Their stored runs stay."""
        for reference in self._running:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(reference, force=True)
        self._running = {}

    def _send(self, sent: _Sent, host: str = "") -> None:
        """Send a bank, if possible to another machine than `host`."""
        other = self.cluster.other_node(host) if host else None
        strategy: Any = "SPREAD"
        if other is not None:
            strategies = import_module("ray.util.scheduling_strategies")
            strategy = strategies.NodeAffinitySchedulingStrategy(node_id=other, soft=True)
        state = self.worker.state
        words = str(state.store.out.resolve()), str(self.worker.folder.resolve()), json.dumps(asdict(self.compute))
        work = self._work.options(name=sent.task.bank.name, scheduling_strategy=strategy)
        self._running[work.remote(*words, json.dumps(sent.task.as_json()))] = sent

    def _ended(self, reference: Any) -> bool:
        """Look at a task that ended. Returns whether its bank has come to its end."""
        sent, errors = self._running.pop(reference), self.ray.exceptions
        bank, words = sent.task.bank, ""
        try:
            events = [Event.from_json(event) for event in json.loads(self.ray.get(reference))]
        except errors.RayTaskError as error:
            events, words = [], _last_line(str(error))
        except errors.RayError as error:
            if not self._all_stored(sent) and not sent.again:
                self.handle(Event("say", bank.name, f"{about(bank)}: its worker was lost; sent once more"))
                self._send(replace(sent, again=True), self._host(bank.name))
                return False
            events, words = [], f"its worker was lost twice ({type(error).__name__})"
        failed = next((event for event in events if event.what == "failed"), None)
        if failed is not None:
            raise error_of(failed)
        for event in events:
            self.handle(event)
        if words and not self._all_stored(sent):
            self.claims.say_last_words(bank.name, words)
            self.handle(Event("say", bank.name, f"{about(bank)}: given up: {words}; the other banks go on"))
        else:
            self._see(sent)
            self.claims.forget(bank.name)
        self._tell_stored(sent)
        self.handle(Event("done", bank.name))
        return True

    def _host(self, name: str) -> str:
        """Where the bank was computed when its worker was lost: its claim is still there."""
        return next((w.claim.host for w in self.claims.all() if w.claim.name == name), socket.gethostname())

    def _settled(self, runs: Mapping[str, Sequence[Run]]) -> dict[str, int]:
        """For each key, under how many names its run has ended."""
        return {key: sum(map(self.store.is_settled, named)) for key, named in runs.items()}

    def _all_stored(self, sent: _Sent) -> bool:
        return self._settled(sent.runs) == {key: len(named) for key, named in sent.runs.items()}

    def _see(self, sent: _Sent) -> None:
        """Make sure that the runs of a bank that ended well are seen here.

        Raises:
            EnvironmentFault: they are not.
        """
        deadline = time.monotonic() + SETTLING
        while not self._all_stored(sent):
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"{self.store.out}: a task has ended, but its runs are not here; the study's folder must be one "
                    "that all nodes share"
                )
            time.sleep(1.0)

    def _tell_stored(self, sent: _Sent) -> None:
        now = self._settled(sent.runs)
        for key, before in sent.before.items():
            if now[key] > before:
                self.handle(Event("stored", sent.task.bank.name, key, now[key] - before))


@dataclass(frozen=True)
class _Sent:
    """A bank on the cluster.

    Attributes:
        task: the bank.
        runs: its runs by key, under all their names.
        before: for each key, under how many names its run had ended before.
        again: whether this is the second try.
    """

    task: Task
    runs: Mapping[str, Sequence[Run]]
    before: dict[str, int]
    again: bool = False


def _library() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise EnvironmentFault(
            "--on ray: ray is not installed; install it with: pip install 'layer-domain-control[ray]'"
        ) from error


def _connect(ray: Any, address: str) -> None:
    """Connect to a running cluster; Ray would try for minutes where nobody answers, so look first.

    Raises:
        EnvironmentFault: none answers.
    """
    where = address or "auto"
    try:
        if address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
        with _our_signals():
            ray.init(address=where, log_to_driver=False, configure_logging=False)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        asked = f"at {address}" if address else "here"
        raise EnvironmentFault(
            f"--on ray: no Ray cluster answers {asked} ({_last_line(str(error))}); start one with `ray start --head`, "
            "or give the address of one as --on ray:HOST:PORT"
        ) from error


@contextmanager
def _our_signals() -> Iterator[None]:
    """Ray puts its own handler in the place of ours for SIGTERM; put ours back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _task(ray: Any, function: Callable[..., str], need: dict[str, int]) -> Any:
    """A function as a task: a process of its own each time, and no retries by Ray."""
    settings = {"num_cpus": need["CPU"], "num_gpus": need.get("GPU", 0)}
    return ray.remote(**settings, max_calls=1, max_retries=0, retry_exceptions=False)(function)


def _machine(ray: Any, need: dict[str, int], device: str, progress: Progress) -> Machine:
    """The device of a task, found by a task.

    Raises:
        EnvironmentFault: the task could not run there.
    """
    reference = _task(ray, describe, need).remote(device)
    if not ray.wait([reference], timeout=ANSWER)[0]:
        progress.say("waiting for a free place on the Ray cluster")
    try:
        return Machine(**json.loads(ray.get(reference)))
    except ray.exceptions.RayError as error:
        raise EnvironmentFault(
            f"--on ray: a node cannot run LDC ({_last_line(str(error))}); install the same version on every node"
        ) from error


def _alive(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _fitting(node: dict[str, Any], need: dict[str, int]) -> int:
    """How many tasks fit on a node."""
    return min(int(node["Resources"].get(name, 0) // count) for name, count in need.items())


def _lacking(nodes: list[dict[str, Any]], need: dict[str, int]) -> str:
    """That no node could run a task, what a task needs, and what there is."""

    def told(resources: dict[str, Any]) -> str:
        return " and ".join(f"{resources.get(name, 0):g} {name}" for name in need)

    there = sorted({told(node["Resources"]) for node in nodes}) or ["nothing"]
    return (
        f"no node of the Ray cluster has the {told(need)} that a bank needs (the nodes have {'; '.join(there)}); "
        "lower --threads, use --device cpu, or add a node"
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
