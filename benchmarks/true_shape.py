"""A model at true shape through a whole study on this machine's CPU: does it go through, and was its memory foreseen?

Random weights of a published shape are written as bf16 shards, with a tokenizer of the full vocabulary, and all seven
regimes are trained for a few steps on a synthetic domain in a process of their own. Printed as one JSON record: the
peak resident memory of that process (VmHWM), the plan's prediction with its terms, and their ratio.

    python -m benchmarks.true_shape [--model meta-llama/Llama-3.2-1B] [--steps 2] [--length 64] [--folder PLACE]

Takes about 2.5 GB of disk and 10 GB of memory for the default.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

SHARD_BYTES = 600_000_000
BOS, EOS = 0, 1


def main() -> None:
    """Build, run in a process of its own, and print one JSON record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="meta-llama/Llama-3.2-1B")
    parser.add_argument("--folder", type=Path, help="where checkpoint and results go; kept (default: a temporary one)")
    for name, default in (("steps", 2), ("length", 64), ("batch", 1), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--part", choices=("all", "build", "run"), default="all", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "build":
        build(options.folder / "model", options.model)
    elif options.part == "run":
        sys.stdout.write(json.dumps(measured(options)) + "\n")
    else:
        with tempfile.TemporaryDirectory() as place:
            folder = options.folder or Path(place)
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "model" / "config.json").exists():
                _part("build", folder)
            sys.stdout.write(json.dumps(json.loads(_part("run", folder)), indent=1) + "\n")


def build(folder: Path, name: str, config: Any = None, seed: int = 0) -> None:
    """Write a random model of a known shape: bf16 shards with an index, and a tokenizer of all its tokens.

    The weights are never held together: each shard is drawn, written and forgotten.
    """
    import torch
    import transformers as hf
    from safetensors.torch import save_file

    from ldc.models.known import KNOWN

    config = config or hf.AutoConfig.for_model(**copy.deepcopy(KNOWN[name]))
    with torch.device("meta"):
        model = hf.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    shapes = {key: tuple(p.shape) for key, p in model.named_parameters()}
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    shards: list[dict[str, Any]] = [{}]
    held, weight_map = 0, {}
    for key, shape in shapes.items():
        if held and held + 2 * torch.Size(shape).numel() > SHARD_BYTES:
            save_file(shards[-1], _shard(folder, len(shards)), metadata={"format": "pt"})
            shards[-1] = {}
            shards.append({})
            held = 0
        norm = len(shape) == 1 and key.endswith("norm.weight") and "vision" not in key
        spread = torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, 0.02, generator=generator)
        shards[-1][key] = torch.ones_like(spread) if norm and "gemma" not in config.model_type else spread
        weight_map[key] = _shard(folder, len(shards)).name
        held += spread.nbytes
    save_file(shards[-1], _shard(folder, len(shards)), metadata={"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.save_pretrained(folder)
    tokenizer(config.get_text_config(decoder=True).vocab_size).save_pretrained(folder)


def tokenizer(vocabulary: int) -> Any:
    """A byte-level tokenizer of so many tokens, the 256 bytes spread over all of them."""
    import transformers as hf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    step = (vocabulary - 2) // len(alphabet)
    places = {2 + i * step: letter for i, letter in enumerate(alphabet)}
    vocab = {places.get(i, f"<unused{i}>"): i for i in range(2, vocabulary)} | {"<bos>": BOS, "<eos>": EOS}
    bpe = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(["<bos>", "<eos>"])
    return hf.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<bos>", eos_token="<eos>")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The study: one model, one synthetic domain, the seven regimes."""
    return {
        "name": "true-shape",
        "models": {"model": {"source": "./model", "dtype": options.dtype}},
        "domains": {"math": "embedded"},
        "training": {
            "steps": options.steps,
            "batch": options.batch,
            "accumulation": 1,
            "block_length": options.length,
            "trajectory": 1,
        },
        "evaluation": {"documents": 2, "characters": 100, "window": 64, "batch_tokens": 512},
    }


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run the study in this process and say what it took and what was foreseen."""
    import ldc
    from ldc.plan.cost import estimate
    from ldc.study.reading import read_study

    path = options.folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings(options)), encoding="utf-8")
    cost = estimate(read_study(path), "cpu")
    foreseen, terms = cost.models[0], cost.memory[0]
    began = time.perf_counter()
    results = ldc.run(path, options.folder / "out", device="cpu", threads=options.threads)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "model": options.model,
        "runs_done": sum(run.status == "done" for run in results.runs),
        "runs": len(results.runs),
        "regimes": sorted({run.regime for run in results.runs}),
        "seconds": round(time.perf_counter() - began, 1),
        "peak_bytes": peak,
        "foreseen_bytes": foreseen.memory_bytes,
        "terms": {k: v for k, v in vars(terms).items() if k.endswith("_bytes")},
        "foreseen_over_peak": round(foreseen.memory_bytes / peak, 3),
    }


def _shard(folder: Path, number: int) -> Path:
    return folder / f"model-{number:05}.safetensors"


def _part(part: str, folder: Path) -> str:
    given = [word for word in sys.argv[1:] if word != "--folder"]
    if "--folder" in sys.argv:
        given.remove(sys.argv[sys.argv.index("--folder") + 1])
    command = [sys.executable, __file__, *given, "--folder", str(folder), "--part", part]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
