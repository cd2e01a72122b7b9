"""Held-out text scored for the members of a bank, as tables of documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ldc.domains.windows import HeldOut
from ldc.engine.bank import Bank
from ldc.engine.checkpoint import Piece
from ldc.engine.evaluate import PT, score
from ldc.engine.workspace import Workspace
from ldc.plan.runs import Run
from ldc.tables import DOCUMENTS

NOT_FINITE = "held-out loss is not finite; lower training.learning_rate"


def score_members(
    space: Workspace, bank: Bank, runs: Mapping[str, Run], tell: Callable[[int], None]
) -> list[pd.DataFrame]:
    """The scored documents of each member, in the bank's order; without rows where a run is not scored.

    Args:
        runs: those of the members, by name.
    """
    own = [runs[member.name] for member in bank.members]
    parts: list[list[pd.DataFrame]] = [[] for _ in own]
    for domain in space.study.domains:
        present = [k for k, run in enumerate(own) if domain in dict(run.scores)]
        if not present:
            continue
        text = space.feed.held_out(domain)
        batch_tokens = space.study.evaluation.batch_tokens
        kept = Piece(space.checkpoint, f"scores on {domain}")
        totals = score(bank, text.windows, present, batch_tokens, False, lambda _rows, tokens: tell(tokens), kept)
        for k in present:
            parts[k].append(documents_table(domain, text, totals[k]))
    return [_joined(frames) for frames in parts]


def score_model(space: Workspace, run: Run, tell: Callable[[int], None]) -> pd.DataFrame:
    """The scored documents of a run under the model as its weights are now."""
    bank = Bank(space.base, [], 1, 1.0)
    parts = []
    for domain, _ in run.scores:
        text = space.feed.held_out(domain)
        batch_tokens = space.study.evaluation.batch_tokens
        kept = Piece(space.checkpoint, f"scores of {run.key} on {domain}")
        totals = score(bank, text.windows, [], batch_tokens, True, lambda _rows, tokens: tell(tokens), kept)
        parts.append(documents_table(domain, text, totals[PT]))
    return _joined(parts)


def documents_table(domain: str, text: HeldOut, nll: Any) -> pd.DataFrame:
    """A row for each scored document of a domain.

    Args:
        nll: [documents] in nats.
    """
    return pd.DataFrame(
        {"eval_domain": domain, "document": text.sources, "tokens": text.tokens, "bytes": text.bytes, "nll": nll},
        columns=list(DOCUMENTS.own),
    )


def fault_of(documents: pd.DataFrame) -> str | None:
    """Why these scores cannot be believed; None if they can."""
    return None if np.isfinite(documents["nll"]).all() else NOT_FINITE


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else DOCUMENTS.rows([])
