"""The study file as frozen, typed records. The docstring under a field is its help, wherever help is shown."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from ldc.study.regimes import ORIGIN_REGIMES, Regime, plain_number, regime_from_text

SLUG_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
Slug = Annotated[str, StringConstraints(strict=True, pattern=SLUG_PATTERN, max_length=64)]
Text = Annotated[str, StringConstraints(strict=True, min_length=1)]
Whole = Annotated[int, BeforeValidator(plain_number)]
Number = Annotated[float, BeforeValidator(plain_number)]
Positive = Annotated[int, Field(gt=0), BeforeValidator(plain_number)]
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(plain_number)]


def fault(message: str, *at: str | int) -> PydanticCustomError:
    """An error below the record that finds it. `at` leads from that record to the key or the index in a list."""
    return PydanticCustomError("fault", "{message}", {"message": message, "at": at})


def _bare_source(value: object) -> object:
    """Read `math: embedded` as `math: {source: embedded}`."""
    return {"source": value} if isinstance(value, str) else value


def _no_float16(value: object) -> object:
    if isinstance(value, str) and value.lower() in ("float16", "fp16", "half"):
        raise ValueError(
            "float16 overflows on Gemma 3 and loses small gradients on other models; use bfloat16, float32 or auto"
        )
    return value


class Record(BaseModel):
    """A frozen record that refuses unknown keys. Each field's docstring is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


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

    _bare = model_validator(mode="before")(_bare_source)


class DomainSpec(Record):
    """A domain: embedded, one source that LDC splits, one source for each split, or a data set on the Hub."""

    source: Text | None = None
    """`embedded`, a file or folder that LDC splits by source document, or `hub:` and a data set's id; `hub` alone takes
    the built-in choice for the domain's name."""
    configuration: Text | None = None
    """Configuration of a Hub data set that has several."""
    folder: Text | None = None
    """Folder to read in a Hub data set that has folders instead of configurations."""
    revision: Text | None = None
    """Commit, tag or branch of a Hub data set; the newest by default."""
    train: Text | None = None
    """File or folder of the training split, if the splits exist already; for a Hub data set, the name of its split."""
    validation: Text | None = None
    """File or folder of the validation split; for a Hub data set, the name of its split."""
    test: Text | None = None
    """File or folder of the test split; for a Hub data set, the name of its split. Without it LDC splits `train`."""
    format: Literal["columns", "alpaca", "question", "choices", "chat"] = "columns"
    """How a record becomes text: from the columns below, or as instructions, questions, multiple choice or chats."""
    text: Text = "text"
    """Column that holds plain text, or a template with columns in braces: `{title}: {body}`."""
    prompt: Text = "prompt"
    """Column that holds a prompt, or a template."""
    completion: Text = "completion"
    """Column that holds the completion of the prompt, or a template."""
    document: Text = "doc"
    """Column with the name of the source document; a record without it is a document of its own."""
    loss: Literal["all", "completion"] = "all"
    """Which tokens of a prompt and its completion are trained on and scored."""
    characters: Positive | None = None
    """Read at most this many characters of a split, and cut the last document there. The default is 10 million for the
    Hub and no limit for local text, of which more than 200 million are refused."""
    validation_share: Share = 0.05
    """Share of source documents for validation, if LDC makes the splits."""
    test_share: Share = 0.1
    """Share of source documents for the test split, if LDC makes the splits."""
    reference: Annotated[bool, Field(strict=True)] = False
    """A text whose map others are compared with, such as general text; only the ranked regime runs on it."""

    _bare = model_validator(mode="before")(_bare_source)

    @property
    def on_hub(self) -> bool:
        """Whether the text comes from a data set on the Hub."""
        return self.source is not None and (self.source == "hub" or self.source.startswith("hub:"))

    @model_validator(mode="after")
    def _one_way_or_the_other(self) -> DomainSpec:
        parts = [self.train, self.test]
        if self.on_hub:
            if self.validation is not None and self.test is None:
                raise ValueError("name the test split too, or leave validation out and let LDC split by document")
        elif given := [k for k in ("configuration", "folder", "revision") if getattr(self, k) is not None]:
            raise ValueError(f"{given[0]} works only for a data set on the Hub, given as `source: hub:org/name`")
        elif self.source is not None and any(p is not None for p in (*parts, self.validation)):
            raise ValueError("give either source (LDC splits it) or train and test, not both")
        elif self.source is None and any(p is None for p in parts):
            raise ValueError("give source (LDC splits it), or both train and test")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to train on; their sum must be below 1")
        return self


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
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-4
    """Peak learning rate of AdamW."""
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
    """Score at most this many documents of the test split, spread evenly over it."""
    characters: Annotated[Whole, Field(ge=16)] = 2_000
    """Score at most this many characters of each document, from its start."""
    window: Annotated[Whole, Field(ge=8)] = 512
    """Longest sequence scored at once, in tokens; a longer document is scored in windows that each begin with BOS."""
    domains: Literal["own", "all"] = "own"
    """Score each run on its own domain, or on every domain of the study (the forgetting matrix)."""
    batch_tokens: Positive = 8_192
    """Tokens scored at once. It affects speed and memory only, not the results."""


