"""`python -m ldc.models.tiny tokenizer|train|card`: make the embedded models from nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ldc.models.tiny.card import measure, write_card
from ldc.models.tiny.mixture import sources, stream
from ldc.models.tiny.pretrain import Recipe, pretrain
from ldc.models.tiny.shapes import CONFIGS
from ldc.models.tiny.tokenizer import train_tokenizer


def main() -> None:
    """The tokenizer both models share, then for each model its training and its card."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("task", choices=["tokenizer", "train", "card"])
    parser.add_argument("--model", choices=sorted(CONFIGS), default="tiny-llama")
    parser.add_argument("--corpora", type=Path, required=True, help="folder with general/, math/, ... as JSON lines")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--rows", type=int, default=Recipe.rows)
    parser.add_argument("--length", type=int, default=Recipe.length)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=Recipe.peak_learning_rate)
    parser.add_argument("--not-compiled", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = sources(options.corpora)
    folder = options.out / options.model
    if options.task == "card":
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
        held = measure(model, AutoTokenizer.from_pretrained(folder), texts)
        write_card(folder, options.model, model.num_parameters(), held)
        return
    if options.task == "tokenizer":
        train_tokenizer(stream(texts, Recipe.seed), documents=12_000).save_pretrained(options.out / "tokenizer")
        return
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(options.out / "tokenizer")
    recipe = Recipe(
        minutes=options.minutes,
        rows=options.rows,
        length=options.length,
        peak_learning_rate=options.learning_rate,
        compiled=not options.not_compiled,
    )
    model = pretrain(CONFIGS[options.model](), tokenizer, texts, recipe, folder, _say)
    torch.nn.Module.to(model, dtype=torch.float16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
