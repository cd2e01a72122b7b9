"""Studies that run in a second: a tiny random model, a few dozen short documents, two optimiser steps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers.utils import logging as transformers_logging

import tiny_models
from ldc.execute.conductor import Outcome, run_study
from ldc.progress import Silent
from ldc.study.reading import read_study

BEASTS = ("heron", "otter", "badger", "lynx", "marten", "vole", "stoat")
PLACES = ("river", "hill", "marsh", "meadow", "forest")


def records(domain: str, count: int = 36, first: int = 0) -> list[dict[str, str]]:
    """Short documents of a domain, no two alike; `first` moves on to others."""
    return [
        {
            "doc": f"{domain}-{i}",
            "text": f"{domain} {i}: a {BEASTS[i % 7]} counts {i * i + 3} stones by the {PLACES[i % 5]}.",
        }
        for i in range(first, first + count)
    ]


def write_lines(path: Path, rows: list[dict[str, str]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass
class MiniStudy:
    """A study file with what it names beside it. `settings` may be changed; `write` puts them into the file."""

    folder: Path
    settings: dict[str, Any]

    @property
    def path(self) -> Path:
        """The study file."""
        return self.folder / "study.yaml"

    @property
    def out(self) -> Path:
        """The folder that results go to by default."""
        return self.folder / "out"

    def write(self) -> MiniStudy:
        """Write the study file."""
        self.path.write_text(yaml.safe_dump(self.settings, sort_keys=False), encoding="utf-8")
        return self

    def add_domain(self, name: str) -> None:
        """Write a domain's text and name it in the settings."""
        write_lines(self.folder / f"{name}.jsonl", records(name))
        self.settings["domains"][name] = f"{name}.jsonl"

    def run(self, out: Path | None = None, redo: bool = False) -> Outcome:
        """Run it in this process, or go on with it, on one thread."""
        self.write()
        return run_study(read_study(self.path), out or self.out, Silent(), "cpu", threads=1, redo=redo)

    def command(self, *more: str) -> list[str]:
        """The words after `ldc` that run it."""
        return ["run", str(self.path), "-o", str(self.out), "--threads", "1", "--device", "cpu", *more]


def mini_study(
    folder: Path,
    domains: tuple[str, ...] = ("birds", "brooks"),
    regimes: tuple[str, ...] = ("attn", "mlp", "all", "top1-mlp"),
    layers: int = 2,
) -> MiniStudy:
    """A study on disk: one random Llama and a few local domains."""
    folder.mkdir(parents=True, exist_ok=True)
    transformers_logging.disable_progress_bar()
    tiny_models.save_tiny(folder / "llama", "llama", layers=layers, hidden=16)
    study = MiniStudy(
        folder,
        {
            "name": "mini",
            "models": {"tiny": "./llama"},
            "domains": {},
            "regimes": list(regimes),
            "adapter": {"rank": 2, "alpha": 4},
            "training": {"steps": 2, "batch": 1, "accumulation": 1, "block_length": 16, "learning_rate": 0.01},
            "evaluation": {"documents": 2, "characters": 40, "window": 32},
        },
    )
    for name in domains:
        study.add_domain(name)
    return study.write()


def results(out: Path) -> dict[str, str]:
    """Hash of every file that holds a result, by its path below `out`: all but provenance and the plan."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in ("run.json", "plan.json", "plan.copy.json")
    }


def traces(out: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inode, time of change and bytes of every file of every run: whatever would tell that one was written again."""
    return {
        path.relative_to(out).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted((out / "runs").rglob("*"))
        if path.is_file()
    }
