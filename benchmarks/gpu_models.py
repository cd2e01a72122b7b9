"""The origin's models at true shape on one GPU, one a call: both stages, some hundred steps, memory against the plan.

Random bf16 weights are written to disk and loaded as any checkpoint is. Printed, and written where -o says, as one JSON
record: what became of the runs, tokens per second, peak memory of the device and the plan's prediction with its terms.

    python -m benchmarks.gpu_models meta-llama/Llama-3.2-1B -o llama-1b.json
    python -m benchmarks.gpu_models google/gemma-3-4b-pt --precision nf4 --steps 50

Needs the model's bf16 size of disk. --smoke takes a small model of the same make to the CPU, to try the script.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers as hf
import yaml

from benchmarks.true_shape import build
from ldc.models.known import KNOWN

DOMAINS = ("math", "finance")


def main() -> None:
    """Measure one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(KNOWN))
    parser.add_argument("--precision", choices=("bfloat16", "float32", "nf4"), default="bfloat16")
    for name, default in (("steps", 200), ("batch", 2), ("length", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path, help="where checkpoint and results go; kept (default: a temporary one)")
    parser.add_argument("--smoke", action="store_true", help="a small model of the same make, on the CPU")
    parser.add_argument("-o", "--out", type=Path, help="where the record goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"model": options.model, "precision": options.precision, "smoke": options.smoke} | (
            {"skipped": "bitsandbytes is not installed"}
            if options.precision == "nf4" and find_spec("bitsandbytes") is None
            else measured(options, folder)
        )
    text = json.dumps(record, indent=1) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Build the checkpoint, run the study, and say what it took and what was foreseen."""
    import ldc
    from ldc.plan.cost import estimate
    from ldc.study.reading import read_study

    device = "cpu" if options.smoke else "cuda"
    fields = copy.deepcopy(KNOWN[options.model])
    config = hf.AutoConfig.for_model(**(small(fields) if options.smoke else fields))
    began = time.perf_counter()
    build(folder / "model", options.model, config)
    built = time.perf_counter() - began
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings(options)), encoding="utf-8")
    cost = estimate(read_study(path), device)
    (terms,) = [m for m in cost.memory if m.precision == options.precision]
    began = time.perf_counter()
    results = ldc.run(path, folder / "out", device=device)
    seconds = time.perf_counter() - began
    peak = peak_bytes(device)
    failed = [f"{run.regime}: {run.status}: {run.detail}" for run in results.runs if run.status != "done"]
    s = results.norms[results.norms["step"] == options.steps]["frobenius"]
    return {
        "device": cost.device,
        "torch": torch.__version__,
        "runs": len(results.runs),
        "not_done": failed,
        "steps": options.steps,
        "training_tokens": cost.training_tokens,
        "build_seconds": round(built, 1),
        "study_seconds": round(seconds, 1),
        "foreseen_seconds": round(cost.time_seconds, 1),
        "smallest_s": float(s.min()),
        "peak_bytes": peak,
        "foreseen_bytes": terms.total_bytes,
        "foreseen_over_peak": round(terms.total_bytes / peak, 3),
        "terms": {k: v for k, v in vars(terms).items() if k.endswith("_bytes") or k == "bank_runs"},
    }


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The study: one model, two synthetic domains, the seven regimes."""
    return {
        "name": "gpu-models",
        "models": {"model": {"source": "./model", "dtype": options.precision}},
        "domains": dict.fromkeys(DOMAINS, "embedded"),
        "training": {
            "steps": options.steps,
            "batch": options.batch,
            "accumulation": 1,
            "block_length": options.length,
            "trajectory": 1,
        },
        "evaluation": {"documents": 20, "characters": 1000, "window": 512},
    }


def small(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of the same make, small in every width and depth."""
    less = {
        "vocab_size": 1_024,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "sliding_window": 64,
    }
    out = copy.deepcopy(config)
    text = out.get("text_config", out)
    text.update({key: value for key, value in less.items() if key in text})
    if "vision_config" in out:
        vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
        out["vision_config"] |= vision | {"image_size": 28}
        out |= {
            "mm_tokens_per_image": 4,
            "image_token_index": 1_023,
            "boi_token_index": 1_022,
            "eoi_token_index": 1_021,
        }
    return out


def peak_bytes(device: str) -> int:
    """On a GPU: what torch reserved at most, and what lies beside it (the context); else the largest resident set."""
    if device == "cpu":
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    free, total = torch.cuda.mem_get_info()
    beside = total - free - torch.cuda.memory_reserved()
    return torch.cuda.max_memory_reserved() + beside


if __name__ == "__main__":
    main()
