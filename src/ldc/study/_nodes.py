"""Turns YAML text into plain data, with the line of every key and the problems found in the text."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field

import yaml

Keys = tuple[str | int, ...]
MAXIMAL_VALUES = 20_000
NOTES = "x-"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the keys that lead to it, its line if known, and what to do."""

    keys: Keys
    line: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Mark:
    """The line of a value, and how it is written there (empty for a section or list)."""

    line: int
    text: str


@dataclass(slots=True)
class Marked:
    """Plain data, the mark of each value by the keys that lead to it, and the problems met."""

    data: object = None
    marks: dict[Keys, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def marked_data(text: str) -> Marked:
    """The data of a YAML text, without the sections whose name begins with `x-`.

    A syntax error is one problem, and then there is no data.
    """
    found = Marked()
    try:
        root = yaml.compose(text, Loader=_Bounded)
        found.data = None if root is None else _Walk(found).value(root, ())
    except _TooMany as many:
        found.problems = [
            Problem((), many.line, f"more than {MAXIMAL_VALUES} values, aliases followed; is this a study file?")
        ]
    except yaml.MarkedYAMLError as error:
        found.problems.append(_syntax(error))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found.problems.append(Problem((), line, f"the control character {_shown(error.character)} is not allowed"))
    except RecursionError:
        found.problems.append(Problem((), None, "nested too deeply"))
    return found


def reads_as(value: object) -> str:
    """What YAML made of a plain scalar, in words."""
    if value is None:
        return "empty (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value:.12g}" if isinstance(value, float) else f"the number {value}"
    return "a date" if isinstance(value, datetime.date) else "binary data"


class _TooMany(Exception):
    """The text has more values than any study; `line` is where they become too many."""

    def __init__(self, line: int) -> None:
        self.line = line


class _Bounded(yaml.SafeLoader):
    """Ends as soon as there are too many values, each with its key; parsing all of a large text takes a minute."""

    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.nodes += 1
        if self.nodes > 2 * MAXIMAL_VALUES:
            raise _TooMany(self.line + 1)
        return super().compose_node(parent, index)


class _Walk:
    """One pass over the node tree. It follows aliases at each use, so each use has its own keys."""

    def __init__(self, found: Marked) -> None:
        self.found = found
        self.count = 0
        self.open: set[int] = set()
        self.scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, keys: Keys, line: int | None = None) -> object:
        """The plain value of a node; `line` is that of its key, where it has one."""
        self.count += 1
        line = line or node.start_mark.line + 1
        if id(node) in self.open:
            self.problem(keys, line, "the alias refers to a section that contains it")
            return None
        if self.count > MAXIMAL_VALUES:
            raise _TooMany(line)
        self.found.marks[keys] = Mark(line, node.value if isinstance(node, yaml.ScalarNode) else "")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, keys, line)
        self.open.add(id(node))
        try:
            if not isinstance(node, yaml.MappingNode):
                return [self.value(item, (*keys, place)) for place, item in enumerate(node.value)]
            return self.merged(node, keys) | self.own(node, keys)
        finally:
            self.open.discard(id(node))

    def problem(self, keys: Keys, line: int, message: str) -> None:
        self.found.problems.append(Problem(keys, line, message))

    def scalar(self, node: yaml.ScalarNode, keys: Keys, line: int) -> object:
        try:
            value = self.scalars.construct_object(node)
        except yaml.constructor.ConstructorError:
            if node.style is None and not node.tag.endswith(":value"):
                self.problem(keys, line, f"the tag `{node.tag.removeprefix('tag:yaml.org,2002:')}` has no meaning here")
            return node.value
        except ValueError:
            self.problem(keys, line, f"YAML cannot read `{node.value}`; if it is text, put it in quotes")
            return node.value
        if isinstance(value, int) and (re.match(r"[-+]?0[0-9_]", node.value) or ":" in node.value):
            self.problem(
                keys,
                line,
                f"YAML reads `{node.value}` as the number {value}: write the number plainly, or put a name in quotes",
            )
        return value

    def own(self, node: yaml.MappingNode, keys: Keys) -> dict[str, object]:
        """The entries written in the section itself."""
        data: dict[str, object] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(keys, line, "a name must be plain text, not a list or section")
                continue
            name = self.name(key_node, keys, line)
            if not keys and name.startswith(NOTES):
                continue
            if name in data:
                self.problem((*keys, name), line, f"given twice; the first is on line {first[name]}")
                continue
            first[name] = line
            data[name] = self.value(value_node, (*keys, name), line)
        return data

    def name(self, node: yaml.ScalarNode, keys: Keys, line: int) -> str:
        """A key as written, with a problem where YAML reads it as anything but text."""
        try:
            value = self.scalars.construct_object(node)
        except (yaml.constructor.ConstructorError, ValueError):
            value = b"" if node.tag.endswith(("binary", "value")) else datetime.date.min
        if not isinstance(value, str):
            text = node.value
            quoted = (
                f'; as a name, put it in quotes: "{text}"' if text.strip() else "; a name is missing before the colon"
            )
            self.problem((*keys, text), line, f"YAML reads `{text}` as {reads_as(value)}{quoted}")
        return str(node.value)

    def merged(self, node: yaml.MappingNode, keys: Keys) -> dict[str, object]:
        """The entries that `<<` merges in; an earlier section overrides a later one."""
        data: dict[str, object] = {}
        for key_node, source in node.value:
            if key_node.tag != _MERGE:
                continue
            sources = source.value if isinstance(source, yaml.SequenceNode) else [source]
            for part in reversed(sources):
                if isinstance(part, yaml.MappingNode):
                    entries = self.value(part, keys)
                    data |= entries if isinstance(entries, dict) else {}
                else:
                    self.problem(keys, key_node.start_mark.line + 1, "`<<` takes sections only, such as *defaults")
        return data


def _shown(character: int | str) -> str:
    return ascii(character if isinstance(character, str) else chr(character))


def _syntax(error: yaml.MarkedYAMLError) -> Problem:
    """A message of YAML's parser, reworded for someone who edits a file."""
    problem, context = error.problem or "", error.context or ""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    opened = error.context_mark.line + 1 if error.context_mark else line
    if "'\\t'" in problem:
        message = "a tab; YAML indents with spaces only"
    elif "quoted scalar" in context and "unexpected end" in problem:
        line, message = opened, "this line opens a quote that is never closed"
    elif "flow" in context and "expected ',' or" in problem:
        kind = "[" if "sequence" in context else "{"
        message = f"the `{kind}` opened on line {opened} is not closed, or a comma is missing"
    elif "unknown escape character" in problem:
        message = "a backslash inside double quotes; put the text in single quotes"
    elif "mapping values are not allowed" in problem:
        message = "a colon is not expected here: check the indentation, or put text that holds `: ` in quotes"
    elif "could not find expected ':'" in problem:
        line, message = opened, "this line is not of the form `key: value`; mind the space after the colon"
    elif problem.startswith("expected <block end>"):
        message = "this line does not fit those above: check the indentation"
    elif "cannot start any token" in problem:
        character = problem.split("'")[1] if "'" in problem else "this character"
        message = f"`{character}` cannot begin a value; put the text in quotes"
    elif problem.startswith("found undefined alias"):
        name = problem.split("'")[1]
        message = f"the alias *{name} has no anchor &{name} above it"
    elif "expected a single document" in context or "another document" in problem:
        message = "a second document begins here (`---`); a study file holds one study"
    else:
        message = f"not valid YAML: {', '.join(filter(None, (context, problem)))}"
    return Problem((), line, message)
