"""Names and values from a user's data as a message quotes them: short, on one line, and printable."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

NAME_CHARACTERS = 80
PATH_CHARACTERS = 300
REASON_CHARACTERS = 300
NAMES = 12


def quoted(value: object) -> str:
    """A name in quotation marks; of a long one the beginning and how long it is."""
    text = str(value)
    if len(text) <= NAME_CHARACTERS:
        return repr(text)
    return f"{text[:NAME_CHARACTERS]!r}... ({len(text):,} characters)"


def shown(name: object) -> str:
    """A name as it stands, if it is short and printable; otherwise as `quoted`."""
    text = str(name)
    return text if len(text) <= NAME_CHARACTERS and text.isprintable() else quoted(text)


def place(path: Path | str) -> str:
    """A path; of a long one the end."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= PATH_CHARACTERS else f"...{text[-PATH_CHARACTERS:]} ({len(text):,} characters)"


def reason(error: object) -> str:
    """What a library says of an error: its first line that says anything, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]}..."


def listed(names: Iterable[str]) -> str:
    """The first few of several, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - NAMES:,} more" if len(every) > NAMES else ""
    return ", ".join(every[:NAMES]) + more


def without_text(count: int, of: int | None = None) -> str:
    """How many records have no text: `3 of 90 records have no text`."""
    many = f"{count:,} of {of:,}" if of is not None else f"{count:,}"
    return f"{many} record{'s' if (of or count) != 1 else ''} {'has' if count == 1 else 'have'} no text"
