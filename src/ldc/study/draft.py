"""A short study file of the user's own models and texts, as `ldc init --model --domain` writes it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from ldc.errors import StudyError
from ldc.study.schema import DomainSpec, ModelSpec
from ldc.study.short_form import named_domain, named_model, slug, there

Spec = TypeVar("Spec", ModelSpec, DomainSpec)

MODEL = "tiny-llama"
"""The model of a draft that names none."""
COMPARED = ("math", "python")
"""The embedded domains that a draft adds where fewer than two are named: one alone has no contrast."""
STEPS = 40
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.+)", re.DOTALL)


def draft_text(models: Sequence[str], domains: Sequence[str], path: Path) -> str:
    """The text of a study file on these models and texts; all other settings keep their defaults.

    Args:
        models: each an embedded name, a folder or a Hub id, or `NAME=` and one of these.
        domains: each an embedded name, a file, a folder or `hub:` and a data set, or `NAME=` and one of these.
        path: where the file will be. Relative paths are rewritten to start at its folder.

    Raises:
        DataError: a domain is none of these.
        StudyError: two models or two domains have one name, or an embedded one is given another.
    """
    chosen = _named(models or [MODEL], named_model, "model")
    texts = _named(domains, _domain, "domain")
    added = [name for name in COMPARED if name not in texts][: max(0, 2 - len(texts))]
    lines = [
        f"#   ldc run {path.name} -o out --dry-run    print what it will cost; download nothing",
        f"#   ldc run {path.name} -o out              run it, or resume it",
        "#",
        "# Other settings keep their defaults, some of which depend on the size of the model. `ldc init` alone",
        "# writes an example that lists them all.",
        "",
        f"name: {slug(path.stem)}",
        "",
        "models:",
        *(f"  {name}: {_plain(spec.source, path)}" for name, spec in chosen.items()),
        "",
        "domains:",
        *(f"  {name}: {_plain(spec.source or '', path)}" for name, spec in texts.items()),
        *(f"  {name}: embedded          # added to compare with" for name in added),
        "",
        "training:",
        f"  steps: {STEPS}                 # optimiser steps of a run; the dry run says how many tokens they are",
    ]
    return "\n".join(lines) + "\n"


def _named(words: Sequence[str], read: Callable[[str], tuple[str, Spec]], kind: str) -> Mapping[str, Spec]:
    found: dict[str, Spec] = {}
    for word in words:
        match = None if there(word) else _NAMED.fullmatch(word)
        source = match[2] if match else word
        name, spec = read(source)
        if match and spec.source == "embedded":
            raise StudyError(f"--{kind} {word}: an embedded {kind} keeps its name: --{kind} {source}")
        name = slug(match[1]) if match else name
        if name in found:
            raise StudyError(f"--{kind} {word}: a {kind} is called `{name}` already; give another name: NAME={source}")
        found[name] = spec
    return found


def _domain(text: str) -> tuple[str, DomainSpec]:
    if text.startswith("hub:"):
        return slug(text.rpartition("/")[2]), DomainSpec(source=text)
    return named_domain(text)


def _plain(source: str, path: Path) -> str:
    """A source as the value of a YAML mapping; a relative path that exists starts at the folder of the study file."""
    if source != "embedded" and there(source) and not source.startswith(("~", "/")):
        source = os.path.relpath(source, path.parent)
    return yaml.safe_dump(source, allow_unicode=True, width=10**6).removesuffix("\n").removesuffix("\n...")
