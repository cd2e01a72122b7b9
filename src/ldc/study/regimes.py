"""Regimes: which components of a model carry adapters, as a block and a choice of layers."""

from __future__ import annotations

import re
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Block = Literal["attn", "mlp", "all"]
ORIGIN_REGIMES = ("attn", "mlp", "all", "top1-mlp", "top1-attn", "top3-mlp", "top3-attn")

_TARGETED = re.compile(r"^top([1-9][0-9]*)-(attn|mlp)$")


def plain_number(value: object) -> object:
    """Refuse booleans, which would pass as 0 and 1; read `1e6`, which is text to YAML, as the whole number meant."""
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
    layers: list[int] = []
    for part in parts:
        match = re.fullmatch(r"\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*", "" if isinstance(part, bool) else str(part))
        if not match:
            raise ValueError(f"layers are `all`, numbers from 0, or ranges such as 0-5; `{part}` is none of these")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {first}-{last} runs backwards")
        layers += range(first, last + 1)
    if not layers:
        raise ValueError("no layer is given; `all` stands for all")
    if len(set(layers)) != len(layers):
        raise ValueError("a layer occurs twice")
    return tuple(layers)


class Regime(BaseModel):
    """Block x layers: fixed layers, or the top k of the ranking.

    A targeted regime (`top` set) is resolved to layers when the ranked runs are done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    block: Block
    """attn, mlp, or all of both."""
    layers: Annotated[Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_layer_list)] = "all"
    """`all`, a list of layer numbers from 0, or ranges such as 0-5."""
    top: Annotated[int, Field(gt=0), BeforeValidator(plain_number)] | None = None
    """Take the k best layers of the ranking instead of fixed ones."""

    @model_validator(mode="after")
    def _fixed_or_ranked(self) -> Regime:
        if self.top is not None and self.layers != "all":
            raise ValueError("give layers or top, not both")
        if self.top is not None and self.block == "all":
            raise ValueError("a ranking is of attn or of mlp; give two regimes")
        return self

    @property
    def targeted(self) -> bool:
        """Whether the layers come from a ranking."""
        return self.top is not None


def regime_from_text(text: str) -> Regime:
    """The regime of a known name.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if text in ("attn", "mlp", "all"):
        return Regime.model_validate({"block": text})
    if match := _TARGETED.match(text):
        return Regime(block="attn" if match[2] == "attn" else "mlp", top=int(match[1]))
    near = get_close_matches(text, ORIGIN_REGIMES, n=1)
    raise ValueError(
        f"no regime is called `{text}`"
        + (f"; did you mean `{near[0]}`?" if near else "")
        + " (known: attn, mlp, all, top<k>-mlp, top<k>-attn; your own: {block: mlp, layers: 0-5})"
    )
