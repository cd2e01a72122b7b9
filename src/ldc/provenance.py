"""What ran where: versions and machine facts for `run.json` and the page, read without importing what they describe."""

from __future__ import annotations

import platform
from importlib import metadata

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
