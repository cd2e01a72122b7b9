"""When a text is too little for what a study does with it."""

from __future__ import annotations

import math

from ldc.domains.document import DomainText
from ldc.study.schema import TrainingSpec

TEST_DOCUMENTS = 20
PASSES = 5
CHARACTERS_PER_TOKEN = 4.0


def too_little(train: int, test: int, passes: float) -> list[str]:
    """What a text has too little of; nothing if it has enough.

    Args:
        train: its training documents.
        test: its test documents.
        passes: how often its training text is read; NaN if that is not known.
    """
    told = []
    if test < TEST_DOCUMENTS:
        told.append(f"only {test} test document{'s' * (test != 1)} (intervals want {TEST_DOCUMENTS} or more)")
    if train < TEST_DOCUMENTS:
        told.append(f"only {train} training document{'s' * (train != 1)}")
    if not math.isnan(passes) and passes > PASSES:
        told.append(f"about {passes:.2g} passes over its training text (more than {PASSES} learn it by heart)")
    return told


def warnings(text: DomainText, training: TrainingSpec) -> list[str]:
    """Sentences for the user before a study begins on a text, if it is too little. A token counts as 4 characters."""
    tokens = training.total_steps * training.tokens_per_step
    passes = tokens * CHARACTERS_PER_TOKEN / max(1, sum(len(d.text) for d in text.train))
    told = too_little(len(text.train), len(text.test), min(passes, training.epochs or math.inf))
    return [f"{text.name}: {'; '.join(told)}"] if told else []
