"""Explains what pydantic finds wrong in a study: the keys, the line, the fault and the nearest valid word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from ldc.study._nodes import Keys, Mark, Marked, Problem, reads_as
from ldc.study.regimes import Regime
from ldc.study.schema import (
    AdapterSpec,
    CalibrationSpec,
    CausationSpec,
    DomainSpec,
    EvaluationSpec,
    ModelSpec,
    RepresentationSpec,
    SelectionSpec,
    Study,
    TrainingSpec,
)

SECTIONS: dict[str, type[BaseModel]] = {
    "training": TrainingSpec,
    "adapter": AdapterSpec,
    "evaluation": EvaluationSpec,
    "selection": SelectionSpec,
    "calibration": CalibrationSpec,
    "representation": RepresentationSpec,
    "causation": CausationSpec,
}
NAMED: dict[str, type[BaseModel]] = {"models": ModelSpec, "domains": DomainSpec, "regimes": Regime}
SYNONYMS = {
    "lr": "learning_rate",
    "r": "rank",
    "lora_r": "rank",
    "lora_alpha": "alpha",
    "batch_size": "batch",
    "gradient_accumulation_steps": "accumulation",
    "max_steps": "steps",
    "max_tokens": "tokens",
    "max_length": "block_length",
    "max_seq_length": "block_length",
    "max_grad_norm": "clip",
    "eps": "epsilon",
    "lr_scheduler_type": "schedule",
    "warmup_ratio": "warmup",
    "path": "source",
    "file": "source",
    "torch_dtype": "dtype",
    "column": "text",
}
SUGGESTIONS = 50
"""Unknown keys, from the top of the file, of which each is compared with all known ones; more are never shown."""
_NEAR = 0.65
_OWN_BONUS = 0.15
_LONGEST = 64


def problems_of(error: ValidationError, marked: Marked) -> list[Problem]:
    """One problem for each key that pydantic refuses. A misspelled key is not also told as missing."""
    problems: dict[Keys, Problem] = {}
    suggested: set[Keys] = set()
    unknown = 0
    found = [(_keys(detail, marked.data), detail) for detail in error.errors(include_url=False)]
    found.sort(key=lambda pair: _line(pair[0], marked.marks) or 0)
    for keys, detail in found:
        if detail["type"] == "too_short" and detail["input"]:
            continue  # not empty, but every item is invalid, and each item has its own message
        if detail["type"] == "extra_forbidden":
            unknown += 1
            message, meant = _unknown(keys) if unknown <= SUGGESTIONS else ("unknown key", ())
            suggested.add(meant)
        else:
            message = _message(detail, keys, marked)
        problems.setdefault(keys, Problem(keys, _line(keys, marked.marks), message))
    return [p for keys, p in problems.items() if keys not in suggested]


def _keys(detail: Mapping[str, Any], data: object) -> Keys:
    """The keys of a fault as the file has them: without pydantic's steps into unions, and with list items by name."""
    at = (detail.get("ctx") or {}).get("at", ())
    keys: list[str | int] = []
    steps = (*detail["loc"], *at)
    for step in steps:
        if step == "[key]":
            continue
        if isinstance(data, Mapping) and step in data:
            data = data[step]
        elif isinstance(data, (list, tuple)):
            place = step if isinstance(step, int) else _place(data, str(step))
            if place is None or place >= len(data):
                break
            step, data = place, data[place]
            if isinstance(data, Mapping) and len(data) == 1 and steps[0] == "regimes":
                keys.append(step)
                step, data = next(iter(data.items()))
        else:
            if isinstance(data, Mapping) and (detail["type"] == "missing" or step in at):
                keys.append(step)
            break
        keys.append(step)
    return tuple(keys)


def _place(items: list[object] | tuple[object, ...], name: str) -> int | None:
    """The index in a list of regimes of the one with this name."""
    for place, item in enumerate(items):
        if item == name or (isinstance(item, Mapping) and name in item):
            return place
    return None


def _line(keys: Keys, marks: Mapping[Keys, Mark]) -> int | None:
    """The line of a key, or of the nearest section around it that is in the file."""
    for end in range(len(keys), -1, -1):
        if mark := marks.get(keys[:end]):
            return mark.line
    return None


def _record(keys: Keys) -> type[BaseModel] | None:
    """The record that a section of the study becomes."""
    if not keys:
        return Study
    if len(keys) == 1:
        return SECTIONS.get(str(keys[0]))
    return NAMED.get(str(keys[0]))


