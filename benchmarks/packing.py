"""Microseconds a token for one long document, from text to training rows: `python -m benchmarks.packing`.

The embedded tokenizer reads the package's own python text, joined to one document of 40,000, 160,000 and 640,000
tokens. Tokenising is told apart from packing. Each number is the least of three; one thread; half a minute.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

TOKENS = (40_000, 160_000, 640_000)
LENGTH = 256


def main() -> None:
    """Measure and print a table in Markdown."""
    from benchmarks.console import say
    from benchmarks.machine import record

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS, help="tokens of the document")
    options = parser.parse_args()
    facts = record()
    say(f"{facts['date']}; {facts['cpu'] or 'cpu'}; load average at the start {facts['load_average_at_start']}")
    versions = f"transformers {facts['versions']['transformers']}, tokenizers {tokenizers_version()}"
    say(f"Python {platform.python_version()}, {versions}")
    say("")
    say("| tokens | characters | tokenising, us a token | packing, us a token | a row of 256, ms |")
    say("|---:|---:|---:|---:|---:|")
    for tokens in options.tokens:
        say(row(tokens))


def row(tokens: int) -> str:
    """One line of the table, for a document of so many tokens."""
    from ldc.domains.document import Document
    from ldc.domains.encoding import Encoder
    from ldc.domains.packing import rows

    tokenizer, text = _tokenizer(), _text(tokens)
    encoder = Encoder(tokenizer)
    document = Document("d", text)
    tokenising = least(lambda: Encoder(tokenizer).encode(document))
    count = len(encoder.kept(document).ids)
    read = count // LENGTH - 1
    packing = least(lambda: list(islice(rows([document], encoder, LENGTH, "d", 0), read)))
    a_token = packing / (read * LENGTH)
    return (
        f"| {count:,} | {len(text):,} | {1e6 * tokenising / count:.2f} | {1e6 * a_token:.2f} | "
        f"{1e3 * LENGTH * a_token:.3f} |"
    )


def least(work: Callable[[], object], tries: int = 3) -> float:
    """The least processor seconds of several tries."""
    found = []
    for _ in range(tries):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def tokenizers_version() -> str:
    """The version of the library that tokenises."""
    import tokenizers

    return str(tokenizers.__version__)


def _tokenizer() -> Any:
    from pathlib import Path

    import transformers as hf

    import ldc

    return hf.AutoTokenizer.from_pretrained(Path(ldc.__file__).parent / "models" / "embedded" / "tiny-llama")


def _text(tokens: int) -> str:
    """Text of about so many tokens: 2.9 characters each."""
    from ldc.domains.embedded import embedded_domain

    whole = "\n\n".join(d.text for d in embedded_domain("python").train)
    wanted = int(2.9 * tokens)
    return (whole * (wanted // len(whole) + 1))[:wanted]


if __name__ == "__main__":
    main()
