"""The arms of a study: its regimes with every family expanded, for one model and one domain."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ldc.errors import StudyError
from ldc.models.roles import Component
from ldc.plan.proxy_pairs import Pair, pairs
from ldc.study.regimes import DRAWS, Regime
from ldc.study.schema import AdapterSpec, Study


@dataclass(frozen=True, slots=True)
class Arm:
    """One regime, or one member of a family, on one domain.

    Attributes:
        name: the name of its runs: the regime's name, and a member's name after a dot.
        regime: the regime that it belongs to.
        components: the components that it adapts; None if a ranking will choose them.
        ranked_on: the domain whose ranking chooses; None if no ranking does.
        adapter: its LoRA adapter, with its own rank.
        seeds: the seeds of its runs.
    """

    name: str
    regime: Regime
    components: tuple[Component, ...] | None
    ranked_on: str | None
    adapter: AdapterSpec
    seeds: tuple[int, ...]


def arms(study: Study, model: str, components: Sequence[Component], domain: str) -> list[Arm]:
    """The arms of a domain, in the order of the study's regimes.

    Raises:
        StudyError: as `check_regimes`.
    """
    found: list[Arm] = []
    reference = study.domains[domain].reference
    for name, regime in study.regimes.items():
        if reference and not (name == study.selection.regime or name == study.selection.reference):
            continue
        if regime.domains is not None and not {domain, study.domains[domain].domain} & set(regime.domains):
            continue
        adapter = adapter_of(study, regime, components)
        allowed = study.seeds if regime.choice is None else study.validation_seeds
        seeds = tuple(s for s in allowed if regime.seeds is None or s in regime.seeds)
        if regime.choice is None:
            chosen = components_of(regime, name, model, components)
            found.append(Arm(name, regime, chosen, None, adapter, seeds))
        elif regime.targeted:
            on = [domain] if regime.foreign is None else _others(study, domain)
            members = {name if regime.foreign is None else f"{name}.{other}": other for other in on}
            found += [Arm(m, regime, None, other, adapter, seeds) for m, other in members.items()]
        elif regime.grafted:
            found += [
                Arm(
                    m, regime, chosen, None, adapter_of(study, study.regimes[study.selection.regime], components), seeds
                )
                for m, chosen in _grafts(study, name, regime, components).items()
            ]
        else:
            for member, chosen in _controls(study, name, regime, model, components).items():
                found.append(Arm(member, regime, chosen, None, adapter, seeds))
    return found


def components_of(regime: Regime, name: str, model: str, components: Sequence[Component]) -> tuple[Component, ...]:
    """The components of a regime with fixed layers.

    Raises:
        StudyError: a layer does not exist, or nothing matches.
    """
    layers = 1 + max(c.layer for c in components)
    if regime.layers != "all" and (beyond := [n for n in regime.layers if n >= layers]):
        raise StudyError(
            f"regimes.{name}: layer {beyond[0]} does not exist in {model}, "
            f"which has {layers} layers, numbered 0 to {layers - 1}"
        )
    chosen = tuple(
        c
        for c in components
        if regime.block in ("all", c.block) and (regime.layers == "all" or c.layer in regime.layers)
    )
    if not chosen:
        raise StudyError(f"regimes.{name}: matches no component of {model}")
    return chosen


def units_of(study: Study, block: str, components: Sequence[Component]) -> list[tuple[Component, ...]]:
    """The candidates of a choice in a block, in the model's order: layers or single components. If the study has a
    ranked regime, only what it adapts, so that controls are drawn from what the ranking could have named."""
    ranked = study.regimes.get(study.selection.regime)
    pool = components if ranked is None else components_of(ranked, study.selection.regime, "the model", components)
    pool = [c for c in pool if c.block == block]
    if study.selection.unit == "component":
        return [(c,) for c in pool]
    return [tuple(c for c in pool if c.layer == layer) for layer in sorted({c.layer for c in pool})]


def check_regimes(study: Study, model: str, components: Sequence[Component]) -> None:
    """Make sure that the layers of every regime exist, including those that a ranking will choose.

    Raises:
        StudyError: a layer does not exist, more asked for than there are, a block that the ranked regime does not
            adapt, or a rank beside full fine-tuning that no component can have.
    """
    for pair in pairs(study):
        _check_rank(study.regimes[pair.lora], pair, model, components)
    for name, regime in study.regimes.items():
        if regime.choice is None:
            components_of(regime, name, model, components)
            continue
        way, count = regime.choice
        units, ranked = units_of(study, regime.block, components), study.selection.regime
        what = "layers" if study.selection.unit == "block" else "components"
        if not units:
            raise StudyError(
                f"regimes.{name}: chooses among the {regime.block} layers that the regime {ranked} "
                "adapts, but it adapts none; name another in selection.regime"
            )
        if count > len(units):
            raise StudyError(
                f"regimes.{name}: asks for {'the ' if way in ('top', 'bottom') else ''}{way} {count} of {len(units)} "
                f"{regime.block} {what} that the regime {ranked} adapts in {model}; ask for at most {len(units)}"
            )
        if regime.grafted and len(units) == 1 and study.regimes[ranked].block != "all":
            raise StudyError(f"regimes.{name}: {ranked} has only one layer, and without it nothing would be left")
        if way == "foreign" and not _others(study, next(iter(study.domains))):
            raise StudyError(f"regimes.{name}: needs the ranking of another domain, but the study has only one domain")


def _check_rank(regime: Regime, pair: Pair, model: str, components: Sequence[Component]) -> None:
    """Refuse a rank that no component can have: capped everywhere, it would be another rank under this name."""
    widest = max(min(c.d_in, c.d_out) for c in components_of(regime, pair.lora, model, components))
    if pair.rank > widest:
        raise StudyError(
            f"regimes.{pair.lora}: no projection of {model} can have a rank above {widest}, the smaller of its two "
            "widths; give a lower one"
        )


def adapter_of(study: Study, regime: Regime, components: Sequence[Component]) -> AdapterSpec:
    """The adapter of the regime: the study's, or one with its own rank; alpha stays, so s = alpha / r follows."""
    rank = regime.rank
    if regime.budget is not None:
        sizes = {b: sum(c.d_in + c.d_out for c in components if c.block == b) for b in ("attn", "mlp")}
        own = sizes[regime.block]
        rank = max(1, round(study.adapter.rank * sizes[regime.budget] / own)) if own else None
    return study.adapter if rank is None else study.adapter.model_copy(update={"rank": rank})


