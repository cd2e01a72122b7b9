"""Peak memory of studies over big text: one line of 200 MB, and a folder of 1 GB: `python -m benchmarks.big_text`.

Each case is an `ldc run` of two steps with the embedded Llama in a process of its own. It prints a line of JSON for
each: the exit code, the seconds, the peak of the process in bytes, and the last line of what it says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.console import say

STUDY = """models: {{tiny-llama: embedded}}
domains: {{notes: {{{domain}}}}}
regimes: [mlp]
selection: {{regime: mlp, measures: []}}
training: {{steps: 2, batch: 1, accumulation: 1, block_length: 64}}
evaluation: {{documents: 20, characters: 400}}
"""
CASES = {
    "one line, read whole": "train: line.jsonl, test: held-out.jsonl",
    "one line, no test file": "source: line.jsonl",
    "one line, a million characters": "train: line.jsonl, test: held-out.jsonl, characters: 1000000",
    "folder, no limit": "source: folder",
    "folder, a million characters": "source: folder, characters: 1000000",
    "folder, 100 million characters": "source: folder, characters: 100000000",
}
"""The domain of each case, as in a study file."""
PROGRAM = (
    "import resource, sys; from ldc.cli import main; code = main(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
)


def write(folder: Path, line_bytes: int = 206_000_000, folder_bytes: int = 1_000_000_000) -> None:
    """A line of JSON, a folder of plain text in files of 100 kB, and a small held-out file."""
    with (folder / "line.jsonl").open("w", encoding="ascii") as file:
        file.write('{"text": "')
        for start in range(0, line_bytes, 1_000_000):
            file.write(_words(start, min(1_000_000, line_bytes - start)).replace("\n", " "))
        file.write('"}\n')
    (folder / "folder").mkdir()
    size = min(100_000, folder_bytes)
    for number in range(folder_bytes // size):
        (folder / "folder" / f"{number:05}.txt").write_text(_words(number, size), encoding="ascii")
    rows = [json.dumps({"text": _words(10**9 + n, 600)}) for n in range(30)]
    (folder / "held-out.jsonl").write_text("\n".join(rows), encoding="ascii")


def _words(start: int, size: int) -> str:
    """So many characters of numbered sentences, other ones for each start."""
    count = size // 40 + 1
    return "".join(f"note {start} {n}: the otter counts {n * n} stones.\n" for n in range(count))[:size]


def measure(folder: Path, case: str) -> dict[str, Any]:
    """Run one case, and return what it took and said."""
    study = folder / "study.yaml"
    study.write_text(STUDY.format(domain=CASES[case]), encoding="utf-8")
    name = "out-" + case.replace(" ", "-").replace(",", "")
    command = [sys.executable, "-c", PROGRAM, "run", str(study), "-o", str(folder / name), "--threads", "1", "--quiet"]
    begun = time.perf_counter()
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    *said, peak = done.stderr.strip().splitlines()
    return {
        "case": case,
        "exit": done.returncode,
        "seconds": round(time.perf_counter() - begun, 1),
        "peak_bytes": 1024 * int(peak),
        "said": " ".join(said)[-300:],
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        write(Path(place))
        for case in CASES:
            say(json.dumps(measure(Path(place), case)))