class SelectionSpec(Record):
    """How targeted regimes choose their layers."""

    unit: Literal["block", "component"] = "block"
    """What is ranked: the attention or MLP of a layer as a whole, or single projections."""
    regime: Text = "all"
    """The regime whose runs are ranked."""
    score: Literal["frobenius", "relative", "rms", "contrast"] = "frobenius"
    """Score of the ranking: raw S, S over the norm of the weights, S over the square root of their number, or the log
    of S over the reference's S."""
    reference: Text = "others"
    """What `contrast` compares with: `others` (mean of the other domains), one domain, or a regime on shuffled text."""
    seeds: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = ()
    """Seeds reserved for the ranking; targeted and control regimes then run on the other seeds only. By default all
    seeds do both."""
    measures: tuple[Literal["effect", "saliency", "snr"], ...] = ("effect", "saliency", "snr")
    """What is measured for comparison with S; it chooses no layers. `effect` and `saliency` need a few training batches
    of each ranked run and domain. `snr` needs the singular values of every base weight, once (minutes at 1 B)."""
    measured_batches: Positive | None = None
    """Training batches for these measures; by default 4,096 tokens, at most a fifth of a run's."""


class CalibrationSpec(Record):
    """Known truths: a change made to a model before it is mapped, to test whether the map finds it.

    A study with this section makes only these maps. It uses the study's training and seeds, and the regime and
    measures of `selection`.
    """

    kinds: tuple[Literal["damage", "damage2", "taught", "none"], ...] = ("damage", "damage2", "taught", "none")
    """What is changed: noise on one block, noise on two, a block taught a domain, or nothing."""
    blocks: Positive | None = None
    """Change at most this many blocks, one at a time, spread evenly; all blocks are always ranked."""
    nothing: Positive = 8
    """Number of seeds with which `none` maps the unchanged model."""
    strengths: tuple[Annotated[Number, Field(gt=0)], ...] = (1.0, 0.3, 0.1, 0.03)
    """Standard deviation of the damage, in standard deviations of each weight matrix."""
    text: Text = "own"
    """Text on which damaged models are mapped: `own` for samples of the undamaged model, or a domain."""
    domains: tuple[Slug, ...] = ()
    """Domains that a block is taught; by default all that are not references."""
    lessons: tuple[Positive, ...] = (25, 100)
    """Optimiser steps of a teacher; the shorter ones are checkpoints of the longest."""
    teaching_rate: Annotated[Number, Field(gt=0)] = 0.02
    """Learning rate of the teacher, in standard deviations of each weight matrix."""
    others: Annotated[bool, Field(strict=True)] = True
    """Also compare with the maps of other variants, which exist only where the truth is known."""


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


class Study(Record):
    """One study: models x domains x regimes x seeds, and how they are trained and scored."""

    name: Slug = "study"
    """A name for reports."""
    models: Annotated[dict[Slug, ModelSpec], Field(min_length=1)]
    """Base models by a short name."""
    domains: Annotated[dict[Slug, DomainSpec], Field(min_length=1)]
    """Domains by a short name."""
    regimes: Annotated[
        dict[Slug, Annotated[Regime, BeforeValidator(_regime)]], BeforeValidator(_regimes), Field(min_length=1)
    ] = {name: regime_from_text(name) for name in ORIGIN_REGIMES}
    """Which components carry adapters: names such as attn, mlp, all, top1-mlp, or your own as block and layers."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)] = (0,)
    """Each run is repeated once for each seed."""
    adapter: AdapterSpec = AdapterSpec()
    """The LoRA adapter."""
    training: TrainingSpec
    """Training settings."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Evaluation settings."""
    selection: SelectionSpec = SelectionSpec()
    """How targeted regimes choose their layers."""
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
        if first is not None and (first.choice or first.full or first.text == "shuffled"):
            how = "tunes weights in full" if first.full else "reads shuffled text"
            how = how if first.choice is None else "itself chooses layers"
            raise fault(f"`{ranked}` {how}; name a regime that does not", "selection", "regime")
        return self

    @model_validator(mode="after")
    def _families(self) -> Study:
        for name in self.regimes:
            if "." in name:
                raise fault("a dot is reserved for the members of a family; use a dash", "regimes", name)
        taught = self.calibration is not None and self.calibration.domains
        if all(d.reference for d in self.domains.values()) and not taught:
            raise ValueError("every domain is only a reference; at least one must be studied")
        return self

    @model_validator(mode="after")
    def _selection_fits(self) -> Study:
        chosen = self.selection
        if unknown := [s for s in chosen.seeds if s not in self.seeds]:
            raise fault(f"{unknown[0]} is not among the study's seeds", "selection", "seeds")
        if chosen.seeds and set(chosen.seeds) == set(self.seeds) and any(r.choice for r in self.regimes.values()):
            raise fault("these are all the seeds; leave at least one to validate the ranking", "selection", "seeds")
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

    @property
    def taught_domains(self) -> tuple[str, ...]:
        """The domains that a calibration teaches to a block."""
        own = tuple(name for name, spec in self.domains.items() if not spec.reference)
        return own if self.calibration is None else self.calibration.domains or own

    @property
    def validation_seeds(self) -> tuple[int, ...]:
        """The seeds of targeted and control runs: those that do not rank, or all if none is reserved for ranking."""
        return tuple(s for s in self.seeds if s not in self.selection.seeds)

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
