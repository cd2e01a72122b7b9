"""The house rules that a machine can check: one direction of imports, small files, a frozen surface."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ldc
from import_picture import BEGIN, END, LEVELS, PAGE, imports, picture

SOURCE = Path(ldc.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

CATCH_ALL = ("cli.py", "models/foreign.py")
"""The run's outermost boundary, and the one place where transformers, tokenizers and safetensors are called: tokenizers
raises bare `Exception`s, and the others' own errors have no common class below it."""


def level(module: str) -> int:
    """The height of a module of the package; the most specific entry counts."""
    best = max(
        (name for names in LEVELS for name in names if module == name or module.startswith(f"{name}.")),
        key=len,
        default=None,
    )
    assert best is not None, f"{module} has no place in the one direction of imports"
    return next(height for height, names in enumerate(LEVELS) if best in names)


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def test_no_arrow_goes_up_not_even_inside_a_function() -> None:
    for room, below in imports().items():
        for other in below:
            assert level(other) <= level(room), f"{room} imports {other}, which stands above it"


def test_the_picture_in_the_architecture_is_that_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) : text.index(END) + len(END)] == picture(), "run python tests/import_picture.py"


def test_nothing_below_the_report_knows_it() -> None:
    knowing = {room for room, below in imports().items() if "report" in below}
    assert {level(room) > level("analysis") for room in knowing} == {True}
    assert not knowing & {"analysis", "store", "state", "engine", "plan"}


def test_no_module_name_is_borne_in_three_packages() -> None:
    found: dict[str, list[str]] = {}
    for path in FILES:
        if path.name not in ("__init__.py", "__main__.py"):
            found.setdefault(path.name, []).append(str(path.parent.relative_to(SOURCE)))
    assert {name: where for name, where in found.items() if len(where) > 2} == {}


def eager_imports(tree: ast.Module) -> list[str]:
    """Modules of the package imported when the file is; imports inside functions and for types only do not count."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ldc."):
            found.append(node.module.removeprefix("ldc."))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    module = module_of(path)
    for imported in eager_imports(ast.parse(path.read_text())):
        assert level(imported) <= level(module), f"{module} imports {imported}, which stands above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "console.py"], ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_the_console_prints_and_only_the_command_line_catches_everything(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print"
        if isinstance(node, ast.ExceptHandler) and path.relative_to(SOURCE).as_posix() not in CATCH_ALL:
            assert node.type is not None
            assert getattr(node.type, "id", "") != "Exception"
        assert not (isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names))


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        text = path.read_text()
        assert "import pickle" not in text
        assert "torch.load(" not in text
        assert "torch.save(" not in text


def test_the_public_names_are_frozen() -> None:
    assert ldc.__all__ == [
        "ExitCode",
        "LdcError",
        "Results",
        "Study",
        "StudyFile",
        "UpdateNorms",
        "adapter_norms",
        "checkpoint_norms",
        "load",
        "read_study",
        "run",
        "update_norms",
    ]
    for name in ldc.__all__:
        assert getattr(ldc, name).__doc__


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'maps'"):
        _ = ldc.maps


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, ldc; print([m for m in ('torch', 'pandas', 'numpy', 'pydantic', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
