"""Checkpoints of a bank that is being computed: `checkpoints/<bank>/` in the study's folder, removed when it is done.

They are no part of any run's key or result. A file is its checksum, a line of JSON and tensors as safetensors. One that
is damaged, or was left by other work, is ignored and said.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from ldc.engine.checkpoint import Saved
from ldc.errors import EnvironmentFault
from ldc.plan.checkpoints import INTERVAL, WRITES_PER_INTERVAL
from ldc.store.atomic import write_bytes
from ldc.store.records import digest

FOLDER = "checkpoints"


class BankCheckpoint:
    """The checkpoint of one bank.

    Args:
        out: the study's folder.
        bank: the bank's name.
        work: all that the arithmetic of the bank depends on; a checkpoint of other work is not used.
        say: told what is continued, ignored or cannot be written.

    Attributes:
        seconds: spent on writing.
        written: how many files were written.
    """

    def __init__(self, out: Path, bank: str, work: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self.folder, self.say = out / FOLDER / bank, say
        self.work = hashlib.blake2b(json.dumps(work, sort_keys=True).encode(), digest_size=16).hexdigest()
        self.seconds, self.written = 0.0, 0
        self._waiting: dict[str, Callable[[], Saved]] = {}
        self._due = time.monotonic() + INTERVAL
        self._told = False

    def load(self, piece: str) -> Saved | None:
        """The last state of a piece that was written; None if there is none, or none that can be used."""
        path = self._path(piece)
        if not path.is_file():
            return None
        try:
            saved, work = _decoded(path.read_bytes())
        except (OSError, ValueError, KeyError, SafetensorError):
            self.say(f"{path}: the checkpoint is damaged and ignored; this part is computed anew")
            return None
        if work != self.work:
            self.say(f"{path}: the checkpoint belongs to other work and is ignored; this part is computed anew")
            return None
        if not self._told:
            self._told = True
            self.say("continuing from a checkpoint")
        return saved

    def offer(self, piece: str, state: Callable[[], Saved]) -> None:
        """Write all pieces offered since the last time, if it is time.

        A piece that is finished must not change any more: its last state may be written later.
        """
        self._waiting[piece] = state
        began = time.monotonic()
        if began < self._due:
            return
        for name, wanted in self._waiting.items():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_bytes(self._path(name), _encoded(wanted(), self.work))
                self.written += 1
            except (EnvironmentFault, OSError) as error:
                self.say(f"{self.folder}: a checkpoint cannot be written, and the work goes on without ({error})")
        self._waiting = {}
        spent = time.monotonic() - began
        self.seconds += spent
        self._due = time.monotonic() + max(INTERVAL, WRITES_PER_INTERVAL * spent)

    def remove(self) -> None:
        """Remove it: the bank is done, or is not computed in this way any more."""
        remove_checkpoints(self.folder)
        with suppress(OSError):
            self.folder.parent.rmdir()

    def _path(self, piece: str) -> Path:
        return self.folder / hashlib.blake2b(piece.encode(), digest_size=8).hexdigest()


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints below a folder."""
    shutil.rmtree(folder, ignore_errors=True)


def _encoded(saved: Saved, work: str) -> bytes:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in saved.tensors.items()}
    body = json.dumps({"work": work, "facts": saved.facts}).encode() + b"\n" + save(tensors)
    return digest(body).encode() + b"\n" + body


def _decoded(data: bytes) -> tuple[Saved, str]:
    """A state, and the work it belongs to.

    Raises:
        ValueError: it has changed since it was written.
    """
    checksum, _, body = data.partition(b"\n")
    if checksum != digest(body).encode():
        raise ValueError("its checksum differs")
    head, _, tensors = body.partition(b"\n")
    record = json.loads(head)
    return Saved(load(tensors), record["facts"]), record["work"]
