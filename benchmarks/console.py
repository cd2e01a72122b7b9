"""Where the benchmarks say what they do."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """A line on stderr, at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
