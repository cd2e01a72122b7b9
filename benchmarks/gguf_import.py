"""`python -m benchmarks.gguf_import FILE ...`: import GGUF files and write `docs/benchmarks/gguf.md`.

For each file: the largest difference between the logits of the imported folder and of what transformers loads from the
file, and the perplexity of plain prose with BOS, without and with two of them. Nothing of the weights is kept in the
repository; `--folders` keeps the imported models where a second call finds them.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.console import say
from benchmarks.rows import today

OUT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
PROSE = """\
The village lies where two rivers meet, and for most of the year the road along the lower one is the only way in. \
Every spring the water rises over the meadows, and the children go to school by boat. The old ferryman, who has \
worked there for forty years, says that he remembers only two winters in which the ice was thick enough to walk \
on. His daughter keeps the inn at the end of the bridge. In summer it is full of people who have come to fish or \
to paint, and in the evenings they sit outside until the light is gone and talk about the weather, the price of \
bread, and what the new owner of the mill intends to do with it. Nobody knows, because he has not been seen since \
the day he bought it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Import, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a model in GGUF")
    parser.add_argument("--folders", type=Path, help="where imported models are kept (default: nowhere)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for gguf.json and gguf.md")
    options = parser.parse_args(arguments)
    for path in options.files:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(path, (options.folders or Path(folder)) / path.stem)
        say(
            f"{row['source']}: logits differ by {row['difference']:g}; perplexity {row['with_bos']} with BOS, "
            f"{row['without_bos']} without, {row['two_bos']} with two"
        )
        write(row, options.out)


def measure(path: Path, folder: Path) -> dict[str, Any]:
    """The row of one file; its model is imported into `folder` unless it is there."""
    from ldc.conversion.gguf import RECORD, import_gguf
    from ldc.progress import Silent

    if not (folder / RECORD).is_file():
        import_gguf(path, folder, Silent())
    facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return facts | {"measured": today()} | perplexities(folder)


def perplexities(folder: Path) -> dict[str, Any]:
    """Of the prose in float32: with BOS, without, and with two. All predict the same tokens, from the second on."""
    from ldc.models.load import load
    from ldc.study.schema import ModelSpec

    loaded = load("gguf", ModelSpec(source=str(folder)), Path(), torch.device("cpu"), torch.float32)
    ids = loaded.tokenizer(PROSE, add_special_tokens=False)["input_ids"]
    bos = loaded.tokenizer.bos_token_id
    found: dict[str, Any] = {"tokens": len(ids)}
    for name, count in (("with_bos", 1), ("without_bos", 0), ("two_bos", 2)):
        row = torch.tensor([[bos] * count + ids])
        with torch.no_grad():
            logits = loaded.model(input_ids=row, use_cache=False).logits[0, count:-1].float()
        nll = torch.nn.functional.cross_entropy(logits, row[0, count + 1 :])
        found[name] = round(math.exp(float(nll)), 2)
    return found


def write(row: dict[str, Any], out: Path) -> None:
    """Put a row into `gguf.json`, in place of that of the same file, and draw `gguf.md` anew."""
    path = out / "gguf.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = sorted([r for r in rows if r["sha256"] != row["sha256"]] + [row], key=lambda r: str(r["source"]))
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Models imported from GGUF",
        "",
        "Written by `python -m benchmarks.gguf_import FILE ...`. *Difference*: the largest absolute difference of",
        "logits between the imported folder and what transformers loads from the file. Perplexity: a paragraph of",
        "plain prose in the script, float32, the same predicted tokens in all columns.",
        "",
        "| file | architecture | parameters | stored as | difference | tokens | with BOS | without | two BOS | date |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        stored = ", ".join(f"{n} {kind}" for kind, n in sorted(r["stored"].items()))
        lines.append(
            f"| `{r['source']}` ({r['sha256'][:12]}) | {r['architecture']} | {r['parameters'] / 1e6:.1f} M | "
            f"{stored} | {r['difference']:g} | {r['tokens']} | {r['with_bos']} | {r['without_bos']} | {r['two_bos']} | "
            f"{r['measured']} |"
        )
    (out / "gguf.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
