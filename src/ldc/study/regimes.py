"""Regimes: which components of a model carry adapters, as a block and a choice of layers.

A regime is one run for each domain and seed, or a family of them, whose members are called `family.member`:
`random3-mlp.01`, `solo-mlp.07`, `foreign3-mlp.cpp`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Block = Literal["attn", "mlp", "all"]
ORIGIN_REGIMES = ("attn", "mlp", "all", "top1-mlp", "top1-attn", "top3-mlp", "top3-attn")

Choice = Literal["top", "bottom", "foreign", "random", "first", "last", "spaced", "solo", "keep", "knock"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
DRAWS = 19
"""Default number of random draws: the fewest that can resolve p = .05 by rank."""

MOST = 10**12
"""The largest whole number of a study file, beyond any use; sums and products of several fit into a float."""
Seed = Annotated[int, Field(ge=0, le=MOST, strict=True)]

_CHOSEN = re.compile(r"^(top|bottom|foreign|random|first|last|spaced)([1-9][0-9]{0,5})-(attn|mlp)$")
_SOLO = re.compile(r"^(solo|keep|knock)-(attn|mlp)$")
_SHUFFLED = re.compile(r"^(attn|mlp|all)-shuffled$")
_EQUAL = re.compile(r"^(attn|mlp)-equal$")
_STEPS = re.compile(r"^(attn|mlp|all)-equal-steps$")
_LAYERS = re.compile(r"\s*([0-9]{1,4})(?:\s*-\s*([0-9]{1,4}))?\s*")
_NAMES = (
    "attn, mlp, all, top<k>-mlp, top<k>-attn; controls: bottom<k>-mlp, random<k>-, first<k>-, last<k>-, spaced<k>-, "
    "foreign<k>-, solo-mlp, keep-mlp, knock-mlp, mlp-equal, all-shuffled, all-equal-steps, and so with attn; "
    "your own: {block: mlp, layers: 0-5}"
)


def plain_number(value: object) -> object:
    """Refuse booleans, which would pass as 0 and 1, and read `1e6`, which YAML takes for text, as a whole number."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    if isinstance(value, str) and "e" in value.lower():
        with suppress(ValueError):
            number = float(value)
            return int(number) if number.is_integer() else value
    return value


