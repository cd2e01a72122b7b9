"""The model card of an adapter: what it is, how it was made and how to load it. It has no time and no path."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ldc.domains.registry import is_synthetic
from ldc.models.folders import HUB_ID
from ldc.models.roles import Component
from ldc.plan.runs import Run
from ldc.plan.specs import RunId, Tune
from ldc.study.schema import ModelSpec, Study

_LOADING = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({base}{revision})
model = PeftModel.from_pretrained(base, "path/to/this/folder")
```"""


def base_name(name: str, spec: ModelSpec, folder: Path, revision: str | None) -> str:
    """The name of the base model in adapters: its Hub id; for a folder, its `published_as` or else its short name.

    Args:
        name: the model's short name in the study.
        folder: where its files are.
        revision: the commit, for a model from the Hub; None for a folder.
    """
    if spec.published_as == "folder":
        return str(folder)
    return spec.published_as or (spec.source if revision is not None else name)


def card_of(
    trained: Run, documents: pd.DataFrame, study: Study, base_model: str, revision: str | None
) -> Callable[[RunId], str]:
    """The card of a run by the name under which it is stored; empty where the run leaves no adapter."""
    if not isinstance(trained.spec, Tune):
        return lambda _name: ""
    return lambda name: adapter_card(trained, name, documents, study, base_model, revision)


def adapter_card(
    trained: Run,
    run: RunId,
    documents: pd.DataFrame,
    study: Study,
    base_model: str,
    revision: str | None,
) -> str:
    """The text of an adapter's README.md; the same run gives the same text.

    Args:
        trained: the run that trained it.
        run: the name under which it is stored.
        documents: its held-out scores; may be empty.
        study: the study.
        base_model, revision: what the adapter calls its base.
    """
    front, facts = _front(base_model, revision), _facts(trained, run, documents, study, base_model, revision)
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        "",
        f"# {run.model} on {run.domain}, {run.regime}, seed {run.seed}",
        "",
        "A LoRA adapter from a study of which layers change when a language model learns a domain. It was made to be "
        "measured, not used: it was trained briefly on one kind of text.",
        "",
        *(f"- {what}: {value}" for what, value in facts.items()),
        "",
        "## Loading",
        "",
        _LOADING.format(
            base=f'"{base_model}"' if "base_model" in front else '"path/to/the/base/model"',
            revision=f', revision="{revision}"' if revision else "",
        ),
        "",
        "## Components",
        "",
        *(f"- `{component.path}`" for component in trained.components),
    ]
    return "\n".join(lines) + "\n"


def _front(base_model: str, revision: str | None) -> dict[str, Any]:
    """The part of a card that the Hub reads; it names a published base."""
    published = HUB_ID.fullmatch(base_model) is not None and (revision is not None or "/" in base_model)
    return ({"base_model": base_model} if published else {}) | {
        "library_name": "peft",
        "tags": ["lora", "layer-domain-control"],
    }


def _facts(
    trained: Run, run: RunId, documents: pd.DataFrame, study: Study, base_model: str, revision: str | None
) -> dict[str, Any]:
    """What a card says of the run."""
    assert isinstance(trained.spec, Tune)
    spec, adapter = study.domains.get(run.domain), trained.spec.adapter
    synthetic = spec is not None and is_synthetic(run.domain, spec)
    text = f"{run.domain}, synthetic text (made by a generator of the package)" if synthetic else run.domain
    at = f" at revision `{revision}`" if revision else ""
    parameters = adapter.rank * sum(c.d_in + c.d_out for c in trained.components)
    training = study.training.model_dump(exclude_none=True) | {"learning_rate": trained.spec.rate}
    return {
        "Base model": f"`{base_model}`{at}",
        "Study": study.name,
        "Domain": text + (", its tokens in random order" if trained.spec.text.shuffled else ""),
        "Regime": f"{run.regime}: {_where(trained.components)}",
        "Seed": run.seed,
        "Trainable parameters": f"{parameters:,}",
        "Adapter": _settings(adapter.model_dump()),
        "Training": _settings(training),
        "Held-out bits per byte": _held_out(documents, synthetic),
    }


def _where(components: Sequence[Component]) -> str:
    """Blocks and layers in words."""
    layers = sorted({c.layer for c in components})
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    told = ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs)
    blocks = " and ".join(sorted({c.block for c in components}))
    return f"{len(components)} projections of {blocks} in layer{'s' if len(layers) > 1 else ''} {told}"


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _held_out(documents: pd.DataFrame, synthetic: bool) -> str:
    """Bits per byte = nll / (ln 2 x bytes) on each scored domain; lower is better."""
    told = []
    if documents.empty:
        return "not scored"
    for domain, rows in documents.groupby("eval_domain", sort=False):
        bits = float(rows["nll"].sum()) / (math.log(2) * int(rows["bytes"].sum()))
        told.append(f"{bits:.4f} on {domain} ({len(rows)} documents)")
    return "; ".join(told) + (" of synthetic text" if synthetic and len(told) == 1 else "") + " (lower is better)"