def _unknown(keys: Keys) -> tuple[str, Keys]:
    """The message for an unknown key, and the keys that were probably meant."""
    *parents, name = keys
    own = _record(tuple(parents)) or Study
    places: dict[str, type[BaseModel]] = {"": own} | {s: r for s, r in (SECTIONS | NAMED).items() if r is not own}
    if own is not Study:
        places["the top level"] = Study
    wanted = SYNONYMS.get(str(name), str(name)[:_LONGEST])
    score, meant, place = max(
        (SequenceMatcher(None, wanted, key).ratio() + (0 if place else _OWN_BONUS), key, place)
        for place, record in places.items()
        for key in record.model_fields
    )
    if score < _NEAR:
        return f"unknown key; known here: {', '.join(own.model_fields)}", ()
    if not place:
        return f"unknown key; did you mean `{meant}`?", (*parents, meant)
    where = place if place.startswith("the") else f"`{place}`"
    under = f"under a name in {where}" if place in NAMED else f"{'at' if place.startswith('the') else 'under'} {where}"
    if meant == name:
        return f"unknown key here; `{meant}` belongs {under}", ()
    return f"unknown key; did you mean `{meant}` {under}?", ()


def _value(data: Any, keys: Keys) -> object:
    for key in keys:
        data = data[key]
    return data


def _found(value: object, keys: Keys, marked: Marked) -> str:
    """The refused value as the user wrote it, and what YAML made of it if that differs."""
    if isinstance(value, str):
        return f"the text `{value:.60}`"
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    written = marked.marks[keys].text if keys in marked.marks else ""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and written in ("", str(value)):
        return f"{value}" if len(str(value)) <= _LONGEST else f"{str(value)[:20]}..."
    return f"`{written:.60}`, which YAML reads as {reads_as(value)}" if written else reads_as(value)


def _message(detail: Mapping[str, Any], keys: Keys, marked: Marked) -> str:
    """What is wrong with a value, for each kind of fault the schema can find."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx") or {}
    found = _found(value, keys, marked)
    if kind == "missing":
        return "missing; the study needs it" if len(keys) == 1 else "missing; this section needs it"
    if kind == "fault":
        message = str(context["message"])
        return f"{message}, not {_found(_value(marked.data, keys), keys, marked)}" if "must be" in message else message
    if value is None:
        return "has no value; give one, or delete the key" if len(keys) != 1 else "has no value; this section is empty"
    if kind == "literal_error":
        valid = re.findall(r"'([^']*)'", context["expected"])
        near = get_close_matches(str(value), valid, n=1)
        return f"must be one of {', '.join(valid)}, not {found}" + (f"; did you mean `{near[0]}`?" if near else "")
    if (kind in ("string_pattern_mismatch", "string_too_long") and "[key]" in detail["loc"]) or keys == ("name",):
        return _slug(value, found)
    if kind == "string_type":
        return f"must be text, not {found}; put it in quotes if it is text"
    if kind == "value_error":
        message = str(context["error"])
        return f"{message}, not {found}" if message == "must be a number" else message
    if kind in ("model_type", "model_attributes_type") and keys and keys[0] in NAMED:
        example = "a name such as mlp, or a section such as {block: mlp, layers: 0-5}"
        if keys[0] != "regimes":
            example = "a source such as `embedded`, or a section with `source:`"
        return f"must be {example}, not {found}"
    return _general(kind, context, detail["msg"], keys, found)


def _general(kind: str, context: Mapping[str, Any], message: str, keys: Keys, found: str) -> str:
    """What is wrong with a value of a plain type."""
    bounds = {
        "greater_than": ("above", "gt"),
        "greater_than_equal": ("at least", "ge"),
        "less_than": ("below", "lt"),
        "less_than_equal": ("at most", "le"),
    }
    if kind in bounds:
        words, bound = bounds[kind]
        return f"must be {words} {context[bound]:g}, not {found}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        names = "a section of names, each with its source" if keys and keys[0] in NAMED else "a section"
        names = "names in a list such as [attn, mlp], or a section" if keys == ("regimes",) else names
        return f"must be {names}, not {found}"
    if kind.startswith("int_"):
        return f"must be a whole number, not {found}"
    if kind.startswith("float_"):
        return f"must be a number, not {found}"
    if kind == "finite_number":
        return f"must be a finite number, not {found}"
    if kind.startswith("bool_"):
        return f"must be true or false, not {found}"
    if kind.startswith("tuple_"):
        return f"must be a list such as [0, 1], not {found}"
    if kind in ("too_short", "string_too_short"):
        return "is empty; give at least one"
    return message


def _slug(value: object, found: str) -> str:
    """Why a name is refused, with the nearest one that is not."""
    if not isinstance(value, str):
        return f"must be a name, not {found}; put it in quotes if it is text"
    if len(value) > 64:
        return "a name has at most 64 characters"
    near = re.sub(r"[^a-z0-9._-]+", "-", value.lower()).strip("._-")
    return "a name has only the characters a-z 0-9 . _ - and begins with a letter or digit" + (
        f"; for example `{near}`" if near else ""
    )
