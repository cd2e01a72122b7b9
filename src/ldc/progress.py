"""What long work says of itself while it runs; the console decides how that looks."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receiver of progress. All calls are cheap and none may fail."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` units of work begins; the one before it is over."""

    def advance(self, units: int, tokens: int = 0) -> None:
        """`units` of the stage are done, over `tokens` tokens of text."""

    def say(self, message: str) -> None:
        """One line that is worth reading whatever the display."""


class Silent:
    """Progress for nobody: scripts and tests."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, units: int, tokens: int = 0) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""
