"""Learning rates that a study finds: which rates a sweep tries, which one is chosen, what it costs. No torch.

For each model and block (attn, mlp, all) adapters are trained with several rates for a quarter of the study's steps,
and scored on validation text. The rates are of the series 1, 2, 5, 10, so that a study can write them out exactly.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ldc.errors import StudyError
from ldc.models.roles import Component
from ldc.models.shapes import ModelShape
from ldc.plan.flops import forward_flops, held_out_tokens
from ldc.study.regimes import Block, Regime
from ldc.study.schema import Study

SWEEP_VERSION = 1
"""Raised when the same sweep would give other losses."""
SHARE_OF_STEPS = 4
"""A sweep takes one of so many of the study's steps."""
SIDE = 3
"""Rates on each side of the middle one to begin with: seven rates, over a factor of a hundred."""
MORE = 2
"""Rates that are added at an end where the best one lies."""
MOST_MORE = 4
"""Rates that are added to those of the beginning at most."""
TEXTS = 2
"""Texts that a sweep reads at most."""
DOCUMENTS = 32
"""Documents of each text that are scored at most."""
BLOCKS: tuple[Block, ...] = ("attn", "mlp", "all")

Losses = Mapping[float, float | None]
"""Rate -> NLL on validation text in nats per token; None where training or the loss was not finite."""
Point = tuple[Block, float]
"""A block and a rate."""


