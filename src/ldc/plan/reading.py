"""How much of each domain's text a run reads in training, before any text is read. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ldc.domains.sufficiency import PASSES
from ldc.plan.flops import CHARACTERS_PER_TOKEN
from ldc.plan.runs import Run
from ldc.study.schema import Study


@dataclass(frozen=True)
class TextCost:
    """What one run reads of one domain in training; the size of the text is an estimate from its files.

    Attributes:
        domain: its name.
        training_characters: of its training split, about and at most.
        tokens_of_text: in these characters, about.
        tokens_of_a_run: that one run trains on; with `training.epochs` no more than these passes hold.
        passes: the tokens of a run over those of the text.
    """

    domain: str
    training_characters: int
    tokens_of_text: int
    tokens_of_a_run: int
    passes: float


def text_costs(study: Study, characters: Mapping[str, int]) -> list[TextCost]:
    """What one run reads of each domain whose size is known, in the study's order.

    Args:
        study: the study.
        characters: of the training split of each domain, as far as they are known.
    """
    asked, epochs = study.training.total_steps * study.training.tokens_per_step, study.training.epochs
    found = []
    for domain in study.domains:
        if count := characters.get(domain):
            held = max(1, int(count / CHARACTERS_PER_TOKEN))
            read = asked if epochs is None else min(asked, epochs * held)
            found.append(TextCost(domain, count, held, read, read / held))
    return found


def shares_read(study: Study, costs: Sequence[TextCost]) -> dict[str, float]:
    """For each domain in `costs` the share of the tokens asked for that a run trains on; below 1 under epochs."""
    asked = study.training.total_steps * study.training.tokens_per_step
    return {cost.domain: cost.tokens_of_a_run / asked for cost in costs}


def share_of_run(run: Run, shares: Mapping[str, float]) -> float:
    """The share of the tokens asked for that a run trains on: 1 unless it trains on a domain's own, bounded text."""
    text = getattr(run.spec, "text", None)
    bounded = "losses" in run.kind.tables and text is not None and text.source == "domain"
    return shares.get(run.id.domain, 1.0) if bounded else 1.0


def many_passes(costs: Sequence[TextCost]) -> list[str]:
    """A sentence for each domain whose text a run would read many times over."""
    return [
        f"{cost.domain}: {cost.tokens_of_a_run:,} tokens are about {cost.passes:.2g} passes over its training text "
        f"(more than {PASSES} learn it by heart); give more text, fewer tokens, or training.epochs"
        for cost in costs
        if cost.passes > PASSES
    ]
