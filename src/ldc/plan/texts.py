"""The training text of a run, in a seed's order: a domain's text, a mixture of domains, or samples of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ldc.plan.variants import Variant
from ldc.study.schema import Study

OWN = "own"
"""The name, in place of a domain's, of the text that a model itself writes."""
Source = Literal["domain", "general", "samples"]


@dataclass(frozen=True, slots=True)
class Text:
    """Everything that decides the rows of a run and their order.

    Attributes:
        domain: the domain; of `general` text the one that is left out of the mixture; of `samples` `own`.
        seed: of the order of documents; of samples of their random numbers.
        shuffled: whether the tokens of each document are in random order.
        source: a domain of the study, other domains mixed (`general_domains`), or samples of a model.
        teacher: the taught variant that writes the samples; None for the study's own model.
    """

    domain: str
    seed: int
    shuffled: bool = False
    source: Source = "domain"
    teacher: Variant | None = None

    @property
    def name(self) -> str:
        """The domain's name in a run that reads this text."""
        if self.teacher is not None:
            return self.teacher.name
        return f"general.{self.domain}" if self.source == "general" else self.domain

    def __str__(self) -> str:
        return f"{self.name}#{self.seed}" + ("~" if self.shuffled else "")


def general_domains(study: Study, but: str) -> tuple[str, ...]:
    """The texts that are mixed to general text for a text: those marked as references if there are any, else all texts
    of other domains. Another source of the same domain is none of them."""

    def domain(name: str) -> str:
        return (study.domains[name].domain if name in study.domains else None) or name

    others = [name for name in study.domains if domain(name) != domain(but)]
    marked = [name for name in others if study.domains[name].reference]
    return tuple(marked or others)