@dataclass(frozen=True)
class Sweep:
    """A model's sweep as far as it has come.

    Attributes:
        key: hash of everything that decides the losses.
        model: hash of the model's weights, tokenizer and precision.
        texts: what is read, in turn; names of the study's texts.
        split: the split that is scored: validation, or train where a text has no validation text.
        steps: optimiser steps of each run; 0 before it began.
        bare: loss of the bare model, mean over the texts; NaN before it began.
        losses: for each block the losses found so far.
        chosen: for each block that is finished the rate.
    """

    key: str
    model: str
    texts: tuple[str, ...]
    split: Literal["validation", "train"] = "validation"
    steps: int = 0
    bare: float = math.nan
    losses: Mapping[str, Losses] = field(default_factory=dict)
    chosen: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As JSON: the losses of a block as a list of [rate, loss]."""
        lists = {block: [[rate, losses[rate]] for rate in sorted(losses)] for block, losses in self.losses.items()}
        bare = None if math.isnan(self.bare) else self.bare
        return asdict(self) | {"bare": bare, "losses": lists}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sweep:
        """The record that `as_json` wrote."""
        losses = {str(block): {float(rate): loss for rate, loss in rows} for block, rows in data["losses"].items()}
        bare = math.nan if data["bare"] is None else float(data["bare"])
        texts = tuple(map(str, data["texts"]))
        return cls(**{**data, "texts": texts, "bare": bare, "losses": losses, "chosen": dict(data["chosen"])})

    def told(self, model: str) -> str:
        """The chosen rates in a sentence."""
        text = "validation text" if self.split == "validation" else "training text kept apart"
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        return f"{model}: learning rate {listed(self.chosen)}, from a sweep of {steps} on {text} of {_and(self.texts)}"

    def warnings(self, model: str) -> list[str]:
        """A sentence for each block whose rate says little."""
        found = []
        for block, rate in self.chosen.items():
            loss = self.losses[block][rate]
            if loss is None or loss >= self.bare:
                found.append(
                    f"{model}: no learning rate of {block} improved on the bare model in the sweep; "
                    f"{written(rate)} is taken; more steps may be needed"
                )
        return found


def rate_of(study: Study, regime: Regime, found: Mapping[str, float]) -> float:
    """The peak learning rate of a regime: its own, else the study's, else the one that a sweep found for its block.

    Where the sweep had no such block (a regime that is only exported) it is the smallest that was found.

    Args:
        found: rates by block.

    Raises:
        StudyError: none was found yet.
    """
    given = study.training.rate if regime.learning_rate is None else regime.learning_rate
    if given is not None:
        return given
    if not found:
        raise StudyError("training.learning_rate: auto: no rate has been found yet; run the study first")
    return found.get(regime.block, min(found.values()))


def swept_blocks(study: Study) -> tuple[Block, ...]:
    """The blocks whose rate a sweep has to find; none where all rates are given."""
    if study.training.rate is not None:
        return ()
    regimes = [r for r in study.regimes.values() if r.learning_rate is None and not r.full and not r.grafted]
    if study.calibration is not None:
        regimes = [r for r in regimes if r == study.regimes[study.selection.regime]]
    return tuple(block for block in BLOCKS if any(r.block == block for r in regimes))


def swept_texts(study: Study) -> tuple[str, ...]:
    """The texts that a sweep reads: the first of each of the first TEXTS studied domains, or of all domains where every
    one is a reference."""
    own = [name for name, spec in study.domains.items() if not spec.reference] or list(study.domains)
    firsts: dict[str, str] = {}
    for name in own:
        firsts.setdefault(study.domains[name].domain or name, name)
    return tuple(firsts.values())[:TEXTS]


def swept_steps(steps: int) -> int:
    """Optimiser steps of a run of a sweep, where those of the study have so many."""
    return max(1, steps // SHARE_OF_STEPS)


def middle_rate(parameters: int) -> float:
    """The rate in the middle of those that a sweep begins with, of the series 1, 2, 5, 10.

    The nearest to 3e-3 (10^6 / parameters)^0.39: 3e-3 at a million parameters, 2e-4 at 10^9. 2e-4 is what is commonly
    taken for LoRA on models of that size and above; 2e-3 to 3e-3 is what the studies of the embedded models used. It is
    a place to begin: the rates span a factor of a hundred, and more are added where the best one lies at an end.
    """
    return at_place(round(place_of(3e-3 * (1e6 / parameters) ** 0.39)))


def first_rates(parameters: int) -> tuple[float, ...]:
    """The rates that a sweep begins with, SIDE on each side of the middle one."""
    middle = round(place_of(middle_rate(parameters)))
    return tuple(at_place(place) for place in range(middle - SIDE, middle + SIDE + 1))


def place_of(rate: float) -> float:
    """The place of a rate in the series; between two of its rates the logarithm decides."""
    tens = math.floor(math.log10(rate) + 1e-12)
    marks = [0.0, math.log10(2), math.log10(5), 1.0]
    rest = max(0.0, math.log10(rate) - tens)
    at = next(i for i in (2, 1, 0) if rest >= marks[i] - 1e-12)
    return 3 * tens + at + (rest - marks[at]) / (marks[at + 1] - marks[at])


def at_place(place: int) -> float:
    """The rate at a place of the series ..., 0.1, 0.2, 0.5, 1, 2, ...: the number as it is written."""
    return float(f"{(1, 2, 5)[place % 3]}e{place // 3}")


def next_rates(losses: Losses, first: Sequence[float]) -> list[float]:
    """The rates that a block still has to try: those of the beginning, and then MORE at an end where the best one
    lies, up to MOST_MORE in all; below all others where none is finite."""
    missing = [rate for rate in first if rate not in losses]
    if missing:
        return missing
    if len(losses) - len(first) >= MOST_MORE:
        return []
    best, tried = lowest(losses), sorted(losses)
    if best is None or best == tried[0]:
        end = round(place_of(tried[0]))
        return [at_place(end - k) for k in range(1, MORE + 1)]
    if best == tried[-1]:
        end = round(place_of(tried[-1]))
        return [at_place(end + k) for k in range(1, MORE + 1)]
    return []


def next_points(sweep: Sweep, blocks: Sequence[Block], first: Sequence[float]) -> list[Point]:
    """What a model's sweep still has to try, for all blocks that are not chosen yet."""
    return [
        (block, rate)
        for block in blocks
        if block not in sweep.chosen
        for rate in next_rates(sweep.losses.get(block, {}), first)
    ]


def lowest(losses: Losses) -> float | None:
    """The rate with the lowest finite loss, the smaller of two equals; None if no loss is finite."""
    finite = {rate: loss for rate, loss in losses.items() if loss is not None}
    return min(sorted(finite), key=lambda rate: finite[rate]) if finite else None


