"""The study that `ldc proxy` makes: full fine-tuning beside LoRA of several ranks, of one model or of another study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ldc.errors import StudyError
from ldc.study.regimes import Regime
from ldc.study.schema import (
    AdapterSpec,
    DomainSpec,
    EvaluationSpec,
    ModelSpec,
    Number,
    Positive,
    Record,
    SelectionSpec,
    Study,
    TrainingSpec,
    Whole,
)

RANKS = (4, 8, 16, 32, 64, 128)
RANKED = 16
"""The rank whose maps the report shows first, if it is compared."""
SHARE_OF_RATE = 0.2
"""Default ratio of the learning rates of full fine-tuning and LoRA: with it both learn the same (docs/log.md)."""
FULL = "full"


class ProxySettings(Record):
    """What `ldc proxy MODEL` compares."""

    domains: Annotated[tuple[str, ...], Field(min_length=1)] = ("python", "medical")
    """Domains tuned on: embedded ones by name, files and folders by path."""
    seeds: Positive = 3
    """Number of seeds; a seed sets the order of the text and, for LoRA, the start of the adapters."""
    ranks: tuple[Positive, ...] = ()
    """Ranks of LoRA; by default those of 4 to 128 that some projection of the model can have."""
    alpha: Annotated[Number, Field(gt=0)] = 32.0
    """The update of rank r is scaled by alpha / r; alpha is the same for all ranks."""
    steps: Positive = 40
    """Optimiser steps of every run."""
    rows: Positive = 4
    """Rows in each step."""
    length: Annotated[Whole, Field(ge=8)] = 64
    """Tokens in a row."""
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    """Peak learning rate of LoRA."""
    full_rate: Annotated[Number, Field(gt=0)] = 4e-4
    """Peak learning rate of full fine-tuning."""
    documents: Positive = 24
    """Held-out documents of each domain to score."""
    characters: Annotated[Whole, Field(ge=16)] = 800
    """Score at most this many characters of each document."""
    window: Annotated[Whole, Field(ge=8)] = 256
    """Longest sequence scored at once; no longer than the model's context."""


def study_of_model(
    model: tuple[str, ModelSpec],
    domains: Sequence[tuple[str, DomainSpec]],
    settings: ProxySettings,
    widest: int,
    context: int | None,
) -> Study:
    """The study of one model.

    Args:
        model, domains: each with its short name.
        settings: the rest.
        widest: the highest rank that any projection of the model can have.
        context: the longest sequence that the model reads, in tokens; None where it has no limit.

    Raises:
        StudyError: a rank that no projection can have, rows longer than the context, two domains of one name.
    """
    name, spec = model
    for rank in settings.ranks:
        if rank > widest:
            raise StudyError(
                f"--rank {rank}: no projection of {name} can have a rank above {widest}, the smaller of its two "
                "widths; give a lower one"
            )
    if context is not None and settings.length + 1 > context:
        raise StudyError(f"--length {settings.length}: {name} reads {context} tokens at most; give fewer")
    names = [domain for domain, _ in domains]
    if len(set(names)) < len(names):
        raise StudyError(f"--domain: two domains would be called {max(names, key=names.count)}; rename a file")
    ranks = settings.ranks or tuple(rank for rank in RANKS if rank <= widest)
    regimes = _regimes(Regime(block="all"), ranks, settings.full_rate)
    ranked = RANKED if RANKED in ranks else ranks[0]
    return Study(
        name="proxy",
        models={name: spec},
        domains=dict(domains),
        regimes=regimes,
        seeds=tuple(range(settings.seeds)),
        adapter=AdapterSpec(rank=ranked, alpha=settings.alpha),
        training=TrainingSpec(
            steps=settings.steps,
            batch=settings.rows,
            accumulation=1,
            block_length=settings.length,
            learning_rate=settings.learning_rate,
            trajectory=1,
        ),
        evaluation=EvaluationSpec(
            documents=settings.documents,
            characters=settings.characters,
            window=min(settings.window, context or settings.window),
        ),
        selection=SelectionSpec(regime=_name(ranked), measures=()),
    )


def study_of_study(study: Study, ranks: Sequence[int] = (), full_rate: float | None = None) -> Study:
    """The comparison at a study's own settings: its models, studied domains, seeds and training, the components of its
    ranked regime tuned in full and with LoRA.

    Args:
        study: the study.
        ranks: the ranks of LoRA; by default the ranked regime's.
        full_rate: learning rate of full fine-tuning; None takes that of the study's own full regime of these
            components, and without one SHARE_OF_RATE of LoRA's.

    Raises:
        StudyError: the ranked regime is no LoRA of fixed layers, or no rate of full fine-tuning is known.
    """
    ranked = study.regimes.get(study.selection.regime, Regime(block="all"))
    if ranked.full or ranked.choice is not None or ranked.text != "own":
        raise StudyError(
            f"selection.regime: {study.selection.regime} is not LoRA of fixed layers on a domain's own text, so "
            "it cannot be compared with full fine-tuning; name another regime"
        )
    own = [r for r in study.regimes.values() if r.full and (r.block, r.layers) == (ranked.block, ranked.layers)]
    lora_rate = ranked.learning_rate or study.training.rate
    rates = [full_rate, *(r.learning_rate or study.training.rate for r in own), SHARE_OF_RATE * (lora_rate or 0.0)]
    rate = next((rate for rate in rates if rate), None)
    if rate is None:
        raise StudyError(
            "training.learning_rate: auto finds rates of adapters, not of full fine-tuning; give --full-rate, such as "
            f"{SHARE_OF_RATE:g} of a rate that `ldc run` found, or a number as learning_rate"
        )
    plain = ranked.model_copy(update={"rank": None, "budget": None})
    wanted = tuple(sorted(set(ranks))) or (ranked.rank or study.adapter.rank,)
    return Study(
        name=f"{study.name[:58]}-proxy",
        models=study.models,
        domains={name: spec for name, spec in study.domains.items() if not spec.reference},
        regimes=_regimes(plain, wanted, rate),
        seeds=study.seeds,
        adapter=study.adapter,
        training=study.training,
        evaluation=study.evaluation.model_copy(update={"domains": "own"}),
        selection=SelectionSpec(regime=_name(RANKED if RANKED in wanted else wanted[0]), measures=()),
    )


def _regimes(plain: Regime, ranks: Sequence[int], rate: float) -> dict[str, Regime]:
    """The same components in full and with LoRA of these ranks; each regime sets its own rank."""
    full = Regime(block=plain.block, layers=plain.layers, full=True, learning_rate=rate)
    return {FULL: full, **{_name(rank): plain.model_copy(update={"rank": rank}) for rank in ranks}}


def _name(rank: int) -> str:
    return f"lora-r{rank}"
