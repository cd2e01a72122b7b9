"""What ran where: versions and machine facts for `run.json` and the page, read without importing what they describe."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("layer-domain-control", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "pyarrow")


def versions() -> dict[str, str]:
    """Version of Python and of each package that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def code() -> str:
    """A hash of the package's own files, so that a changed installation counts as another version."""
    found, package = hashlib.blake2b(digest_size=16), Path(__file__).parent
    for path in sorted(p for p in package.rglob("*") if p.suffix in (".py", ".jinja", ".css", ".js")):
        found.update(f"{path.relative_to(package).as_posix()}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()