def _layer_list(value: object) -> object:
    """Read `all`, `3`, `0-5` and `1, 4-6`, or a list of such, as `all` or distinct numbers."""
    if value == "all":
        return value
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    layers: dict[int, None] = {}
    for part in parts:
        match = _LAYERS.fullmatch("" if isinstance(part, bool) else f"{part!s:.100}")
        if not match:
            raise ValueError(
                f"layers are `all`, numbers from 0, or ranges such as 0-5; `{part!s:.60}` is none of these"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {first}-{last} runs backwards")
        if not layers.keys().isdisjoint(range(first, last + 1)):  # at once: a long list may name each again and again
            raise ValueError("a layer occurs twice")
        layers.update(dict.fromkeys(range(first, last + 1)))
    if not layers:
        raise ValueError("no layer is given; for every layer write `all`")
    return tuple(layers)


_Count = Annotated[int, Field(gt=0, le=MOST), BeforeValidator(plain_number)]


class Regime(BaseModel):
    """A block and its layers: fixed layers, or a number of layers with a way to choose them.

    `top`, `bottom` and `foreign` need a ranking first; all others are known before any run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    block: Block
    """attn, mlp, or all for both."""
    layers: Annotated[Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_layer_list)] = "all"
    """`all`, a list of layer numbers from 0, or ranges such as 0-5."""
    top: _Count | None = None
    """Take the k best layers of the ranking instead of fixed ones."""
    bottom: _Count | None = None
    """Control: the last k layers of the ranking."""
    foreign: _Count | None = None
    """Control: the best k layers of another domain's ranking; a family with one run for each other domain."""
    random: _Count | None = None
    """Control: k random layers; a family of `draws` runs with the same draws for all domains and seeds."""
    draws: _Count | None = None
    """Number of different random draws, or all there are if these are fewer; default: 19, the fewest that can resolve
    p = .05."""
    first: _Count | None = None
    """Control: the k lowest layers."""
    last: _Count | None = None
    """Control: the k highest layers."""
    spaced: _Count | None = None
    """Control: k evenly spaced layers."""
    solo: Annotated[bool, Field(strict=True)] = False
    """Each layer alone: a family with one run for each layer."""
    keep: Annotated[bool, Field(strict=True)] = False
    """Not trained: the ranked regime's trained adapters of one layer; a family with one run per layer."""
    knock: Annotated[bool, Field(strict=True)] = False
    """Not trained: the ranked regime's trained adapters without one layer; a family with one run per layer."""
    text: Literal["own", "shuffled"] = "own"
    """`shuffled`: train on the domain's text with the tokens of each document in random order (a null map)."""
    rank: _Count | None = None
    """Rank of this regime's adapters; default: the study's."""
    budget: Literal["attn", "mlp"] | None = None
    """Choose the rank that gives as many parameters as this block has at the study's rank."""
    steps: Literal["own", "equal"] = "own"
    """`equal`: after each optimiser step scale every component's update to one S / norm(W), the run's geometric mean. A
    control: its raw map says nothing, so what it gains needs no map."""
    seeds: tuple[Seed, ...] | None = None
    """Run only with these of the study's seeds."""
    domains: tuple[str, ...] | None = None
    """Run only on these domains, or sources of domains such as `math.books`."""
    full: Annotated[bool, Field(strict=True)] = False
    """Tune the weights themselves instead of adapters: to ask whether LoRA is a fair proxy."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(plain_number)] | None = None
    """Peak learning rate of this regime, where it is not the study's."""

    @model_validator(mode="after")
    def _one_choice(self) -> Regime:
        given = [name for name in CHOICES if getattr(self, name)]
        if len(given) > 1 or (given and self.layers != "all"):
            raise ValueError(f"give layers or one of {', '.join(CHOICES)}, not both")
        if given and self.block == "all":
            raise ValueError(
                "a ranking is of attn or of mlp; give two regimes"
                if given[0] in ("top", "bottom", "foreign")
                else f"{given[0]} is for attn or mlp; give two regimes"
            )
        if self.draws is not None and self.random is None:
            raise ValueError("draws is for random layers, as in {block: mlp, random: 3, draws: 99}")
        if self.full and (given or self.rank is not None or self.budget is not None):
            raise ValueError("full tunes the weights of fixed layers; it has no rank, budget or choice of layers")
        if self.steps == "equal" and (self.full or self.keep or self.knock):
            raise ValueError("equal steps are for regimes that train adapters")
        if self.learning_rate is not None and (self.keep or self.knock):
            raise ValueError("keep and knock train nothing, so they have no learning rate")
        if self.rank is not None and self.budget is not None:
            raise ValueError("give rank or budget, not both")
        if self.budget is not None and (self.block != ("mlp" if self.budget == "attn" else "attn") or given):
            raise ValueError("budget needs one whole block and names the other: {block: mlp, budget: attn}")
        return self

    @property
    def choice(self) -> tuple[Choice, int] | None:
        """How layers are chosen, and how many; None for fixed layers."""
        return next(((name, int(getattr(self, name))) for name in CHOICES if getattr(self, name)), None)

    @property
    def targeted(self) -> bool:
        """Whether the layers come from a ranking."""
        return self.choice is not None and self.choice[0] in ("top", "bottom", "foreign")

    @property
    def grafted(self) -> bool:
        """Whether it uses adapters that another run has trained."""
        return self.keep or self.knock

    @property
    def family(self) -> bool:
        """Whether it has several runs for each domain and seed."""
        return self.choice is not None and self.choice[0] in ("foreign", "random", "solo", "keep", "knock")


def family_of(regime: str) -> str:
    """The name of a run's regime without the member: `random3-mlp` of `random3-mlp.01`."""
    return regime.partition(".")[0]


def regime_from_text(text: str) -> Regime:
    """The regime of a known name.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if text in ("attn", "mlp", "all"):
        return Regime.model_validate({"block": text})
    if match := _CHOSEN.match(text):
        return Regime.model_validate({"block": match[3], match[1]: int(match[2])})
    if match := _SOLO.match(text):
        return Regime.model_validate({"block": match[2], match[1]: True})
    if match := _SHUFFLED.match(text):
        return Regime.model_validate({"block": match[1], "text": "shuffled"})
    if match := _STEPS.match(text):
        return Regime.model_validate({"block": match[1], "steps": "equal"})
    if match := _EQUAL.match(text):
        return Regime.model_validate({"block": match[1], "budget": "mlp" if match[1] == "attn" else "attn"})
    near = get_close_matches(text, ORIGIN_REGIMES, n=1)
    raise ValueError(
        f"no regime is called `{text}`" + (f"; did you mean `{near[0]}`?" if near else "") + f" (known: {_NAMES})"
    )
