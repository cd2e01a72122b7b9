"""The pages of the reference made from the code: study file, tables, Python; `python tests/test_docs.py` writes it."""

from __future__ import annotations

import ast
import enum
import inspect
import re
import types
import typing
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import ldc
from ldc import tables
from ldc.report.markdown import EVIDENCE
from ldc.study import schema
from ldc.study.leg_measures import MEASURES
from ldc.study.regimes import Regime

SECTIONS: dict[str, type[BaseModel]] = {
    "models": schema.ModelSpec,
    "domains": schema.DomainSpec,
    "regimes": Regime,
    "adapter": schema.AdapterSpec,
    "training": schema.TrainingSpec,
    "evaluation": schema.EvaluationSpec,
    "selection": schema.SelectionSpec,
    "representation": schema.RepresentationSpec,
    "causation": schema.CausationSpec,
    "tests": schema.PrimarySpec,
    "calibration": schema.CalibrationSpec,
}
"""Each section of the study file and its record."""

KINDS = {"text": "text", "whole": "whole number", "real": "number", "flag": "true or false"}


def study_file_page() -> str:
    """Every key of the study file: its kind, default and help."""
    parts = [
        "# Study file\n",
        "Every key of a study file, from the records that read it. `ldc init` writes a commented example. An unknown "
        "key is an error that names the nearest valid one.\n",
        _fields(schema.Study, linked=True),
    ]
    for name, record in SECTIONS.items():
        head = " ".join(inspect.getdoc(record).split()) if record.__doc__ else ""
        parts.append(f"## {name}\n\n{_each(name)}{head}\n\n{_fields(record)}")
    return "\n".join(parts)


def tables_page() -> str:
    """Every table of the frames with columns, types and units; every measure of the legs; what other tables hold."""
    notes = _attribute_docs(Path(tables.__file__))
    parts = [
        "# Tables\n",
        "The tables of a study's folder, each as Parquet and CSV. A number beside which no unit is given has none.\n",
    ]
    named = {name: value for name, value in vars(tables).items() if isinstance(value, tables.Table)}
    for name, table in named.items():
        told = " ".join(notes[name].split())
        rows = [(f"`{c}`", KINDS[tables.type_of(c)], tables.UNITS.get(c, "")) for c in table.names]
        title = f"{table.name}, of each document" if name == "DOCUMENTS" else table.name
        order = ", ".join(f"`{c}`" for c in table.sort)
        parts.append(f"## {title}\n\n{told} Order of rows: {order}.\n\n{_grid(('column', 'type', 'unit'), rows)}")
    measures = [(f"`{name}`", m.leg, m.title, m.unit) for name, m in MEASURES.items()]
    parts.append(f"## Measures of the legs\n\n{_grid(('measure', 'leg', 'is', 'unit'), measures)}")
    held = [(f"`{name}`", what) for name, what in EVIDENCE.items()]
    parts.append(f"## Statistics\n\nA table is written only if the runs allow it.\n\n{_grid(('table', 'holds'), held)}")
    return "\n".join(parts)


def python_page() -> str:
    """Every public name with its signature and documentation."""
    parts = ["# Python\n", "The whole public surface. `import ldc` loads nothing until a name is used.\n"]
    for name in ldc.__all__:
        parts.append(f"## ldc.{name}\n\n{_documented(name, getattr(ldc, name))}")
    return "\n".join(parts)


PAGES = {"study-file.md": study_file_page, "tables.md": tables_page, "python.md": python_page}


def _fields(record: type[BaseModel], linked: bool = False) -> str:
    rows = []
    for name, field in record.model_fields.items():
        shown = f"[`{name}`](#{name})" if linked and name in SECTIONS else f"`{name}`"
        rows.append((shown, _kind(field.annotation), _default(field), " ".join((field.description or "").split())))
    return _grid(("key", "kind", "default", "help"), rows)


def _each(name: str) -> str:
    return {
        "models": "A mapping of a short name to each model. ",
        "domains": "A mapping of a short name to each domain. ",
        "regimes": "A list of known names, or of mappings such as `early: {block: mlp, layers: 0-5}`. ",
    }.get(name, "")


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(part) for part in inner if part is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"list of {_kind(inner[0])}".replace("number", "numbers")
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    plain = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}
    return plain.get(annotation, "mapping")


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if value is None or field.default_factory is not None or isinstance(value, (BaseModel, dict)):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, tuple) else f"`{value}`"


def _grid(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _attribute_docs(path: Path) -> dict[str, str]:
    """The string below each assignment of a module."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {
        a.targets[0].id: b.value.value
        for a, b in pairwise(body)
        if isinstance(a, ast.Assign)
        and isinstance(a.targets[0], ast.Name)
        and isinstance(b, ast.Expr)
        and isinstance(b.value, ast.Constant)
    }


def _documented(name: str, value: Any) -> str:
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return f"{_text(value)}\n" + _grid(("name", "code"), [(f"`{m.name}`", str(m.value)) for m in value])
    if isinstance(value, type) and issubclass(value, BaseModel):
        return f"{_text(value)}\nIts fields are the keys of the [study file](study-file.md).\n"
    if not isinstance(value, type):
        return f"{_signature(name, value)}\n{_text(value)}"
    parts = [_text(value)]
    for member, what in vars(value).items():
        if member.startswith("_") or not (inspect.isfunction(what) or isinstance(what, (property, cached_property))):
            continue
        head = [_signature(member, what)] if inspect.isfunction(what) else []
        parts.append("\n".join((f"### {name}.{member}\n", *head, _text(what))))
    return "\n".join(parts)


def _signature(name: str, function: Any) -> str:
    shown = str(inspect.signature(function)).replace("self, ", "").replace("(self)", "()").replace("'", "")
    return f"```python\n{name}{shown}\n```\n"


def _text(value: Any) -> str:
    """A docstring in Markdown: its paragraphs, and a list for each of its sections."""
    text = inspect.getdoc(value) or ""
    lines = []
    for line in text.splitlines():
        if re.fullmatch(r"(Args|Raises|Attributes|Returns):", line):
            lines += [f"**{line[:-1].replace('Args', 'Arguments')}**", ""]
        elif item := re.fullmatch(r"    (\w+): (.*)", line):
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(line.strip() if not line.startswith("      ") else f"  {line.strip()}")
    return "\n".join(lines).strip() + "\n"
