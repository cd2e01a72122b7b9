"""Inputs: the files of a folder that differ from a good one; random changes of bytes, of JSON and of YAML."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Edits = list[tuple[int, str, Any]]
"""Where (a number that chooses a place), what is done there, and with which value."""
WAYS = ("set", "set", "set", "delete", "rename", "twice", "wrap")
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 2**64, 10**400, 0.0, -0.0, 1e308, 1e-320, 0.5),
    *(float("nan"), float("inf"), "", " ", "x", "NaN", "1e6", "\u0663", "\u202eabc", "\x1b[31m", "=1+1", "\ud800"),
    *(
        "../other/file",
        "/etc/passwd",
        "~nobody-here/x",
        "a" * 5_000,
        "a/" * 2_000,
        "\x00",
        "{text}",
        "{",
        "{0.__class__}",
    ),
    *([], [[]], {}, [None], [1, "a"], {"a": 1}, {"": {"": {}}}, [[[[[[[[]]]]]]]], "([a-z_.0-9]+)*#", "*" * 60),
)
PIECES = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r", b"\t", b" ", b"{", b"}", b"[", b"]", b'"', b"'", b",", b":"),
    *(b"!!python/object/apply:os.system [ls]", b"&a [*a]", b"<<: *a", b"%", b"\\ud800", b"NaN", b"9" * 500, b"- " * 40),
    *(b"\x1b[2J", b"\xe2\x80\xae", b"\xc3\x28", b"\x80", b"0x", b"1e999", b"null", b"true", b"-", b"?", b"|", b"#"),
)


@dataclass(frozen=True)
class Case:
    """One input: content by path within the folder; None removes a file of the good folder."""

    name: str
    files: dict[str, bytes | None]

    def put(self, folder: Path) -> None:
        """Change a folder that holds the good input."""
        for path, content in self.files.items():
            if content is None:
                (folder / path).unlink(missing_ok=True)
            else:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)

    def as_text(self) -> str:
        """As JSON, for the corpus."""
        files = {
            p: None if c is None else base64.b85encode(zlib.compress(c, 9)).decode() for p, c in self.files.items()
        }
        return json.dumps({"name": self.name, "files": files}, indent=1) + "\n"


def from_text(text: str) -> Case:
    """The case of a file of the corpus."""
    data = json.loads(text)
    files = {p: None if c is None else zlib.decompress(base64.b85decode(c)) for p, c in data["files"].items()}
    return Case(data["name"], files)


def random_edits(chance: random.Random, values: Callable[[], Any] | None = None) -> Edits:
    """One to three edits."""
    take = values or (lambda: chance.choice(NASTY))
    return [(chance.randrange(10**6), chance.choice(WAYS), take()) for _ in range(chance.choice((1, 1, 2, 3)))]


def edited(tree: Any, edits: Edits) -> Any:
    """A copy of plain data with the edits."""
    tree = json.loads(json.dumps(tree))
    for where, way, value in edits:
        places = list(_places(tree))
        if places:
            _edit(*places[where % len(places)], way, value)
    return tree


def _places(tree: Any) -> Any:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def _edit(parent: Any, key: Any, way: str, value: Any) -> None:
    if way == "delete":
        del parent[key]
    elif way == "rename" and isinstance(parent, dict):
        parent[value if isinstance(value, str) else f"x{value!r:.20}"] = parent.pop(key)
    elif way == "twice" and isinstance(parent, list):
        parent.append(parent[key])
    elif way == "wrap":
        parent[key] = [parent[key]]
    else:
        parent[key] = value


def torn(content: bytes, chance: random.Random) -> bytes:
    """Bytes with one to four changes."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
        what = chance.randrange(6)
        if what == 0:
            data[at:at] = chance.choice(PIECES)
        elif what == 1:
            data[at : at + chance.choice((1, 4, 40))] = chance.choice(PIECES)
        elif what == 2 and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif what == 3:
            del data[at : min(end, at + 200)]
        elif what == 4:
            data[end:end] = data[at : min(end, at + 200)]
        else:
            del data[end:]
    return bytes(data)


def as_json(tree: Any) -> bytes:
    """JSON as Python writes it: with NaN, and numbers of hundreds of digits."""
    return json.dumps(tree).encode()


def as_yaml(tree: Any) -> bytes:
    """A study file."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=False).encode("utf-8", "surrogatepass")
