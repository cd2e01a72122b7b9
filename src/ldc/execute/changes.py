"""Finished results are never replaced in silence: text or weights that changed since are refused with what changed."""

from __future__ import annotations

from ldc.errors import StoreError
from ldc.plan.runs import Inputs
from ldc.store.runs import Store


def changed_inputs(store: Store, now: Inputs) -> list[str]:
    """What differs from the inputs of stored runs, in words, each with the number of runs stored with it.

    Args:
        now: the models and the text as they are.
    """
    before, stored = store.plan.inputs(), list(store.stored_names())
    if before is None:
        return []
    found = []
    for name, model in now.models.items():
        old = before.models.get(name)
        if old is not None and (old.weights, old.tokenizer) != (model.weights, model.tokenizer):
            what = "weights" if old.weights != model.weights else "tokenizer"
            found.append((f"the {what} of the model {name}", sum(of == name for of, _ in stored)))
    for name, fingerprint in now.domains.items():
        if before.domains.get(name, fingerprint) != fingerprint:
            found.append((f"the text of the domain {name}", sum(of == name for _, of in stored)))
    return [f"{what} ({count} {'run' if count == 1 else 'runs'})" for what, count in found if count]


def check_unchanged(store: Store, now: Inputs) -> None:
    """Refuse text or weights that changed since runs were stored.

    Raises:
        StoreError: says what changed and how many stored runs it concerns.
    """
    if found := changed_inputs(store, now):
        raise StoreError(
            f"{store.out}: changed since runs were stored: {'; '.join(found)}. Undo the change, give another folder, "
            "or compute these runs anew with --redo (redo=True from Python)"
        )
