"""A worker process: `python -m ldc.execute.process OUT`, started by `ldc.execute.processes`.

The first line of its standard input says where the study's relative paths start and what to compute with; each further
line is a task. Events go to standard output, a line each. It ends with its input, or with the process that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from ldc.domains.registry import load_texts
from ldc.errors import LdcError, StoreError
from ldc.execute.tasks import Compute, Event, Task
from ldc.execute.worker import Emit, Worker
from ldc.models.folders import fingerprint, resolve_folder, tokenizer_fingerprint
from ldc.plan.variants import own_model
from ldc.progress import Silent
from ldc.state import StudyState

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serve tasks until there are none."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # other prints must not mix with events
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the conductor is interrupted too, and ends its workers
    die_with_parent()
    out, first = Path(sys.argv[1]), sys.stdin.readline()
    if not first:
        return 0
    hello = json.loads(first)
    server: Server | None = None
    for line in sys.stdin:
        task = Task.from_json(json.loads(line))
        try:
            server = server or Server(out, Path(hello["base"]), Compute(**hello["compute"]))
            server.serve(task, partial(_tell, events))
        except LdcError as error:
            _tell(events, Event("failed", task.bank.name, str(error), int(error.exit_code)))
            return int(error.exit_code)
    return 0


class Server:
    """A worker and what it has checked.

    Raises:
        StoreError: the text here differs from the text of the plan.
    """

    def __init__(self, out: Path, base: Path, compute: Compute) -> None:
        self.base = base
        self.state = StudyState.of(out)
        domains = {text.name: text for text in load_texts(self.state.study, base)}
        for name, text in domains.items():
            _same(f"the text of {name} differs", text.fingerprint, self.state.inputs.domains[name])
        self.worker = Worker(self.state, base, domains, compute, Silent())
        self._checked: set[str] = set()

    def serve(self, task: Task, emit: Emit) -> None:
        """Run one bank.

        Raises:
            StoreError: the weights or the tokenizer here differ from those of the plan.
            LdcError: as `Worker.run`.
        """
        model = own_model(task.bank.model)
        if model not in self._checked:
            spec, planned = self.state.study.models[model], self.state.inputs.models[model]
            folder = resolve_folder(model, spec, self.base)
            _same(f"the weights of {model} differ", fingerprint(folder, spec.trust_remote_code), planned.weights)
            _same(f"the tokenizer of {model} differs", tokenizer_fingerprint(folder), planned.tokenizer)
            self._checked.add(model)
        self.worker.run(task, emit)


def die_with_parent() -> None:
    """Ask the system to end this process together with its parent, even if the parent is killed. Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _tell(events: TextIO, event: Event) -> None:
    data: dict[str, Any] = event.as_json()
    events.write(json.dumps(data) + "\n")
    events.flush()


def _same(what: str, found: str, planned: str) -> None:
    if found != planned:
        raise StoreError(f"{what} from the plan; run the study again on the machine with its files")


if __name__ == "__main__":
    raise SystemExit(main())
