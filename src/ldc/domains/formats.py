"""Turns a record into prompt and completion or plain text: by columns, templates or a common instruction format."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from ldc.domains.quoting import listed, quoted, shown

_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
_ROLES = {"user": "User", "human": "User", "assistant": "Assistant", "gpt": "Assistant", "system": "System"}
_OPTIONS = ("choices", "options")
_ANSWERS = ("answer", "answerKey", "cop", "label")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DEPTH = 20
_LONGEST, _MOST = 80, 200
_USED = {
    "alpaca": ("instruction", "input", "context", "output", "response"),
    "question": ("question", "answer"),
    "choices": ("question", *_OPTIONS, "opa"),
    "chat": ("messages", "conversations", "prompt", "completion"),
}
"""The columns that a format reads, to be named."""


class UnfitRecord(Exception):
    """A record lacks what its format needs; the text says what that is."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a record has its parts: in `text`, in `prompt` and `completion` (columns or templates), or in a format.

    `only` are columns with the value that a record must have to be taken, in which * stands for any characters.
    """

    text: str = "text"
    prompt: str = "prompt"
    completion: str = "completion"
    source: str = "doc"
    format: str = "columns"
    only: tuple[tuple[str, str], ...] = ()

    @property
    def wanted(self) -> str:
        """What a record must have, in words."""
        if self.format != "columns":
            return f"text for format: {self.format}"
        return f"a text column {quoted(self.text)}, or {quoted(self.prompt)} and {quoted(self.completion)}"

    @property
    def names(self) -> tuple[str, ...] | None:
        """The columns to read; None if the format finds them itself."""
        if self.format != "columns":
            return None
        found = [name for part in (self.text, self.prompt, self.completion) for name in _places(part)]
        return tuple(dict.fromkeys([*found, self.source, *(column for column, _ in self.only)]))

    @property
    def named(self) -> dict[str, str]:
        """The setting of each single column that was named, where its name is not the default: a file must have it."""
        parts = ("text", "prompt", "completion", "source") if self.format == "columns" else ("source",)
        default = {field.name: field.default for field in fields(Columns)}
        given = {part: getattr(self, part) for part in parts}
        return {
            name: "document" if part == "source" else part
            for part, name in given.items()
            if name != default[part] and (part == "source" or not _is_template(name))
        }

    def takes(self, record: Mapping[str, Any]) -> bool:
        """Whether a record has the values that `only` asks for.

        Raises:
            UnfitRecord: it lacks such a column.
        """
        for column, pattern in self.only:
            if column not in record:
                raise UnfitRecord(f"a column {quoted(column)}, by whose value records are taken")
            if not fnmatchcase(str(record[column]), pattern):
                return False
        return True


def prompt_and_rest(record: Mapping[str, Any], columns: Columns) -> tuple[str, str] | None:
    """The prompt (empty for plain text) and the text after it; None if the columns exist but are empty.

    Raises:
        UnfitRecord: a column is missing, or holds no text.
    """
    if columns.format != "columns":
        return _FORMATS[columns.format](record)
    if not _is_template(columns.text):
        pair = _value(record, columns.prompt), _value(record, columns.completion)
        if isinstance(pair[0], str) and isinstance(pair[1], str):
            return pair[0], pair[1]
        if isinstance(pair[0], (list, tuple)) and isinstance(pair[1], (list, tuple)):
            return _turns([*pair[0], *pair[1]])
    if not _is_template(columns.text) and not _has(record, columns.text):
        if _has(record, columns.prompt) and _has(record, columns.completion):
            odd = [value for value in pair if value is not None and not isinstance(value, str)]
            if odd:
                raise UnfitRecord(f"text in the prompt and the completion, of which one is {type(odd[0]).__name__}")
            return None
        raise UnfitRecord(columns.wanted)
    text = _value(record, columns.text)
    if text is None:
        return None
    if not isinstance(text, str):
        raise UnfitRecord(f"text in the column {quoted(columns.text)}, which holds {type(text).__name__}")
    return "", text


def recognised(columns: Columns, names: Collection[str]) -> Columns:
    """How records with the columns `names` are read: as asked for, or in the usual format that the columns show.

    A format is recognised only where nothing else was asked for and the records have neither `text` nor `prompt` and
    `completion`, so that what could be read before is read as before.
    """
    default = Columns()
    asked = (columns.format, columns.text, columns.prompt, columns.completion)
    if asked != (default.format, default.text, default.prompt, default.completion):
        return columns
    if columns.text in names or (columns.prompt in names and columns.completion in names):
        return columns
    fitting = formats_that_fit(list(names))
    return replace(columns, format=fitting[0]) if fitting else columns


def way_of(columns: Columns, names: Collection[str]) -> str:
    """How records are read, in words: `chat: column messages`; `columns prompt and completion`; `column text`."""
    if columns.format != "columns":
        used = [name for name in _USED[columns.format] if name in names]
        return f"{columns.format}: column{'s' if len(used) > 1 else ''} {' and '.join(used)}"
    if _is_template(columns.text):
        return "template"
    if columns.prompt in names and columns.completion in names:
        return f"columns {shown(columns.prompt)} and {shown(columns.completion)}"
    if _is_template(columns.prompt) and columns.text not in names:
        return "template"
    return f"column {shown(columns.text)}"


def nearest(wanted: str, names: Iterable[str]) -> str:
    """A question for the column that was meant: `; did you mean dox?`; nothing where none is near."""
    near = get_close_matches(wanted[:_LONGEST], [name for name in names if len(name) <= _LONGEST][:_MOST], n=1)
    return f"; did you mean {quoted(near[0])}?" if near else ""


def formats_that_fit(names: Sequence[str]) -> list[str]:
    """The formats whose columns are among `names`, to be suggested."""
    have = set(names)
    found = []
    if "instruction" in have and have & {"output", "response"}:
        found.append("alpaca")
    if have & {"messages", "conversations"}:
        found.append("chat")
    if "question" in have and (have & set(_OPTIONS) or "opa" in have):
        found.append("choices")
    elif {"question", "answer"} <= have:
        found.append("question")
    return found


def _is_template(part: str) -> bool:
    return "{" in part


def _places(part: str) -> list[str]:
    """The top-level columns of a column name or template."""
    if not _is_template(part):
        return [part]
    names = [m.group(1) for m in _PLACE.finditer(part) if m.group(1)]
    return [form for name in names for form in dict.fromkeys((name, name.split(".")[0]))]


def _has(record: Mapping[str, Any], part: str) -> bool:
    """Whether the columns of a part exist, even if they are empty."""
    if not _is_template(part):
        return part in record
    return all(m.group(1) in record or m.group(1).split(".")[0] in record for m in _PLACE.finditer(part) if m.group(1))


def _value(record: Mapping[str, Any], part: str) -> Any:
    """A column's value, or a filled-in template; None if it is empty."""
    if not _is_template(part):
        return record.get(part)
    filled = False

    def fill(match: re.Match[str]) -> str:
        nonlocal filled
        if match.group(1) is None:
            return match.group()[0]
        text = _flat(_find(record, match.group(1)), match.group(1))
        filled = filled or bool(text.strip())
        return text

    text = _PLACE.sub(fill, part)
    return text.lstrip("\n") if filled else None


