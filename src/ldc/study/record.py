"""What all records of the study file share: types of their fields, and errors that name a place."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ldc.study.regimes import MOST, Seed, plain_number

__all__ = [
    "MOST",
    "SLUG_PATTERN",
    "Number",
    "Positive",
    "Record",
    "Seed",
    "Share",
    "Slug",
    "Text",
    "Whole",
    "fault",
    "short_form",
]

SLUG_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
Slug = Annotated[str, StringConstraints(strict=True, pattern=SLUG_PATTERN, max_length=64)]
Text = Annotated[str, StringConstraints(strict=True, min_length=1)]
Whole = Annotated[int, Field(le=MOST), BeforeValidator(plain_number)]
Number = Annotated[float, BeforeValidator(plain_number)]
Positive = Annotated[int, Field(gt=0, le=MOST), BeforeValidator(plain_number)]
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(plain_number)]


def fault(message: str, *at: str | int) -> PydanticCustomError:
    """An error below the record that finds it. `at` leads from that record to the key or the index in a list."""
    return PydanticCustomError("fault", "{message}", {"message": message, "at": at})


def short_form(value: object) -> object:
    """Read `math: embedded` as `math: {source: embedded}`."""
    return {"source": value} if isinstance(value, str) else value


class Record(BaseModel):
    """A frozen record that refuses unknown keys. Each field's docstring is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
