"""Which runs share a bank. The choice is recorded, so that a resumed study repeats the same arithmetic to the byte."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ldc.plan.runs import PT, Run

BANK_TOKENS = 8_192
"""Tokens of all runs of a bank in one pass: enough to fill a matrix product, little enough to hold its activations."""


@dataclass(frozen=True, slots=True)
class BankPlan:
    """Runs of one model that are trained and scored together, by key, and whether by compiled code."""

    model: str
    keys: tuple[str, ...]
    compiled: bool = False

    @property
    def name(self) -> str:
        """A short name, the same for the same runs."""
        return hashlib.blake2b("".join(self.keys).encode(), digest_size=6).hexdigest()


def plan_banks(
    runs: Sequence[Run], recorded: Sequence[BankPlan], done: Collection[str], per_bank: int, compiled: bool = False
) -> list[BankPlan]:
    """The banks that must be run so that every run is done.

    A recorded bank that has something left to do is repeated whole, as long as all its runs are still wanted: the same
    neighbours, the same arithmetic. Runs in no such bank are grouped anew, by domain and in order, at most `per_bank`
    runs of one rank in a bank, and either all trained or none; PT goes with its domain's first run.
    """
    wanted = {run.key: run for run in runs}
    kept = [bank for bank in recorded if set(bank.keys) <= wanted.keys()]
    kept = [bank for bank in kept if any(key not in done for key in bank.keys)]
    covered = {key for bank in kept for key in bank.keys}
    loose = [run for run in runs if run.key not in covered and run.key not in done]
    return kept + [replace(bank, compiled=compiled) for bank in _grouped(loose, per_bank)]


def halves(bank: BankPlan) -> list[BankPlan]:
    """The same runs in two banks."""
    middle = (len(bank.keys) + 1) // 2
    return [replace(bank, keys=bank.keys[:middle]), replace(bank, keys=bank.keys[middle:])]


def _grouped(runs: Sequence[Run], per_bank: int) -> list[BankPlan]:
    banks: list[BankPlan] = []
    kinds = list(dict.fromkeys((run.id.model, run.adapter, run.source is None) for run in runs))
    for kind in kinds:
        model = kind[0]
        members = [run for run in runs if (run.id.model, run.adapter, run.source is None) == kind]
        trained = sum(run.id.regime != PT for run in members)
        share = -(-trained // max(1, -(-trained // per_bank)))
        current: list[Run] = []
        for run in members:
            if current and sum(r.id.regime != PT for r in current) >= max(1, share):
                banks.append(BankPlan(model, tuple(r.key for r in current)))
                current = []
            current.append(run)
        banks.append(BankPlan(model, tuple(r.key for r in current)))
    return banks
