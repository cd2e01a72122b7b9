"""The study file as frozen, typed records. The docstring under a field is its help, wherever help is shown."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ldc.study.domain_spec import DomainSpec, with_sources_apart
from ldc.study.leg_specs import EVERY, LEG_REGIMES, CausationSpec, Leg, RepresentationSpec
from ldc.study.record import SLUG_PATTERN, Number, Positive, Record, Seed, Share, Slug, Text, Whole, fault, short_form
from ldc.study.regimes import ORIGIN_REGIMES, Regime, regime_from_text
from ldc.study.score_check import score_fault
from ldc.study.selection_spec import CalibrationSpec, PrimarySpec, SelectionSpec

__all__ = [
    "SLUG_PATTERN",
    "AdapterSpec",
    "CalibrationSpec",
    "CausationSpec",
    "DomainSpec",
    "EvaluationSpec",
    "ModelSpec",
    "PrimarySpec",
    "RepresentationSpec",
    "SelectionSpec",
    "Study",
    "TrainingSpec",
    "fault",
]


def _no_float16(value: object) -> object:
    if isinstance(value, str) and value.lower() in ("float16", "fp16", "half"):
        raise ValueError(
            "float16 overflows on Gemma 3 and loses small gradients on other models; use bfloat16, float32 or auto"
        )
    return value


class ModelSpec(Record):
    """A base model: embedded, in a local folder, or on the Hub."""

    source: Text
    """`embedded`, a folder, or a Hub id such as `meta-llama/Llama-3.2-1B`."""
    revision: Text | None = None
    """Commit, tag or branch on the Hub."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "nf4"], BeforeValidator(_no_float16)] = "auto"
    """Precision of the frozen base: `auto` is float32 on a CPU and bfloat16 on a GPU; `nf4` stores it in four bits."""
    published_as: Annotated[Text, Field(pattern=r"^(folder|\w[\w.-]*/\w[\w.-]*)$")] | None = None
    """For a folder: the Hub id that adapters record as base, or `folder` for its path; default: the short name."""
    trust_remote_code: Annotated[bool, Field(strict=True)] = False
    """Run code that comes with the model. Dangerous: use it only for a source that you trust."""

    _bare = model_validator(mode="before")(short_form)