def _find(record: Mapping[str, Any], path: str) -> Any:
    """The value of a column, or of a field within one: `context.contexts`."""
    if path in record:
        return record[path]
    value: Any = record
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            raise UnfitRecord(f"a column {quoted(path)}")
        value = value[step]
    return value


def _flat(value: Any, path: str, depth: int = 0) -> str:
    """A value as text: lists line by line."""
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        if depth == _DEPTH:
            raise UnfitRecord(f"text in {quoted(path)}, which holds lists in lists, more than {_DEPTH} deep")
        return "\n".join(_flat(item, path, depth + 1) for item in value)
    if isinstance(value, Mapping):
        raise UnfitRecord(
            f"text in {quoted(path)}, which holds fields ({listed(map(shown, value))}); name one as {shown(path)}.FIELD"
        )
    raise UnfitRecord(f"text in {quoted(path)}, which holds {type(value).__name__}")


def _required(record: Mapping[str, Any], *names: str) -> list[str] | None:
    """The text of columns that must exist; None if one is empty."""
    if missing := [name for name in names if name not in record]:
        raise UnfitRecord(f"the columns {' and '.join(map(repr, names))}, of which {missing[0]!r} is missing")
    values = [_flat(record[name], name) for name in names]
    return values if all(value.strip() for value in values) else None


