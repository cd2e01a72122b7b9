"""Regimes: which components of a model carry adapters, as a block and a choice of layers."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Block = Literal["attn", "mlp", "all"]
ORIGIN_REGIMES = ("attn", "mlp", "all", "top1-mlp", "top1-attn", "top3-mlp", "top3-attn")

_TARGETED = re.compile(r"^top([1-9][0-9]*)-(attn|mlp)$")


def _layer_list(value: object) -> object:
    """Accept `3`, `0-5` and `1, 4-6` beside a list of numbers."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, str) and value != "all":
        layers: list[int] = []
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
            if not match:
                raise ValueError(f"layers are `all`, a list of numbers, or ranges such as 0-5; {value!r} is none of these")
            first, last = int(match[1]), int(match[2] or match[1])
            layers += range(first, last + 1)
        return tuple(layers)
    return value


class Regime(BaseModel):
    """Block x layers: fixed layers, or the top k of the ranking.

    A targeted regime (`top` set) is resolved to layers when the ranked runs are done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    block: Block
    """attn, mlp, or all of both."""
    layers: Annotated[Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_layer_list)] = "all"
    """`all`, a list of layer numbers from 0, or ranges such as 0-5."""
    top: Annotated[int, Field(gt=0)] | None = None
    """Take the k best layers of the ranking instead of fixed ones."""

    @model_validator(mode="after")
    def _fixed_or_ranked(self) -> Regime:
        if self.top is not None and self.layers != "all":
            raise ValueError("give layers or top, not both")
        if self.top is not None and self.block == "all":
            raise ValueError("a ranking is of attn or of mlp; give two regimes")
        if self.layers != "all" and (not self.layers or len(set(self.layers)) != len(self.layers)):
            raise ValueError("layers must be given, each once")
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
        return Regime(block=text)
    if match := _TARGETED.match(text):
        return Regime(block="attn" if match[2] == "attn" else "mlp", top=int(match[1]))
    raise ValueError(
        f"no regime is called {text!r}; known are attn, mlp, all, top<k>-attn and top<k>-mlp, "
        "and your own as {block: mlp, layers: 0-5}"
    )
