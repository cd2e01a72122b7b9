"""The card of an embedded model: what it is, what it learned from, and how well, on text it has not seen."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldc.domains.encoding import Encoder
from ldc.domains.windows import held_out
from ldc.engine.bank import Bank, Base
from ldc.engine.evaluate import PT, score
from ldc.models.layout import find_layout
from ldc.models.tiny.mixture import Source

DOCUMENTS, CHARACTERS, WINDOW = 60, 2_000, 256
UNIGRAM_DOCUMENTS = 1_500

ATTRIBUTIONS = Path(__file__).with_name("attributions.md")


@dataclass(frozen=True)
class Held:
    """Held-out figures for one text, all in bits per byte: the model's, and those of its tokens' frequencies alone."""

    name: str
    documents: int
    bytes: int
    bits_per_byte: float
    unigram_bits_per_byte: float


def measure(model: Any, tokenizer: Any, texts: Sequence[Source]) -> list[Held]:
    """Score the test split of every text, and the same text under the unigram distribution of its training split."""
    bank = Bank(Base.of(model, find_layout(model)), [], rank=1, scaling=1.0)
    encoder = Encoder(tokenizer)
    out = []
    for text in texts:
        held = held_out(text.test, encoder, DOCUMENTS, CHARACTERS, WINDOW)
        nll = score(bank, held.windows, [], batch_tokens=4_096, pt=True)[PT]
        size = sum(held.bytes)
        counts = Counter(i for d in text.train[:UNIGRAM_DOCUMENTS] for i in encoder.encode(d).ids)
        total = sum(counts.values()) + len(tokenizer)
        scored = [t for w in held.windows for t, counted in zip(w.tokens, w.scored, strict=True) if counted]
        unigram = -sum(math.log((counts[t] + 1) / total) for t in scored)
        bits = 1.0 / (math.log(2) * size)
        out.append(Held(text.name, len(held.sources), size, float(np.sum(nll)) * bits, unigram * bits))
    return out


def write_card(folder: Path, name: str, parameters: int, held: Sequence[Held]) -> None:
    """Write `README.md` beside the weights, from the measurements and `training.json`."""
    training = json.loads((folder / "training.json").read_text())
    recipe, curve = training["recipe"], training["curve"]
    every = max(1, len(curve) // 16)
    family = {"tiny-llama": "Llama 3.2", "tiny-gemma": "Gemma 3 (text)"}[name]
    lines = [
        "---",
        "license: apache-2.0",
        "language: en",
        "library_name: transformers",
        "tags: [layer-domain-control, tiny]",
        "---",
        "",
        f"# {name}",
        "",
        f"A base model of {parameters / 1e6:.2f} M parameters in the architecture of {family}, 12 layers, trained "
        "from nothing on a CPU by `python -m ldc.models.tiny`. It exists so that LDC can be tried, tested and timed "
        "without a download. It is no good for anything else: it writes plausible-looking nonsense. The weights are "
        "stored in float16.",
        "",
        "## Held-out text",
        "",
        f"Bits per byte (lower is better) on up to {DOCUMENTS} documents of each test split, their first "
        f"{CHARACTERS:,} characters, in windows of {WINDOW} tokens. *Unigram* is what the frequencies of its tokens "
        "alone (from the training split) would give: a model that has learned no context at all.",
        "",
        "| text | documents | bytes | bits per byte | unigram |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {h.name} | {h.documents} | {h.bytes:,} | {h.bits_per_byte:.3f} | {h.unigram_bits_per_byte:.3f} |"
            for h in held
        ),
        "",
        "## Training",
        "",
        f"{curve[-1]['tokens']:,} tokens in {curve[-1]['step']:,} steps of {recipe['rows']} x {recipe['length']} "
        f"tokens, {curve[-1]['minutes']:.0f} minutes on one core; AdamW, peak learning rate "
        f"{recipe['peak_learning_rate']:g}, seed {recipe['seed']}. Training loss in nats per token "
        "(mean over 50 steps; all of it in `training.json`):",
        "",
        "| step | tokens | loss |",
        "|---:|---:|---:|",
        *(f"| {p['step']:,} | {p['tokens']:,} | {p['loss']:.3f} |" for p in [*curve[::every], curve[-1]]),
        "",
        "## What it learned from",
        "",
        "The general mix (40 % of the characters), four real corpora (34 % together) and the training splits of the "
        "package's six embedded domains (26 % together).",
        "",
        ATTRIBUTIONS.read_text(encoding="utf-8"),
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
