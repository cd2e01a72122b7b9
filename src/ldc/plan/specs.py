"""What each kind of run is asked to do: a record a kind, with the name of a run. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from ldc.models.roles import Component
from ldc.plan.texts import Text
from ldc.plan.variants import Variant
from ldc.study.schema import AdapterSpec


@dataclass(frozen=True, slots=True, order=True)
class RunId:
    """The name of a run; joined by slashes it is the run's path in the store."""

    model: str
    domain: str
    regime: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}/{self.domain}/{self.regime}/seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Bare:
    """The unchanged model, which is only scored."""

    text: Text
    measures: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class Tune:
    """LoRA adapters trained on a text.

    Attributes:
        components: the adapted components.
        adapter: rank and scaling.
        rate: peak learning rate.
        seed: the seed of the adapters' start.
        text: the training text.
        variant: the variant that is tuned; None for the study's own model.
        against: the run of the own model whose update this one's is compared with (measure `shift`).
        measures: what is measured besides the norms; no result depends on it.
        keeps: whether its adapter is stored.
        capped: whether no component gets a rank that it cannot have (see `engine.kinds.tune.cap_ranks`).
        equal_steps: whether every component's relative update is made equal after each step
            (see `engine.kinds.tune.equalise`).
    """

    components: tuple[Component, ...]
    adapter: AdapterSpec
    rate: float
    seed: int
    text: Text
    variant: Variant | None = None
    against: RunId | None = None
    measures: tuple[str, ...] = ()
    keeps: bool = True
    capped: bool = False
    equal_steps: bool = False


@dataclass(frozen=True, slots=True)
class Full:
    """Full fine-tuning of the weights of some components.

    Attributes:
        components: the tuned components.
        rate: peak learning rate, one for all matrices.
        text: the training text.
        ranks: the ranks of the LoRA runs that it is compared with. It is measured how much of the update these ranks
            and SHARE_RANKS could hold.
    """

    components: tuple[Component, ...]
    rate: float
    text: Text
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class OfTrained:
    """What is done with the adapters that another run has trained; trains nothing.

    Attributes:
        components: the components whose adapters are used.
        adapter: the adapter of the source.
        source: the run that trained them.
        source_key: its key.
        text: the training text of the source; its domain's held-out text is scored.
    """

    components: tuple[Component, ...]
    adapter: AdapterSpec
    source: RunId
    source_key: str
    text: Text


@dataclass(frozen=True, slots=True)
class Graft(OfTrained):
    """Scores some of them."""


@dataclass(frozen=True, slots=True)
class Gate(OfTrained):
    """Scales those of each block."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Reads at every site of the model how much it tells about the domain of a text; forward only.

    Attributes:
        texts: the study's texts and the domain of each, which is the class to tell apart.
        shuffled: whether the tokens of each document are in random order.
        random_weights: whether the model's weights are drawn anew, as before any training.
        components: none.
    """

    texts: tuple[tuple[str, str], ...]
    shuffled: bool = False
    random_weights: bool = False
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class Ablate:
    """Replaces what each block of the model adds, one block at a time, and scores held-out text; forward only.

    Attributes:
        text: the held-out text.
        others: the study's texts and the domain of each, which lend outputs of blocks.
        components: none.
    """

    text: Text
    others: tuple[tuple[str, str], ...]
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class Truth:
    """Teaches blocks a domain, and asks the legs which blocks were taught; the weights are given back afterwards.

    Attributes:
        taught: the taught variant: its blocks, and the steps of the lesson.
        text: the domain that is taught, in a seed's order; shuffled for the placebo. Its held-out text is scored as it
            is.
        general: the text on which the lens is fitted.
        doses: the share of its own lesson that each block keeps; empty for the whole of it.
        legs: the legs that are asked.
        components: none.
    """

    taught: Variant
    text: Text
    general: Text
    doses: tuple[float, ...] = ()
    legs: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()


Spec = Bare | Tune | Full | Graft | Probe | Ablate | Gate | Truth