def _others(study: Study, domain: str) -> list[str]:
    return [name for name, spec in study.domains.items() if name != domain and not spec.reference]


def _controls(
    study: Study, name: str, regime: Regime, model: str, components: Sequence[Component]
) -> dict[str, tuple[Component, ...]]:
    """The runs of a control that needs no ranking: {name: components}."""
    assert regime.choice is not None
    way, count = regime.choice
    units = units_of(study, regime.block, components)
    if way == "solo":
        named = study.selection.unit == "component"
        return {f"{name}.{u[0].layer:02d}" + (f".{u[0].name}" if named else ""): u for u in units}
    if way == "random":
        sets = draws(regime.block, count, len(units), regime.draws or DRAWS)
        return {f"{name}.{i:02d}": _joined(units, drawn, components) for i, drawn in enumerate(sets, 1)}
    last = len(units)
    places = {
        "first": range(count),
        "last": range(last - count, last),
        "spaced": [int((i + 0.5) * last / count) for i in range(count)],
    }[way]
    return {name: _joined(units, places, components)}


def _grafts(
    study: Study, name: str, regime: Regime, components: Sequence[Component]
) -> dict[str, tuple[Component, ...]]:
    """The adapters of the ranked run that each graft keeps: {name: components}."""
    ranked = study.selection.regime
    whole = components_of(study.regimes[ranked], ranked, "the model", components)
    alone = _controls(study, name, regime.model_copy(update={"solo": True}), "", components)
    if regime.keep:
        return alone
    return {member: tuple(c for c in whole if c not in unit) for member, unit in alone.items()}


def _joined(
    units: Sequence[tuple[Component, ...]], places: Sequence[int], components: Sequence[Component]
) -> tuple[Component, ...]:
    chosen = {c.path for place in places for c in units[place]}
    return tuple(c for c in components if c.path in chosen)


def draws(block: str, count: int, of: int, many: int) -> list[tuple[int, ...]]:
    """Different sets of `count` out of `of` places, drawn uniformly, from these numbers alone.

    A longer list begins with the shorter one, so that draws can be added to a study.
    """
    digest = hashlib.blake2b(f"{block}:{count}:{of}".encode(), digest_size=8).hexdigest()
    source, found = random.Random(digest), dict[tuple[int, ...], None]()
    while len(found) < min(many, math.comb(of, count)):
        found[tuple(sorted(source.sample(range(of), count)))] = None
    return list(found)
