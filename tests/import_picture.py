"""The picture of the imports in `docs/architecture.md`, drawn from the code: run this file to redraw it.

A room is a package or a module at the top of `ldc`. Every import counts, also those inside functions and for types.
"""

from __future__ import annotations

import ast
from pathlib import Path

import ldc

SOURCE = Path(ldc.__file__).parent
PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- imports: drawn by tests/import_picture.py -->", "<!-- end of imports -->"
LEVELS = (
    ("errors", "progress", "norms", "spectrum", "provenance", "tables", "system"),
    ("study",),
    ("models", "domains", "access.hub"),
    ("plan", "inspection", "study.short_form", "study.draft"),
    ("study.short_calibration",),
    ("engine",),
    ("access",),
    ("store",),
    ("analysis",),
    ("state",),
    ("report", "export", "conversion"),
    ("execute",),
    ("results", "models.tiny"),
    ("console",),
    ("commands",),
    ("cli", "__init__"),
    ("__main__",),
)
"""Rooms from the bottom to the top; a module of a package may be a room of its own. Imports go down or stay."""
FOUNDATION = ("errors", "progress", "provenance", "system", "norms", "spectrum", "tables")
"""Rooms that import nothing above themselves and are imported almost everywhere: named once, without arrows."""


def room_of(module: str) -> str:
    """The room of a module of the package, such as `models` of `models.roles`."""
    names = [name for names in LEVELS for name in names if module == name or module.startswith(f"{name}.")]
    return max(names, key=len, default="__init__")


def imports() -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        room = room_of(".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ldc"):
                continue
            module = (node.module or "").partition(".")[2]
            for alias in node.names:
                whole = f"{module}.{alias.name}" if module else alias.name
                other = room_of(whole)
                if other != room:
                    found.setdefault(room, set()).add(other)
    return found


def reduced(edges: dict[str, set[str]]) -> dict[str, list[str]]:
    """The arrows that no way over other rooms replaces."""

    def reach(room: str, seen: frozenset[str] = frozenset()) -> set[str]:
        below = edges.get(room, set()) - seen
        return below | {far for near in below for far in reach(near, seen | {room, near})}

    return {
        room: sorted(other for other in below if not any(other in reach(near) for near in below - {other}))
        for room, below in edges.items()
    }


def picture() -> str:
    """The picture as Markdown: a graph, and the foundation in words."""
    edges = {
        room: below - set(FOUNDATION) for room, below in imports().items() if room not in (*FOUNDATION, "__init__")
    }
    lines = ["```mermaid", "graph TD"]
    for room, below in sorted(reduced(edges).items()):
        lines += [f"    {_node(room)} --> {_node(other)}" for other in below]
    told = f"Below all of them: `{'`, `'.join(FOUNDATION)}`."
    return "\n".join([BEGIN, *lines, "```", "", told, END])


def _node(room: str) -> str:
    return room.strip("_").replace(".", "_") + f'["{room}"]' if "." in room or "_" in room else room


def drawn(text: str) -> str:
    """A page with the picture of today."""
    before, _, rest = text.partition(BEGIN)
    return before + picture() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
