"""A domain's text with the words of each document in random order: what remains of a domain is its words."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import replace

from ldc.domains.document import Document, DomainText

_WORDS = re.compile(r"\s+|\S+")


def shuffled_words(text: DomainText) -> DomainText:
    """The same documents with their words in random order, in every split.

    White space stays where it is, so a document keeps its lines and nearly its length in tokens. The words of a prompt
    stay in the prompt. The order depends only on the document's text.
    """
    digest = hashlib.blake2b(f"words in random order:{text.fingerprint}".encode(), digest_size=16).hexdigest()
    return replace(
        text,
        train=tuple(map(_shuffled, text.train)),
        validation=tuple(map(_shuffled, text.validation)),
        test=tuple(map(_shuffled, text.test)),
        fingerprint=digest,
    )


def _shuffled(document: Document) -> Document:
    end = document.prompt_characters
    text = _mixed(document.text[:end]) + _mixed(document.text[end:])
    return Document(document.source, text, end)


def _mixed(text: str) -> str:
    pieces = _WORDS.findall(text)
    places = [i for i, piece in enumerate(pieces) if not piece[0].isspace()]
    words = [pieces[i] for i in places]
    random.Random(hashlib.blake2b(text.encode(), digest_size=8).digest()).shuffle(words)
    for place, word in zip(places, words, strict=True):
        pieces[place] = word
    return "".join(pieces)
