"""A stand-in for the `ray` package: tasks run in this process, and a test says which of them meet with an accident."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class RayError(Exception):
    """Ray's own."""


class WorkerCrashedError(RayError):
    """The process of a task was lost."""


class RayTaskError(RayError):
    """A task raised an error."""


def node(name: str, **resources: float) -> dict[str, Any]:
    """A node that is alive."""
    return {"Alive": True, "NodeID": f"id-{name}", "NodeManagerHostname": name, "Resources": resources}


class StandIn:
    """What the executor uses of Ray.

    Args:
        nodes: of the cluster.
        before: called with a task's number and name before it is run; it may raise an error.
        after: likewise, after it was run.
    """

    def __init__(
        self,
        nodes: list[dict[str, Any]],
        before: Callable[[int, str], None] = lambda *_: None,
        after: Callable[[int, str], None] = lambda *_: None,
    ) -> None:
        self.of_cluster, self.before, self.after = nodes, before, after
        self.asked: dict[str, Any] = {}
        self.settings: list[dict[str, Any]] = []
        self.sent: list[tuple[str, Any]] = []
        self.most = self.stopped = 0
        self._open: dict[int, Callable[[], str]] = {}
        self._waits = 0

    def put(self, patch: pytest.MonkeyPatch) -> StandIn:
        """Put it in the place of the package."""
        module: Any = ModuleType("ray")
        for name in ("nodes", "remote", "wait", "get", "init", "cancel", "shutdown"):
            setattr(module, name, getattr(self, name))
        module.is_initialized = lambda: False
        module.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        strategies: Any = ModuleType("ray.util.scheduling_strategies")
        strategies.NodeAffinitySchedulingStrategy = SimpleNamespace
        patch.setitem(sys.modules, "ray", module)
        patch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
        return self

    def init(self, **asked: Any) -> None:
        """Connect."""
        self.asked = asked

    def nodes(self) -> list[dict[str, Any]]:
        """Of the cluster."""
        return self.of_cluster

    def remote(self, **settings: Any) -> Callable[[Callable[..., str]], Any]:
        """The decorator."""
        self.settings.append(settings)
        return lambda function: _Function(self, function, {})

    def send(self, function: Callable[..., str], options: dict[str, Any], words: tuple[Any, ...]) -> int:
        """A new task."""
        name, number = options.get("name", ""), len(self.sent)
        self.sent.append((name, options.get("scheduling_strategy")))

        def run() -> str:
            self.before(number, name)
            told = function(*words)
            self.after(number, name)
            return told

        self._open[number] = run
        self.most = max(self.most, len(self._open))
        return number

    def wait(self, references: list[int], num_returns: int = 1, timeout: float = 0) -> tuple[list[int], list[int]]:
        """The oldest task has ended, whatever it will be asked for."""
        return references[:1], references[1:]

    def get(self, reference: int) -> str:
        """Run a task, and return what it returns."""
        return self._open.pop(reference)()

    def cancel(self, reference: int, force: bool) -> None:
        """Forget a task."""
        self._open.pop(reference)

    def shutdown(self) -> None:
        """Disconnect."""
        self.stopped += 1


class _Function:
    """A function as a task."""

    def __init__(self, ray: StandIn, function: Callable[..., str], settings: dict[str, Any]) -> None:
        self.ray, self.function, self.settings = ray, function, settings

    def options(self, **settings: Any) -> _Function:
        """With other settings."""
        return _Function(self.ray, self.function, settings)

    def remote(self, *words: Any) -> int:
        """Send it."""
        return self.ray.send(self.function, self.settings, words)
