"""The executor that runs banks in this process, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ldc.execute.tasks import Event, Task
from ldc.execute.worker import Worker


class Here:
    """One bank at a time, with the conductor's own worker.

    Args:
        worker: has the study and its text.
        handle: told every event.
    """

    slots = 1

    def __init__(self, worker: Worker, handle: Callable[[Event], None]) -> None:
        self.worker, self.handle = worker, handle
        self._waiting: deque[Task] = deque()

    def prepare(self, model: str) -> None:
        """Load the model."""
        self.worker.open(model)

    def submit(self, task: Task) -> None:
        """Take a bank."""
        self._waiting.append(task)

    def wait(self) -> None:
        """Run the next bank."""
        self.worker.run(self._waiting.popleft(), self.handle)

    def close(self) -> None:
        """Do nothing: nothing is running."""
