"""The comparisons that a study's regimes allow, found from their definitions and not from their names."""

from __future__ import annotations

from dataclasses import dataclass

from ldc.study.leg_measures import regime_of
from ldc.study.regimes import Regime
from ldc.study.schema import Study

CONTROLS = ("random", "bottom", "first", "last", "spaced", "foreign")
"""The ways of choosing layers with which the top layers are compared."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One regime against another, or against the mean of a family.

    Attributes:
        kind: `top-<control>`; `mlp-attn`, or `mlp-attn-equal` at the same number of parameters.
        left, right: regimes of the study, or the name of a family.
        count: number of layers on each side; 0 for all layers.
        block: the block of the ranked layers.
    """

    kind: str
    left: str
    right: str
    count: int = 0
    block: str = ""

    @property
    def random(self) -> bool:
        """Whether the right side is a sample of random draws."""
        return self.kind == "top-random"

    @property
    def foreign(self) -> bool:
        """Whether the right side is other domains' layers."""
        return self.kind == "top-foreign"


def comparisons(study: Study) -> list[Comparison]:
    """Every top-k regime against every control of its k and block; MLP against attention, raw and at equal budgets."""
    plain = {
        name: r
        for name, r in study.regimes.items()
        if r.text == "own" and r.steps == "own" and r.rank is None and not r.full
    }
    found = []
    for left, top in plain.items():
        if top.choice is None or top.choice[0] != "top":
            continue
        for way in CONTROLS:
            for right, control in plain.items():
                if control.choice == (way, top.choice[1]) and control.block == top.block:
                    found.append(Comparison(f"top-{way}", left, right, top.choice[1], top.block))
    whole = {name: r for name, r in plain.items() if r.choice is None and r.layers == "all"}
    for left, mlp in whole.items():
        for right, attn in whole.items():
            if (mlp.block, attn.block) == ("mlp", "attn") and not (mlp.budget and attn.budget):
                found.append(Comparison("mlp-attn-equal" if mlp.budget or attn.budget else "mlp-attn", left, right))
    return found


def tops(study: Study) -> dict[str, Regime]:
    """The regimes of the k best layers."""
    return {name: r for name, r in study.regimes.items() if r.choice is not None and r.choice[0] == "top"}


def solo_layers(study: Study, block: str, regimes: set[str]) -> dict[int, str]:
    """Layer -> regime of the runs that tune one layer's block alone; empty if single components are ranked."""
    families = [n for n, r in study.regimes.items() if r.solo and r.block == block and r.rank is None]
    found = {}
    for family in families[:1]:
        for name in regimes:
            member = name.removeprefix(f"{family}.")
            if member != name and member.isdigit():
                found[int(member)] = name
    return found


def shuffled(study: Study) -> str | None:
    """The ranked regime on shuffled text, if the study has it."""
    ranked = study.regimes.get(study.selection.regime)
    same = {"block", "layers", "choice", "rank", "budget", "full", "steps"}
    for name, regime in study.regimes.items():
        if ranked and regime.text == "shuffled" and all(getattr(regime, f) == getattr(ranked, f) for f in same):
            return name
    return None


def equal_steps(study: Study) -> str | None:
    """The ranked regime with equal steps, if the study has it."""
    ranked = study.regimes.get(study.selection.regime)
    for name, regime in study.regimes.items():
        plain = regime.steps == "equal" and regime.choice is None and regime.text == "own"
        if ranked and plain and (regime.block, regime.layers) == (ranked.block, ranked.layers):
            return name
    return None


def whole(study: Study, block: str) -> str | None:
    """The regime that tunes a half, or both (`all`), in every layer on the domain's own text at the study's rank."""
    for name, r in study.regimes.items():
        plain = r.choice is None and r.layers == "all" and r.text == "own" and r.steps == "own" and not r.full
        if plain and r.block == block and r.rank is None and r.budget is None:
            return name
    return None


def tested_top(study: Study) -> str | None:
    """The top-k regime of the primary test: the one named, else the first of the MLP with k > 1, else the first."""
    if study.tests.top is not None:
        return study.tests.top
    found = tops(study)
    many = [name for name, r in found.items() if r.block == "mlp" and (r.top or 0) > 1]
    return next(iter([*many, *found]), None)


def studied(study: Study) -> list[str]:
    """The domains that are not references only."""
    return [name for name, spec in study.domains.items() if not spec.reference]


def shared_by_ranking(study: Study) -> str:
    """What the ranking and its validation have in common, and what to do; empty if they are apart.

    The measures of the legs that train nothing are read from the held-out documents that also validate.
    """
    score = study.selection.score
    if regime_of(score) is not None:
        return f"the held-out documents that validate also ranked, since `{score}` is measured on them; rank by S"
    if study.selection.cross_fit is None and set(study.ranking_seeds) & set(study.validation_seeds):
        return "the same seeds ranked and validated; reserve some with selection.seeds, or set selection.cross_fit"
    return ""


def domain_of(study: Study, text: str) -> str:
    """The domain that a text is a source of; its own name if it is the only one."""
    return study.domains[text].domain or text
