"""The terminal: the only module that writes to it. Data goes to stdout, messages and progress to stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from textwrap import TextWrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    stdout: Console
    stderr: Console

LONGEST_LINE = 2000
"""Characters of a line of an error."""
PLAIN_SECONDS = 10.0
"""Away from a terminal, the longest wait for a line of progress in a short stage."""


def __getattr__(name: str) -> object:
    """`stdout` and `stderr`, made when first asked for: rich takes longer to import than most commands to run."""
    if name in ("stdout", "stderr"):
        return _console(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@lru_cache(maxsize=2)
def _console(name: str) -> Console:
    from rich.console import Console

    return Console(stderr=name == "stderr", highlight=False, markup=False, emoji=False)


def say(message: str) -> None:
    """A message for the user."""
    _console("stderr").print(_fitted(message), soft_wrap=True)


def complain(message: str) -> None:
    """An error, as it stands."""
    from rich.text import Text

    head = "ldc: error: "
    text = Text(_fitted(head + "\n".join(map(_shortened, message.split("\n")))))
    text.stylize("bold red", 0, len(head))
    _console("stderr").print(text, soft_wrap=True)


def _shortened(line: str) -> str:
    """A line of a message without its middle, if it quotes a name or value of thousands of characters."""
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"


def _fitted(message: str) -> str:
    """Lines cut between words to a terminal's width, the rest of each set in; elsewhere left whole."""
    lines = printable(message).split("\n")
    console = _console("stderr")
    if not console.is_terminal:
        return "\n".join(lines)
    wrapper = TextWrapper(console.width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.fill(line) for line in lines)


def put(text: str) -> None:
    """A line of data, never wrapped."""
    _console("stdout").print(printable(text), soft_wrap=True)


def put_json(data: object) -> None:
    """Data as JSON; what is neither number, text, list nor mapping becomes text, and NaN null. Characters that could
    hide or turn round what follows are escaped."""
    text = json.dumps(_jsonable(data), indent=2, ensure_ascii=False, allow_nan=False)
    shown = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    _console("stdout").out(shown, highlight=False)


def put_table(rows: Sequence[Mapping[str, object]], title: str = "", header: bool = True) -> None:
    """Records as a table: on a terminal fitted to its width, elsewhere with columns as wide as they need to be."""
    from rich.table import Table

    console = _console("stdout")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not console.is_terminal:
        put("\n".join(([title] if title else []) + _aligned(rows, columns, header)))
        return
    table = Table(
        title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold", show_header=header
    )
    for name in columns:
        table.add_column(name, justify="right" if _is_numeric(rows, name) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(printable(shown(row.get(name))) for name in columns))
    console.print(table)


def _aligned(rows: Sequence[Mapping[str, object]], columns: Sequence[str], header: bool) -> list[str]:
    """The lines of a table whose columns are as wide as they need to be; hundreds of rows take rich half a second."""
    from rich.cells import cell_len

    cells = [[printable(shown(row.get(name))).replace("\n", " ") for name in columns] for row in rows]
    cells = ([list(columns)] if header else []) + cells
    widths = [max((cell_len(line[i]) for line in cells), default=0) for i in range(len(columns))]
    numeric = [_is_numeric(rows, name) for name in columns]
    lines = []
    for line in cells:
        gaps = [" " * (width - cell_len(text)) for text, width in zip(line, widths, strict=True)]
        parts = (gap + text if right else text + gap for text, gap, right in zip(line, gaps, numeric, strict=True))
        lines.append("  ".join(parts).rstrip())
    return lines


def _is_numeric(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    return all(isinstance(row.get(name), (int, float, type(None))) for row in rows)


def printable(text: str) -> str:
    """Text without control characters, which could move the cursor or hide what follows; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def shown(value: object) -> str:
    """A value in a table: numbers short, nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    """Seconds as `8 s`, `2:05` or `1:02:05`; from ten hours on as `31 h`, from four days on as `9 days`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if hours >= 96:
        return f"{round(whole / 86400):,} days"
    if hours >= 10:
        return f"{round(whole / 3600)} h"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def size(count: float) -> str:
    """Bytes in units of 1000, as `1.2 GB`."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB", "PB"))


def magnitude(count: float) -> str:
    """A count in units of 1000, as `3.4 G`."""
    return _scaled(count, ("", "k", "M", "G", "T", "P", "E", "Z"))


def _scaled(count: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}".rstrip()
        count /= 1000
    return f"{count:.3g} {units[-1]}"


def _jsonable(data: object) -> Any:
    if isinstance(data, Mapping):
        return {str(k): _jsonable(v) for k, v in data.items()}
    if isinstance(data, float):
        return data if data - data == 0 else None
    if data is None or isinstance(data, (str, int)):
        return data
    if isinstance(data, Iterable):
        return [_jsonable(v) for v in data]
    return str(data)


class ConsoleProgress:
    """Progress on stderr: one bar per stage on a terminal, plain lines elsewhere, nothing if quiet.

    A context manager: leaving it ends the last stage and gives the terminal back.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._name = ""
        self._total = self._done = self._tokens = 0
        self._begun = self._told = 0.0
        self._told_done = 0
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(finished=kind is None)
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def stage(self, name: str, total: int) -> None:
        """End the stage before, if any, and begin one."""
        self._end()
        self._name, self._total, self._done, self._tokens = name, total, 0, 0
        self._begun = self._told = time.monotonic()
        self._told_done = 0
        if self.quiet:
            return
        if not _console("stderr").is_terminal:
            say(f"{name}: 0 of {total:,}")
            return
        if self._bars is None:
            self._bars = _bars(_console("stderr"))
            self._bars.start()
        self._task = self._bars.add_task(printable(name), total=total or None, rate="")

    def advance(self, units: int, tokens: int = 0) -> None:
        """Count work as done, and show it if that is due."""
        self._done += units
        self._tokens += tokens
        if self.quiet or not self._name:
            return
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=units, rate=self._rate())
            return
        now = time.monotonic()
        seconds, share = now - self._told, (self._done - self._told_done) / max(1, self._total)
        patience = max(PLAIN_SECONDS, (now - self._begun) / 20)
        if self._done < self._total and (seconds >= patience or (share >= 0.1 and seconds >= 1)):
            self._told, self._told_done = now, self._done
            say(", ".join(filter(None, (self._count(), self._rate(), self._left(now - self._begun)))))

    def say(self, message: str) -> None:
        """A line above the bar."""
        if not self.quiet:
            say(message)

    def _count(self) -> str:
        return f"{self._name}: {self._done:,} of {self._total:,} ({self._done / max(1, self._total):.0%})"

    def _rate(self) -> str:
        seconds = time.monotonic() - self._begun
        return f"{self._tokens / seconds:,.0f} tokens/s" if self._tokens and seconds > 0 else ""

    def _left(self, seconds: float) -> str:
        left = self._total - self._done
        return f"{duration(seconds / self._done * left)} left" if self._done and left > 0 else ""

    def _end(self, finished: bool = True) -> None:
        """Close the running stage: its bar stays where it stands, its last line says how long it took."""
        name, self._name = self._name, ""
        if self.quiet or not name:
            return
        seconds = time.monotonic() - self._begun
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, refresh=True)
            self._bars.stop_task(self._task)
            self._task = None
            return
        word = "done in" if finished and self._done >= self._total else "stopped after"
        parts = (f"{name}: {self._done:,} of {self._total:,} {word} {duration(seconds)}", self._rate())
        say(", ".join(filter(None, parts)))


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        expand=True,
    )
