"""What of a study's folder, besides its runs, has changed since it was written."""

from __future__ import annotations

from pathlib import Path

from ldc.store.domain_file import DOMAINS
from ldc.store.plan_file import PlanFile
from ldc.store.records import read_record
from ldc.store.report_file import ReportFile
from ldc.store.runs import STUDY

_AGAIN = "has changed since it was written; `ldc run` writes it anew"


def changes(out: Path) -> list[str]:
    """A sentence for each file that has changed, with what mends it.

    Files of the report are read only if they are younger than its record; those that every command needs are read
    anyway. Runs are `Store`'s.

    Raises:
        StoreError: neither the plan nor its copy can be read.
    """
    plan = PlanFile(out)
    found = [f"{name} {_AGAIN}" for name in plan.damaged()]
    if study_changed(out):
        found.append(f"{STUDY} {_AGAIN}, as it was recorded")
    if (out / DOMAINS).exists() and read_record(out / DOMAINS) is None:
        found.append(f"{DOMAINS} {_AGAIN}")
    if odd := ReportFile(out).changed(whole=False):
        found.append(f"{odd} has changed since the report was built; `ldc report` builds it anew")
    return found


def study_changed(out: Path) -> bool:
    """Whether the study's file is another text than the one that was recorded.

    Raises:
        StoreError: neither the plan nor its copy can be read.
    """
    text = PlanFile(out).study()
    try:
        return text is not None and (out / STUDY).read_bytes() != text.encode()
    except OSError:
        return True
