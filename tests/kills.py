"""`python tests/kills.py --kills N`: SIGKILLs at random moments of tiny studies, and whether their bytes are the same.

A round is one study in a new folder: it is started, killed after a random time, and started again until it ends by
itself. Then every file that holds a result is compared with those of a study that nobody disturbed. Some studies have
three legs, some are run by two worker processes. Figures are left out: they take most of the time, and the report draws
them anew from the tables.

With `--log FILE` the line of each round is appended to a file. The same command again goes on after its last line,
until the file has so many kills.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from study_setup import MiniStudy, mini_study, results

LLAMA = "transformers.models.llama.modeling_llama"
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    ["ldc.engine.kinds", "ldc.models.load", "ldc.report.figures", "ldc.report.leg_figure", LLAMA]
)
REPORT = "report: 0 of "
MOST_KILLS = 40
"""In one round; then the study is left alone."""


def study_with_legs(folder: Path) -> MiniStudy:
    """Two domains, all legs."""
    study = mini_study(folder, ("birds", "brooks"), ("all", "top1-mlp"))
    study.settings |= {
        "legs": ["adaptation", "representation", "causation"],
        "representation": {"documents": 12, "positions": 2},
        "causation": {"documents": 2, "draws": 1, "points": 2},
        "selection": {"measures": []},
    }
    return study.write()


def training_study(folder: Path) -> MiniStudy:
    """Two domains, five regimes, long enough for kills to fall into training."""
    study = mini_study(folder)
    study.settings["training"]["steps"] = 20
    return study.write()


STUDIES = {"training": training_study, "legs": study_with_legs}


def command(words: list[str], messages: Path) -> None:
    """What a process does: `ldc` with these words, its messages in a file."""
    from ldc.cli import main
    from ldc.plan import memory
    from ldc.report import figures, leg_figure

    figures.write_figures = lambda *_: []
    leg_figure.write_leg_figures = lambda *_: []
    memory.BANK_TOKENS = 32
    with messages.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.exit(main(words))


@dataclass
class Round:
    """What came of one study.

    Attributes:
        name: the study and how it was run.
        kills: how often it was killed.
        stored: the runs that were stored when it was killed, in order.
        same: whether its results are those of the undisturbed study.
        message: what it said in the end, if it did not end with 0.
    """

    name: str
    kills: int = 0
    stored: list[int] = field(default_factory=list)
    same: bool = False
    message: str = ""

    @property
    def line(self) -> str:
        """What the log says of it."""
        verdict = "the same bytes" if self.same else f"DIFFERENT {self.message!r}"
        return f"{self.name}: killed {self.kills} times, with {self.stored} runs stored: {verdict}"


LINE = re.compile(r"^(?P<name>\S+): killed (?P<kills>[0-9]+) times, with .* runs stored: (?P<same>the same bytes)?")


def logged(log: Path | None) -> list[Round]:
    """The rounds that a log tells of; none where it does not exist."""
    lines = log.read_text(encoding="utf-8").splitlines() if log and log.exists() else []
    found = [match for line in lines if (match := LINE.match(line))]
    return [Round(match["name"], int(match["kills"]), same=bool(match["same"])) for match in found]


def started(study: MiniStudy, out: Path, workers: int) -> tuple[Any, Path]:
    """A process at work on the study, and the file of its messages."""
    said = out.parent / f"{out.name}.txt"
    words = ["run", str(study.path), "-o", str(out), "--threads", "1", "--device", "cpu", "--workers", str(workers)]
    process = FORKS.Process(target=command, args=(words, said))
    process.start()
    return process, said


def ended(process: Any, seconds: float | None) -> int | None:
    """Its exit code, at most after `seconds`, when it is killed."""
    process.join(seconds)
    if process.exitcode is None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode


def play(
    study: MiniStudy, workers: int, usual: float, wanted: dict[str, str], chance: random.Random, name: str
) -> Round:
    """One round: kill until the study ends by itself.

    Args:
        usual: the seconds that the undisturbed study took up to its report.
        wanted: its results.
    """
    out, told = study.folder / f"out-{name}", Round(name)
    while True:
        left = None if told.kills == MOST_KILLS else chance.uniform(0.1, 1.2) * usual
        process, said = started(study, out, workers)
        code = ended(process, left)
        if code != -signal.SIGKILL:
            break
        told.kills += 1
        told.stored.append(sum(1 for path in out.glob("runs/*/*/*/*/run.json") if not path.parent.name.startswith(".")))
    told.message = "" if code == 0 else said.read_text(encoding="utf-8")[-300:]
    told.same = code == 0 and results(out) == wanted
    if told.same:
        shutil.rmtree(out)
    return told


def rounds(folder: Path, kills: int, seed: int, workers: int, kinds: list[str], number: int = 0) -> Iterator[Round]:
    """Rounds until there were so many kills.

    Args:
        number: that of the first round. Seed and number decide the moments of a round.

    Raises:
        RuntimeError: the undisturbed study did not end with 0.
    """
    made = {kind: STUDIES[kind](folder / kind) for kind in kinds}
    wanted, usual = {}, {}
    for kind, study in made.items():
        out, began = study.folder / "undisturbed", time.monotonic()
        process, said = started(study, out, workers)
        while process.is_alive() and REPORT not in (said.read_text(encoding="utf-8") if said.exists() else ""):
            time.sleep(0.01)
        usual[kind] = time.monotonic() - began
        if ended(process, None) != 0:
            raise RuntimeError(said.read_text(encoding="utf-8"))
        wanted[kind] = results(out)
    done = 0
    while done < kills:
        kind, chance = kinds[number % len(kinds)], random.Random(f"{seed}-{number}")
        told = play(made[kind], workers, usual[kind], wanted[kind], chance, f"{kind}-{workers}-{number}")
        done, number = done + told.kills, number + 1
        yield told


def main() -> int:
    """Print a line for each round and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", default="training,legs")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--log", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    told = logged(asked.log)
    left = asked.kills - sum(found.kills for found in told)
    for found in rounds(folder, left, asked.seed, asked.workers, asked.studies.split(","), len(told)):
        told.append(found)
        _say(found.line, asked.log)
    kills, other = sum(found.kills for found in told), sum(not found.same for found in told)
    _say(f"{kills} kills, seed {asked.seed}, workers {asked.workers}: {other} studies of other bytes", asked.log)
    return 1 if other else 0


def _say(line: str, log: Path | None) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    if log:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