def choose(losses: Losses, bare: float) -> float | None:
    """The rate with the lowest loss; the next smaller one where the next larger one is unstable, since the study trains
    longer than the sweep. None if no loss is finite.

    Unstable is a rate whose loss is not finite or above the bare model's.
    """
    best, tried = lowest(losses), sorted(losses)
    if best is None:
        return None
    at = tried.index(best)
    above = losses[tried[at + 1]] if at + 1 < len(tried) else -math.inf
    if at > 0 and (above is None or above > bare) and losses[tried[at - 1]] is not None:
        return tried[at - 1]
    return best


def with_chosen(sweep: Sweep, model: str, blocks: Sequence[Block]) -> Sweep:
    """The sweep with the rates of these blocks chosen.

    Raises:
        StudyError: no rate of a block gave a finite loss.
    """
    chosen = dict(sweep.chosen)
    for block in blocks:
        if block in chosen:
            continue
        losses = sweep.losses[block]
        rate = choose(losses, sweep.bare)
        if rate is None:
            raise StudyError(
                f"{model}: training.learning_rate: auto: training of {block} diverged with every rate from "
                f"{written(min(losses))} to {written(max(losses))}; give a number, or check the model"
            )
        chosen[block] = rate
    return replace(sweep, chosen=chosen)


def with_losses(sweep: Sweep, points: Sequence[Point], losses: Sequence[float | None]) -> Sweep:
    """The sweep with the losses of more points."""
    known = {block: dict(of_block) for block, of_block in sweep.losses.items()}
    for (block, rate), loss in zip(points, losses, strict=True):
        known.setdefault(block, {})[rate] = loss
    return replace(sweep, losses=known)


def begun(sweep: Sweep, split: Literal["validation", "train"], steps: int, bare: float) -> Sweep:
    """The sweep once its text is read and the bare model scored."""
    return replace(sweep, split=split, steps=steps, bare=bare)


def new_sweep(study: Study, model: Sequence[str], fingerprints: Mapping[str, str]) -> Sweep:
    """A sweep that has not begun.

    Args:
        study: the study.
        model: what decides the base: fingerprints of weights and tokenizer, precision.
        fingerprints: of the study's texts.
    """
    texts = swept_texts(study)
    what = {
        "version": SWEEP_VERSION,
        "model": list(model),
        "texts": [(name, fingerprints[name], study.domains[name].loss) for name in texts],
        "adapter": study.adapter.model_dump(),
        "training": study.training.model_dump(exclude={"learning_rate", "trajectory"}),
        "evaluation": study.evaluation.model_dump(include={"documents", "characters", "window"}),
        "seed": study.seeds[0],
    }
    return Sweep(_hash(what), _hash({"model": list(model)}), texts)


def sweep_flops(shape: ModelShape, study: Study) -> float:
    """FLOPs of a model's sweep with the rates that it begins with."""
    blocks = swept_blocks(study)
    tokens = swept_steps(study.training.total_steps) * study.training.tokens_per_step
    scored = len(swept_texts(study)) * held_out_tokens(study, DOCUMENTS)
    flops = 0.0
    for block in blocks:
        trainable = study.adapter.rank * sum(c.d_in + c.d_out for c in of_block(shape.components, block))
        one = (2 * forward_flops(shape) + 6 * trainable) * tokens + forward_flops(shape) * scored
        flops += (2 * SIDE + 1) * one
    return flops


def of_block(components: Sequence[Component], block: Block) -> tuple[Component, ...]:
    """The components of a block in all layers."""
    return tuple(c for c in components if block in ("all", c.block))


def listed(rates: Mapping[str, float]) -> str:
    """The rates of the blocks in words."""
    return ", ".join(f"{block} {written(rates[block])}" for block in BLOCKS if block in rates)


def written(rate: float) -> str:
    """A rate as people write it: 2e-3."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def _hash(what: Mapping[str, Any]) -> str:
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
