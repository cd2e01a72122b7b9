"""Messages between the conductor and executors, as JSON: tasks one way, events the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ldc.errors import EnvironmentFault, LdcError, StudyError
from ldc.plan.banks import BankPlan
from ldc.plan.machine import Machine


@dataclass(frozen=True, slots=True)
class Compute:
    """The devices and processes that compute a study. Results depend only on the precision, which the plan records.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads of each process; None leaves torch's choice.
        compiled: whether decoder layers are compiled; None lets the plan decide.
        workers: banks that one machine runs at a time.
        machine: the device of the machines that run them; None is this machine's.
    """

    device: str = "auto"
    threads: int | None = None
    compiled: bool | None = None
    workers: int = 1
    machine: Machine | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A bank to run. Its keys identify it in the study of a folder."""

    bank: BankPlan

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self.bank)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """The record that `as_json` wrote."""
        return cls(BankPlan(data["model"], tuple(data["keys"]), data["compiled"], data["rescored"]))


@dataclass(frozen=True, slots=True)
class Event:
    """A message of a worker.

    Attributes:
        what: `say` (text), `advance` (number of tokens), `measured` (the weights are), `stored` (text: a key, number:
            under how many names), `halved` (parts in the place of the bank `bank`), `done` (the bank has come to its
            end) or `failed` (text: the error, number: its exit code).
        bank: the name of the bank it is about.
    """

    what: str
    bank: str
    text: str = ""
    number: int = 0
    parts: tuple[BankPlan, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        """The record that `as_json` wrote."""
        parts = tuple(Task.from_json(part).bank for part in data["parts"])
        return cls(data["what"], data["bank"], data["text"], data["number"], parts)


def error_of(event: Event) -> LdcError:
    """A worker's error, from its `failed` event, as one of the same exit code."""
    for kind in (EnvironmentFault, StudyError):
        if event.number == kind.exit_code:
            return kind(event.text)
    return LdcError(event.text)


class Executor(Protocol):
    """Runs banks somewhere. Only the conductor writes `plan.json`; workers write runs."""

    @property
    def slots(self) -> int:
        """How many banks it takes at a time."""

    def prepare(self, model: str) -> None:
        """Make sure that a model can be used, before anything is recorded."""

    def submit(self, task: Task) -> None:
        """Take a bank; there is room for it."""

    def wait(self) -> None:
        """Work or wait until a bank ends, and pass on events meanwhile.

        Raises:
            LdcError: a bank could not be run.
        """

    def close(self) -> None:
        """Stop whatever is running."""
