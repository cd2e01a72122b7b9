"""What a regime's name says of it, and which seeds rank and which validate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ldc.study.schema import Study

_CHOSEN = re.compile(r"^(top|bottom|foreign|random|first|last|spaced)([1-9][0-9]*)-(attn|mlp)(?:\.(.+))?$")
_SOLO = re.compile(r"^solo-(attn|mlp)\.([0-9]+)$")
CONTROLS = ("random", "bottom", "first", "last", "spaced", "foreign")
"""The ways of choosing layers against which the top of the ranking is held."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A run's regime taken apart: `foreign3-mlp.cpp` is foreign, 3, mlp, cpp; `solo-mlp.07` is solo, 1, mlp, 07."""

    way: str
    count: int
    block: str
    member: str = ""


def arm(regime: str) -> Arm | None:
    """The arm of a name; None for one whose layers are not chosen."""
    if match := _CHOSEN.match(regime):
        return Arm(match[1], int(match[2]), match[3], match[4] or "")
    if match := _SOLO.match(regime):
        return Arm("solo", 1, match[1], match[2])
    return None


def ranking_seeds(study: Study) -> tuple[int, ...]:
    """The seeds whose runs are ranked."""
    return tuple(getattr(study.selection, "seeds", ())) or study.seeds


def validation_seeds(study: Study) -> tuple[int, ...]:
    """The seeds on which targeted regimes are held against controls: those that do not rank, or all if all rank."""
    chosen = set(getattr(study.selection, "seeds", ()))
    return tuple(s for s in study.seeds if s not in chosen)


def independent(study: Study) -> bool:
    """Whether the seeds that validate took no part in the ranking."""
    return not set(ranking_seeds(study)) & set(validation_seeds(study))
