"""The page's template: what it is filled with is text, whatever is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

HERE = Path(__file__).parent
_HIDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def page_template() -> Template:
    """The template of `report.html`. Text is escaped, and `visible`."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    return environment.get_template("page.html.jinja")


def visible(value: Any) -> Any:
    """A text with control characters, and those that turn the direction of writing, shown as their code; other values
    as they are."""
    return _HIDING.sub(lambda found: ascii(found[0])[1:-1], value) if type(value) is str else value
