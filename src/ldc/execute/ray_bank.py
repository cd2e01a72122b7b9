"""What a Ray task does: it computes one bank in a process of its own, or describes the machine it runs on.

What comes in and goes out is JSON text. The results are in the study's folder, which every node has to see.
"""

from __future__ import annotations

import json
import socket
from dataclasses import asdict
from pathlib import Path

from ldc.errors import EnvironmentFault, LdcError
from ldc.execute.tasks import Compute, Event, Task
from ldc.plan.machine import find_machine
from ldc.system import wait_passively


def run_bank(out: str, base: str, compute: str, task: str) -> str:
    """Compute a bank and store its runs.

    Args:
        out: the study's folder.
        base: the folder that relative paths of the study start from.
        compute: a `Compute`.
        task: a `Task`.

    Returns:
        What there is to tell: `say` and `halved` events, and at the end `failed` if LDC itself refused the bank.
    """
    wait_passively()
    from ldc.execute.process import Server

    bank, events = Task.from_json(json.loads(task)), list[Event]()
    try:
        if not Path(out).is_dir():
            raise EnvironmentFault(
                f"{socket.gethostname()} does not see {out}; the study's folder must be one that all nodes share"
            )
        Server(Path(out), Path(base), Compute(**json.loads(compute))).serve(bank, events.append)
    except LdcError as error:
        events.append(Event("failed", bank.bank.name, str(error), int(error.exit_code)))
    return json.dumps([event.as_json() for event in events if event.what in ("say", "halved", "failed")])


def describe(device: str) -> str:
    """The device that a task has here, as a `Machine`."""
    return json.dumps(asdict(find_machine(device)))
