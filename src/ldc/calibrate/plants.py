"""What is planted where: the grid of known truths of a calibration, and the texts of reference maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ldc.calibrate.settings import OWN, Settings
from ldc.models.roles import Component

Unit = tuple[int, str]
"""A block of a layer: (layer, attn or mlp)."""

GENERAL, SHUFFLED = "general", "shuffled"
"""Texts of reference maps: other domains mixed, and a text whose tokens are shuffled within each document."""


@dataclass(frozen=True, slots=True)
class Plant:
    """A model with a known truth in it, and the text on which it is mapped.

    Attributes:
        kind: damage, damage2, taught or none; `reference` for the bare model on a text that a contrast needs.
        units: the blocks that were changed; none for `none` and `reference`.
        strength: of the damage in standard deviations; optimiser steps of a teacher; 0 where nothing is planted.
        text: `own` (samples of the undamaged model), a domain's name, or for `reference` also `general` and
            `shuffled`, both followed by `:` and the text they are for.
    """

    kind: str
    units: tuple[Unit, ...]
    strength: float
    text: str

    @property
    def name(self) -> str:
        """What messages and files call it, such as `damage-0.1-own-03.mlp`."""
        places = "+".join(f"{layer:02d}.{block}" for layer, block in self.units)
        parts = [self.kind, f"{self.strength:g}" if self.units else "", self.text.replace(":", "."), places]
        return "-".join(part for part in parts if part)


def units_of(components: Sequence[Component]) -> tuple[Unit, ...]:
    """Every block of a model, by layer, attention before MLP."""
    return tuple(sorted({(c.layer, c.block) for c in components}))


def spread(units: Sequence[Unit], count: int | None) -> tuple[Unit, ...]:
    """`count` of the blocks, evenly spread over the layers and both kinds in turn; all of them if there are no more."""
    if count is None or count >= len(units):
        return tuple(units)
    places = [i * len(units) // count for i in range(count)]
    if len(units) >= 2 * count:  # at most one block of a layer
        places = [place // 2 * 2 + i % 2 for i, place in enumerate(places)]
    return tuple(units[place] for place in places)


def pairs(units: Sequence[Unit]) -> tuple[tuple[Unit, Unit], ...]:
    """Pairs of blocks damaged together, far apart: each of the first half with one of the second, every block once (of
    an odd number the last with the first); neighbours are exchanged in every other layer, so that kinds mix."""
    half = len(units) // 2
    swapped = [i ^ 1 if i // 2 % 2 and i ^ 1 < half else i for i in range(half)]
    found = [(units[i], units[half + swapped[i]]) for i in range(half)]
    if len(units) % 2 and half:
        found.append((units[0], units[-1]))
    return tuple(found)


def planted(settings: Settings, units: Sequence[Unit]) -> list[Plant]:
    """Every plant of the kinds asked for, a kind and strength at a time; those of a teacher are neighbours."""
    chosen = spread(units, settings.blocks)
    out = []
    if "none" in settings.kinds:
        out.append(Plant("none", (), 0.0, OWN))
    if "damage" in settings.kinds:
        out += [Plant("damage", (unit,), s, settings.text) for s in settings.strengths for unit in chosen]
    if "damage2" in settings.kinds:
        out += [Plant("damage2", pair, s, settings.text) for s in settings.strengths for pair in pairs(chosen)]
    if "taught" in settings.kinds:
        lessons = sorted(settings.lessons)
        out += [
            Plant("taught", (unit,), float(n), domain)
            for domain in settings.domains
            for unit in chosen
            for n in lessons
        ]
    return out


def references(settings: Settings) -> list[Plant]:
    """The maps of the bare model that the contrasts of these plants are taken over."""
    texts: list[str] = [OWN] if "none" in settings.kinds else []
    if {"damage", "damage2"} & set(settings.kinds):
        texts += [settings.text, f"{GENERAL}:{settings.text}", f"{SHUFFLED}:{settings.text}"]
    if "taught" in settings.kinds:
        for domain in settings.domains:
            texts += [OWN, domain, f"{GENERAL}:{domain}", f"{SHUFFLED}:{domain}"]
    return [Plant("reference", (), 0.0, text) for text in dict.fromkeys(texts)]


def pair_of(plant: Plant) -> Plant | None:
    """The bare model's map that starts as this plant's does, and reads the same samples, or those that are drawn with
    the same random numbers; None for a reference."""
    if plant.kind == "reference":
        return None
    return Plant("reference", (), 0.0, OWN if plant.kind in ("taught", "none") else plant.text)


def reference_names(plant: Plant) -> dict[str, str]:
    """The name of each single reference of a plant, and the text that the bare model read for it."""
    if plant.kind == "none":
        return {"untouched": OWN}
    own = OWN if plant.kind == "taught" else plant.text
    found = {"untouched": own, "general": f"{GENERAL}:{plant.text}", "shuffled": f"{SHUFFLED}:{plant.text}"}
    return found | ({"domain": plant.text} if plant.kind == "taught" else {})
