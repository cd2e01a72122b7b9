"""`ldc norms` and `ldc diff` at true shape: how long they take to begin, what memory they need, whether they are right.

An adapter of rank 16 over every projection of Llama 3.2 3B, and a pair of checkpoints of Llama 3.2 1B in bf16, all
random and synthetic, are written to a folder and read by the commands in processes of their own. Printed as one JSON
record. What norms need beyond the import of numpy and safetensors is the difference of medians of interleaved starts.

    python -m benchmarks.from_files [--pairs 5]

Takes about 5 GB of disk and some minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import true_shape

RANK, ALPHA = 16, 32
ADAPTER, CHECKPOINT = "meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.2-1B"


def main() -> None:
    """Build, measure and print one JSON record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_adapter(folder / "adapter")
        record = {"norms": norms(folder / "adapter", options.pairs)}
        for name, seed in (("base", 0), ("tuned", 1)):
            true_shape.build(folder / name, CHECKPOINT, seed=seed)
        record["diff"] = diff(folder / "base", folder / "tuned")
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


def write_adapter(folder: Path) -> None:
    """A random adapter in PEFT's format, over every projection of the shape."""
    from ldc.models.known import KNOWN
    from ldc.models.shapes import shape_of
    from ldc.store.adapter import peft_config, write_adapter
    from ldc.study.schema import AdapterSpec

    components = shape_of(KNOWN[ADAPTER], ADAPTER).components
    source = np.random.default_rng(0)
    factors = {
        c.path: (
            source.standard_normal((RANK, c.d_in), dtype=np.float32),
            source.standard_normal((c.d_out, RANK), dtype=np.float32),
        )
        for c in components
    }
    write_adapter(folder, peft_config(components, AdapterSpec(rank=RANK, alpha=ALPHA), ADAPTER, None), factors)


def norms(adapter: Path, pairs: int) -> dict[str, Any]:
    """Seconds of `ldc norms`, and of an interpreter that imports numpy and safetensors alone, turn by turn."""
    command = [sys.executable, "-m", "ldc", "norms", str(adapter), "--json"]
    imports = [sys.executable, "-c", "import numpy, safetensors.numpy"]
    seconds: dict[str, list[float]] = {"norms": [], "imports": []}
    for _ in range(pairs):
        for name, words in (("norms", command), ("imports", imports)):
            began = time.perf_counter()
            subprocess.run(words, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - began)
    beyond = [a - b for a, b in zip(seconds["norms"], seconds["imports"], strict=True)]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"]
    return {
        "adapter": f"{ADAPTER} shapes, rank {RANK}, {len(rows)} modules",
        "seconds": round(statistics.median(seconds["norms"]), 3),
        "imports_seconds": round(statistics.median(seconds["imports"]), 3),
        "beyond_imports": {
            "median": round(statistics.median(beyond), 3),
            "low": round(min(beyond), 3),
            "high": round(max(beyond), 3),
        },
    }


def diff(base: Path, tuned: Path) -> dict[str, Any]:
    """Peak memory and seconds of `ldc diff`, and its largest relative error against norms computed in memory here."""
    code = (
        "import resource, sys; from ldc.cli import main; "
        f"code = main({['diff', str(base), str(tuned), '--json']}); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    rows = {row["path"]: row["frobenius"] for row in json.loads(done.stdout)["rows"]}
    wanted = in_memory(base, tuned)
    shared = rows.keys() & wanted.keys()
    return {
        "pair": f"{CHECKPOINT} shapes, bf16 shards",
        "modules": len(rows),
        "compared_here": len(shared),
        "largest_relative_error": max(abs(rows[m] - wanted[m]) / (wanted[m] or 1.0) for m in shared),
        "peak_bytes": 1024 * int(done.stderr.splitlines()[-1]),
        "seconds": round(seconds, 1),
        "peak_bytes_of_this_process": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def in_memory(base: Path, tuned: Path) -> dict[str, float]:
    """The norm of the difference of every weight, both read whole by safetensors and torch, in float64."""
    import torch
    from safetensors import safe_open

    index = json.loads((base / "model.safetensors.index.json").read_text())["weight_map"]
    found = {}
    for name, shard in index.items():
        with safe_open(base / shard, "pt") as one, safe_open(tuned / shard, "pt") as other:
            difference = other.get_tensor(name).double() - one.get_tensor(name).double()
        found[name] = float(torch.linalg.vector_norm(difference))
    return found


if __name__ == "__main__":
    main()
