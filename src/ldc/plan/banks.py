"""Decides which runs share a bank. The choice is recorded, so a resumed study repeats the same arithmetic exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace

from ldc.plan.runs import Run

BANK_TOKENS = 8_192
"""Tokens of all runs of a bank in one pass: enough to fill a matrix product, little enough to hold its activations."""


@dataclass(frozen=True, slots=True)
class BankPlan:
    """Runs of one kind and one model (or variant) that are computed together.

    Attributes:
        model: the name of the model or variant.
        keys: the keys of its runs.
        compiled: whether decoder layers are called compiled.
        rescored: whether its runs are already trained and only scored on new text.
    """

    model: str
    keys: tuple[str, ...]
    compiled: bool = False
    rescored: bool = False

    @property
    def name(self) -> str:
        """A short name, the same for the same runs."""
        return hashlib.blake2b("".join((self.model, *self.keys)).encode(), digest_size=6).hexdigest()


def plan_banks(
    runs: Sequence[Run], recorded: Sequence[BankPlan], done: Collection[str], per_bank: int, compiled: bool = False
) -> list[BankPlan]:
    """The banks that are still to be computed.

    An unfinished recorded bank is repeated whole if all its runs are still wanted: the same neighbours give the same
    arithmetic. Other runs are grouped anew in their order: a bank holds runs of one kind that may share it, at most
    `per_bank` of them trained. A run that changes the model has its own bank.

    Args:
        runs: one of each key.
        recorded: the banks of earlier calls.
        done: keys of runs that need no work.
        per_bank: trained runs in a bank.
        compiled: whether new banks call decoder layers compiled.
    """
    wanted = {run.key: run for run in runs}
    models = {run.id.model for run in runs}
    kept = [bank for bank in recorded if bank.model in models and set(bank.keys) <= wanted.keys()]
    kept = [bank for bank in kept if any(key not in done for key in bank.keys)]
    covered = {key for bank in kept for key in bank.keys}
    loose = [run for run in runs if run.key not in covered and run.key not in done]
    return kept + [replace(bank, compiled=compiled) for bank in _grouped(loose, per_bank)]


def rescoring_banks(runs: Sequence[Run], per_bank: int) -> list[BankPlan]:
    """Banks of trained runs that lack only some scores."""
    return [replace(bank, rescored=True) for bank in _grouped(runs, per_bank)]


def halves(bank: BankPlan) -> list[BankPlan]:
    """The same runs in two banks."""
    middle = (len(bank.keys) + 1) // 2
    return [replace(bank, keys=bank.keys[:middle]), replace(bank, keys=bank.keys[middle:])]


def _grouped(runs: Sequence[Run], per_bank: int) -> list[BankPlan]:
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.id.model, run.kind.name, run.kind.together(run.spec)), []).append(run)
    banks: list[BankPlan] = []
    for members in groups.values():
        kind, model = members[0].kind, members[0].id.model
        most = 1 if kind.alone else per_bank if kind.trains else len(members)
        share = -(-len(members) // -(-len(members) // max(1, most)))
        for at in range(0, len(members), share):
            banks.append(BankPlan(model, tuple(run.key for run in members[at : at + share])))
    return banks