def _alpaca(record: Mapping[str, Any]) -> tuple[str, str] | None:
    answer = "response" if "response" in record and "output" not in record else "output"
    texts = _required(record, "instruction", answer)
    if texts is None:
        return None
    column = "context" if "context" in record and "input" not in record else "input"
    given = _flat(record.get(column), column).strip()
    middle = f"### Input:\n{given}\n\n" if given else ""
    return f"### Instruction:\n{texts[0].strip()}\n\n{middle}### Response:\n", texts[1]


def _question(record: Mapping[str, Any]) -> tuple[str, str] | None:
    texts = _required(record, "question", "answer")
    return None if texts is None else (f"Question: {texts[0].strip()}\nAnswer: ", texts[1])


def _choices(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Choices in a list, in a mapping of texts and labels, or in opa to opd; the answer by place, letter or text."""
    texts = _required(record, "question")
    options, labels = _options(record)
    key = next((name for name in _ANSWERS if name in record), None)
    if key is None:
        raise UnfitRecord(f"an answer in one of the columns {', '.join(map(repr, _ANSWERS))}")
    place = _place(record[key], key, options, labels)
    if texts is None or place is None:
        return None
    lines = [f"{letter}. {option}" for letter, option in zip(_LETTERS, options)]
    return f"Question: {texts[0].strip()}\n" + "\n".join(lines) + "\nAnswer: ", lines[place]


def _options(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The texts of the choices, at most one for each letter, and what an answer may call them."""
    options, labels = _found_options(record)
    if len(options) > len(_LETTERS):
        raise UnfitRecord(f"at most {len(_LETTERS)} choices, of which there are {len(options)}")
    return options, labels


def _found_options(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    labels = list(_LETTERS)
    for name in _OPTIONS:
        value = record.get(name)
        if isinstance(value, Mapping) and "text" in value:
            own = value.get("label")
            return _texts(value["text"], f"{name}.text"), _texts(own, f"{name}.label") if own else labels
        if isinstance(value, Mapping):
            return _texts(list(value.values()), name), [str(k) for k in value]
        if isinstance(value, (list, tuple)):
            return _texts(value, name), labels
    if "opa" in record:
        return [_flat(record.get(f"op{c}"), f"op{c}") for c in "abcd"], labels
    raise UnfitRecord(f"choices in one of the columns {', '.join(map(repr, _OPTIONS))}, or in 'opa' to 'opd'")


def _texts(value: Any, path: str) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise UnfitRecord(f"a list of texts in {quoted(path)}, which holds {type(value).__name__}")
    return [_flat(item, path) for item in value]


def _place(answer: Any, column: str, options: Sequence[str], labels: Sequence[str]) -> int | None:
    """Which choice is meant; None for no answer, such as -1 in a test split that hides them."""
    if isinstance(answer, bool):
        raise UnfitRecord(f"an answer by number, letter or text in {quoted(column)}, which holds {str(answer).lower()}")
    if isinstance(answer, int):
        return answer if 0 <= answer < len(options) else None
    text = _flat(answer, column).strip()
    for names in (list(labels)[: len(options)], [label.lower() for label in labels][: len(options)], list(options)):
        if text in names:
            return names.index(text)
    return None


def _chat(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """The turns of one of the two columns; None if it is empty."""
    column = "messages" if "messages" in record else "conversations"
    if column in record and record[column] is None:
        return None
    if not isinstance(turns := record.get(column), (list, tuple)):
        raise UnfitRecord("a list of turns in the column 'messages' or 'conversations'")
    return _turns(turns)


def _turns(turns: Sequence[Any]) -> tuple[str, str] | None:
    """Turns with role and content, or from and value; the completion is the assistant's last turn."""
    said: list[tuple[str, str]] = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise UnfitRecord("turns with 'role' and 'content', or 'from' and 'value'")
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if isinstance(content, (list, tuple)):
            content = [part.get("text", "") if isinstance(part, Mapping) else part for part in content]
        if not isinstance(role, str):
            raise UnfitRecord("turns with 'role' and 'content', or 'from' and 'value'")
        said.append((_ROLES.get(role.lower(), role.capitalize()), _flat(content, "content").strip()))
    last = max((at for at, (role, text) in enumerate(said) if role == "Assistant" and text), default=None)
    if last is None:
        return None
    before = "".join(f"{role}: {text}\n\n" for role, text in said[:last] if text)
    return f"{before}Assistant: ", said[last][1]


_FORMATS: dict[str, Callable[[Mapping[str, Any]], tuple[str, str] | None]] = {
    "alpaca": _alpaca,
    "question": _question,
    "choices": _choices,
    "chat": _chat,
}