class AdapterSpec(Record):
    """The LoRA adapter of every run."""

    rank: Positive = 16
    """Rank r of the update."""
    alpha: Annotated[Number, Field(gt=0)] = 32.0
    """The update is scaled by alpha / r."""
    rslora: Annotated[bool, Field(strict=True)] = False
    """Scale by alpha / sqrt(r) instead."""

    @property
    def scaling(self) -> float:
        """The factor s of the update s B A."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


class TrainingSpec(Record):
    """How every run is trained."""

    steps: Positive | None = None
    """Optimiser steps of each run. Give either steps or tokens."""
    tokens: Positive | None = None
    """Training tokens of each run; they set the steps, through batch, accumulation and block_length."""
    epochs: Positive | None = None
    """At most this many passes over the training text; a run on little text then ends early."""
    batch: Positive = 2
    """Rows of block_length tokens in one pass."""
    accumulation: Positive = 4
    """Passes in one optimiser step; the loss is averaged over all their tokens."""
    block_length: Annotated[Whole, Field(ge=8)] = 512
    """Tokens in a row; short documents share a row without seeing each other."""
    learning_rate: Annotated[Number, Field(gt=0)] | Literal["auto"] = 2e-4
    """Peak learning rate of AdamW; the default depends on the size of the largest model: 2e-3 at 3 million parameters,
    5e-4 at 135 million, 2e-4 at a billion. `auto` finds one for each model and block, by a short sweep on validation
    text."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Schedule of the learning rate after warm-up; linear and cosine end at zero."""
    warmup: Share = 0.05
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    """Decoupled weight decay."""
    beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    """First AdamW beta."""
    beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    """Second AdamW beta."""
    epsilon: Annotated[Number, Field(gt=0)] = 1e-8
    """AdamW epsilon."""
    clip: Annotated[Number, Field(ge=0)] = 1.0
    """Largest norm of each run's gradient; 0 turns clipping off."""
    trajectory: Annotated[Whole, Field(ge=1)] = 4
    """How often the norms are measured during a run, the last step included; step 0 is always measured."""

    @model_validator(mode="after")
    def _length(self) -> TrainingSpec:
        if (self.steps is None) == (self.tokens is None):
            raise ValueError("give steps or tokens, not both" if self.steps else "give steps or tokens")
        return self

    @property
    def rate(self) -> float | None:
        """The peak learning rate; None where a sweep finds it."""
        return None if self.learning_rate == "auto" else self.learning_rate

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one run in one optimiser step."""
        return self.batch * self.accumulation * self.block_length

    @property
    def total_steps(self) -> int:
        """Optimiser steps of one run; at least one."""
        return self.steps if self.steps is not None else max(1, (self.tokens or 0) // self.tokens_per_step)


class EvaluationSpec(Record):
    """How held-out text is scored."""

    documents: Positive = 200
    """Score at most this many documents of the test split, spread evenly over it; by default 64 where a model has more
    than 20 million parameters."""
    characters: Annotated[Whole, Field(ge=16)] = 2_000
    """Score at most this many characters of each document, from its start; by default 1,000 where a model has more than
    20 million parameters."""
    window: Annotated[Whole, Field(ge=8)] = 512
    """Longest sequence scored at once, in tokens; a longer document is scored in windows that each begin with BOS."""
    domains: Literal["own", "all"] = "own"
    """Score each run on its own domain, or on every domain of the study (the forgetting matrix)."""
    batch_tokens: Positive = 8_192
    """Tokens scored at once. It affects speed and memory only, not the results."""


def _regimes(value: object) -> object:
    """Read a list of regimes as a mapping by name. An item is a known name or a mapping with one entry."""
    if not isinstance(value, (list, tuple)):
        return value
    regimes: dict[str, object] = {}
    for place, item in enumerate(value):
        if isinstance(item, dict) and len(item) == 1 and isinstance(next(iter(item.values())), (dict, Regime)):
            ((name, regime),) = item.items()
        elif isinstance(item, str):
            name = regime = item
        else:
            raise fault("must be a known name such as mlp, or your own as `early: {block: mlp, layers: 0-5}`", place)
        if name in regimes:
            raise fault(f"the regime {name} occurs twice", place)
        regimes[name] = regime
    return regimes


def _regime(value: object) -> object:
    return regime_from_text(value) if isinstance(value, str) else value


_ORIGIN = {name: regime_from_text(name) for name in ORIGIN_REGIMES}


class Study(Record):
    """One study: models x domains x regimes x seeds, and how they are trained and scored."""

    name: Slug = "study"
    """A name for reports."""
    models: Annotated[dict[Slug, ModelSpec], Field(min_length=1)]
    """Base models by a short name."""
    domains: Annotated[dict[Slug, DomainSpec], BeforeValidator(with_sources_apart), Field(min_length=1)]
    """Domains by a short name. The sources of a domain become texts of their own, as `math.books`."""
    order: Literal["own", "shuffled"] = "own"
    """`shuffled`: read all text with the words of each document in random order, training and held-out text alike.
    What a study then still finds is the words' share."""
    regimes: Annotated[
        dict[Slug, Annotated[Regime, BeforeValidator(_regime)]], BeforeValidator(_regimes), Field(min_length=1)
    ] = _ORIGIN
    """Which components carry adapters: names such as attn, mlp, all, top1-mlp, or your own as block and layers."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """Each run is repeated once for each seed."""
    adapter: AdapterSpec = AdapterSpec()
    """The LoRA adapter."""
    training: TrainingSpec
    """Training settings."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Evaluation settings."""
    selection: SelectionSpec = SelectionSpec()
    """How targeted regimes choose their layers."""
    legs: Annotated[tuple[Leg, ...], Field(min_length=1)] = ("adaptation",)
    """The kinds of evidence: `adaptation` trains adapters, `representation` reads what the model computes, `causation`
    changes what it computes. A study has the first; the others are added to it."""
    representation: RepresentationSpec = RepresentationSpec()
    """Settings of the leg `representation`."""
    causation: CausationSpec = CausationSpec()
    """Settings of the leg `causation`."""
    tests: PrimarySpec = PrimarySpec()
    """The primary tests, one for each question, named before the runs."""
    calibration: CalibrationSpec | None = None
    """Known truths to test the maps with; a study with this section makes only these maps."""

    @model_validator(mode="after")
    def _ranked_regime_exists(self) -> Study:
        if "pt" in self.regimes:
            raise fault(
                "`pt` is reserved for the model before adaptation, which is always scored; rename the regime",
                "regimes",
                "pt",
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise fault("a seed occurs twice", "seeds")
        targeted = [name for name, r in self.regimes.items() if r.targeted or r.grafted]
        ranked = self.selection.regime
        if targeted and ranked not in self.regimes:
            near = get_close_matches(ranked, self.regimes, n=1)
            raise fault(
                f"{targeted[0]} needs the runs of `{ranked}`, which is not among the study's regimes; "
                + (f"did you mean `{near[0]}`?" if near else "add it, or name another in selection.regime"),
                *(("selection", "regime") if "regime" in self.selection.model_fields_set else ("regimes",)),
            )
        first = self.regimes[ranked] if targeted else None
        if first is not None and (first.choice or first.full or first.text == "shuffled" or first.steps == "equal"):
            how = "tunes weights in full" if first.full else "reads shuffled text"
            how = "makes all steps equal" if first.steps == "equal" else how
            how = how if first.choice is None else "itself chooses layers"
            raise fault(f"`{ranked}` {how}; name a regime that does not", "selection", "regime")
        return self

    @model_validator(mode="after")
    def _files_differ(self) -> Study:
        seen: dict[str, tuple[str, str]] = {}
        for model in self.models:
            for domain in self.domains:
                other = seen.setdefault(f"{model}_{domain}".lower(), (model, domain))
                if other != (model, domain):
                    raise fault(
                        f"the figures of {model} on {domain} and of {other[0]} on {other[1]} would have one file name; "
                        "rename one of them",
                        "models",
                        model,
                    )
        return self

    @model_validator(mode="after")
    def _families(self) -> Study:
        for name in self.regimes:
            if "." in name:
                raise fault("a dot is reserved for the members of a family; use a dash", "regimes", name)
        for name, regime in self.regimes.items():
            if unknown := [s for s in regime.seeds or () if s not in self.seeds]:
                raise fault(f"{unknown[0]} is not among the study's seeds", "regimes", name, "seeds")
            known = {*self.domains, *(spec.domain for spec in self.domains.values())}
            if strange := [d for d in regime.domains or () if d not in known]:
                raise fault(f"`{strange[0]}` is not among the study's domains", "regimes", name, "domains")
            for limit in ("seeds", "domains") if name == self.selection.regime else ():
                if getattr(regime, limit) is not None:
                    raise fault(f"the ranked regime runs with all {limit} of the study", "regimes", name, limit)
        full = [name for name, r in self.regimes.items() if r.full and r.learning_rate is None]
        if full and self.training.rate is None:
            raise fault(
                "training.learning_rate: auto finds rates of adapters; give this full regime its own learning_rate",
                "regimes",
                full[0],
            )
        taught = self.calibration is not None and self.calibration.domains
        if all(d.reference for d in self.domains.values()) and not taught:
            raise ValueError("every domain is only a reference; at least one must be studied")
        return self

    @model_validator(mode="after")
    def _selection_fits(self) -> Study:
        chosen = self.selection
        if unknown := [s for s in chosen.seeds if s not in self.seeds]:
            raise fault(f"{unknown[0]} is not among the study's seeds", "selection", "seeds")
        if chosen.cross_fit is not None and chosen.seeds:
            raise fault("give seeds or cross_fit, not both", "selection", "cross_fit")
        if chosen.cross_fit is not None and chosen.cross_fit >= len(self.seeds):
            raise fault(
                f"each seed is ranked by {chosen.cross_fit} of the other seeds, and there are {len(self.seeds) - 1}",
                "selection",
                "cross_fit",
            )
        if chosen.seeds and set(chosen.seeds) == set(self.seeds) and any(r.choice for r in self.regimes.values()):
            raise fault("these are all the seeds; leave at least one to validate the ranking", "selection", "seeds")
        top = self.tests.top
        if top is not None and (top not in self.regimes or self.regimes[top].top is None):
            raise fault(f"`{top}` is not a top-k regime of the study", "tests", "top")
        if chosen.score == "contrast":
            regime = self.regimes.get(chosen.reference)
            if chosen.reference == "others" and len(self.domains) < 2:
                raise fault("`others` needs a second domain; name a regime on shuffled text", "selection", "reference")
            if chosen.reference not in ("others", *self.domains) and (regime is None or regime.text != "shuffled"):
                raise fault(
                    f"`{chosen.reference}` is neither `others` nor a domain or a regime on shuffled text of the study",
                    "selection",
                    "reference",
                )
        return self

    @model_validator(mode="after")
    def _calibration_fits(self) -> Study:
        spec = self.calibration
        if spec is None:
            return self
        known = set(self.domains)
        if quantised := [name for name, model in self.models.items() if model.dtype == "nf4"]:
            raise fault("a calibration changes weights, which nf4 does not allow", "models", quantised[0], "dtype")
        if "own" in known:
            raise fault("`own` stands for a model's own samples in a calibration; rename the domain", "domains", "own")
        if unknown := sorted({*spec.domains, *({spec.text} - {"own"})} - known):
            place = "domains" if unknown[0] in spec.domains else "text"
            raise fault(f"`{unknown[0]}` is not among the study's domains", "calibration", place)
        regime = self.regimes.get(self.selection.regime)
        if regime is None or regime.choice is not None or regime.full or regime.text == "shuffled":
            raise fault("a calibration maps with a regime of fixed layers", "selection", "regime")
        return self

    @model_validator(mode="after")
    def _legs_fit(self) -> Study:
        if "adaptation" not in self.legs:
            raise fault("every study has the leg adaptation; add it", "legs")
        if len(set(self.legs)) != len(self.legs):
            raise fault("a leg occurs twice", "legs")
        if len(self.legs) == 1:
            return self
        if taken := [name for name in LEG_REGIMES if name in self.regimes]:
            raise fault(f"`{taken[0]}` is the name of a leg's runs; rename the regime", "regimes", taken[0])
        if EVERY in self.domains:
            raise fault(f"`{EVERY}` is the name of runs that read all domains; rename the domain", "domains", EVERY)
        if len({spec.domain or name for name, spec in self.domains.items()}) < 2:
            raise fault(
                "a leg beside adaptation compares a domain with other text; add a second domain, or a general text as "
                "`general: {source: data/general.txt, reference: true}`",
                "domains",
            )
        if unknown := [seed for seed in self.causation.seeds if seed not in self.seeds]:
            raise fault(f"{unknown[0]} is not among the study's seeds", "causation", "seeds")
        return self

    @model_validator(mode="after")
    def _score_fits(self) -> Study:
        if wrong := score_fault(self.selection, self):
            raise fault(wrong, "selection", "score")
        return self

    @property
    def gated_seeds(self) -> tuple[int, ...]:
        """The seeds whose trained adapters the leg `causation` gates."""
        return self.causation.seeds or self.seeds

    @property
    def taught_domains(self) -> tuple[str, ...]:
        """The domains that a calibration teaches to a block."""
        own = tuple(name for name, spec in self.domains.items() if not spec.reference)
        return own if self.calibration is None else self.calibration.domains or own

    @property
    def validation_seeds(self) -> tuple[int, ...]:
        """The seeds of targeted and control runs: those that do not rank, or all if none is reserved for ranking."""
        return tuple(s for s in self.seeds if s not in self.selection.seeds)

    def ranks_for(self, seed: int) -> tuple[int, ...]:
        """The seeds whose mean ranking a targeted run of this seed uses. With `selection.cross_fit` these are the next
        seeds of the study, after the last one the first again; the seed itself is never among them."""
        if self.selection.cross_fit is None:
            return self.ranking_seeds
        at, many = self.seeds.index(seed), len(self.seeds)
        return tuple(sorted(self.seeds[(at + k) % many] for k in range(1, self.selection.cross_fit + 1)))

    @property
    def measured_regime(self) -> str | None:
        """The regime whose runs measure their output effect: the ranked one, if its layers are fixed."""
        regime = self.regimes.get(self.selection.regime)
        fixed = regime is not None and regime.choice is None and not regime.full
        return self.selection.regime if fixed else None

    @property
    def ranking_seeds(self) -> tuple[int, ...]:
        """The seeds whose runs are ranked."""
        return self.selection.seeds or self.seeds
