"""The order of work of a calibration: load, plant and map what is not there yet, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldc.calibrate.folder import Folder
from ldc.calibrate.plants import Plant, Unit, pair_of, planted, references, units_of
from ldc.calibrate.settings import OWN, Settings
from ldc.calibrate.sources import read_domain, slug
from ldc.errors import StudyError
from ldc.models.folders import EMBEDDED_NAMES, fingerprint, resolve_folder
from ldc.models.headers import read_shape
from ldc.progress import Progress
from ldc.store.lock import locked
from ldc.study.schema import ModelSpec
from ldc.system import expanded

if TYPE_CHECKING:
    from ldc.calibrate.maps import Factors, Reading
    from ldc.calibrate.records import Map
    from ldc.calibrate.text import Texts
    from ldc.domains.packing import Row
    from ldc.engine.bank import Base
    from ldc.models.roles import Component

FRESH = 1_000
"""Added to the seed of the samples on which the model with nothing planted is mapped."""


def named(model: str) -> tuple[str, ModelSpec]:
    """A model's short name and record, from what the user gave: an embedded name, a folder or a Hub id."""
    if model in EMBEDDED_NAMES and not Path(model).is_dir():
        return model, ModelSpec(source="embedded")
    folder = expanded(model)
    last = folder.resolve().name if folder.is_dir() else model.rpartition("/")[2]
    return slug(last + ".model"), ModelSpec(source=model)


def seeds_of(plant: Plant, settings: Settings) -> range:
    """The seeds with which a plant is mapped."""
    if plant.kind == "none":
        return range(settings.nothing)
    paired = plant.kind == "reference" and plant.text == OWN and "none" in settings.kinds
    return range(max(settings.seeds, settings.nothing) if paired else settings.seeds)


def plan(settings: Settings, components: Sequence[Component]) -> list[list[Plant]]:
    """All references and plants, in groups of which each fills a bank or less."""
    groups: list[list[Plant]] = [references(settings)]  # first, for the others are paired with them
    for plant in planted(settings, units_of(components)):
        last = groups[-1]
        together = plant.kind == "taught" and last[0].kind == "taught" and last[0].text == plant.text
        same_teacher = together and last[-1].units == plant.units
        if together and (same_teacher or (len(last) + 1) * settings.seeds <= settings.capacity):
            last.append(plant)
        else:
            groups.append([plant])
    return [group for group in groups if group]


def calibrate(
    model: str, out: Path, settings: Settings, progress: Progress, device: str = "auto", threads: int | None = None
) -> dict[str, Any]:
    """Plant known truths in a model, map them, and write how often each metric found them; goes on where it stopped.

    Args:
        model: an embedded model's name, a folder, or a Hub id in the cache.
        out: the folder of the calibration.
        settings: what is planted and how it is mapped.
        progress: told what happens.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; None leaves torch's choice.

    Returns:
        What `summary.json` holds.

    Raises:
        LdcError: of the kinds in `ldc.errors`; maps that are made stay.
    """
    from ldc.calibrate.outputs import write_calibration

    name, spec = named(model)
    source = resolve_folder(name, spec, Path())
    shape = read_shape(source)
    folder = Folder(out)
    waiting = [g for g in plan(settings, shape.components) if not all(map(folder.is_done, g))]
    if waiting:
        _check(settings, shape.context, name)
    folder.begin(name, fingerprint(source), settings, shape.components)
    with locked(out, progress.say):
        if waiting:
            _work(name, spec, settings, folder, waiting, progress, device, threads)
        progress.stage("report", 1)
        summary = write_calibration(folder)
        progress.advance(1)
    return summary


def _check(settings: Settings, context: int | None, model: str) -> None:
    if context is not None and settings.length + 1 > context:
        raise StudyError(f"--length {settings.length}: {model} reads {context} tokens at most; give fewer")
    for text in {*settings.domains, settings.text} - {OWN}:
        read_domain(text)


def _work(
    name: str,
    spec: ModelSpec,
    settings: Settings,
    folder: Folder,
    groups: Sequence[Sequence[Plant]],
    progress: Progress,
    device: str,
    threads: int | None,
) -> None:
    """Make the maps of these groups and store them."""
    from ldc.calibrate.maps import Weights, make_maps
    from ldc.calibrate.text import Texts
    from ldc.engine.opening import open_model

    loaded, base = open_model(name, spec, Path(), device, threads, progress)
    texts, weights = Texts(loaded, settings), Weights(base, loaded.layout.components)
    facts = {"device": str(base.device), "dtype": loaded.precision}
    maps = sum(len(seeds_of(plant, settings)) for group in groups for plant in group)
    progress.stage(f"{name}: planting and mapping", maps * settings.steps)
    tokens = settings.rows * settings.length
    pairs = {pair_of(plant) for plant in planted(settings, units_of(loaded.layout.components))}

    def advance(count: int) -> None:
        progress.advance(count // tokens, count)

    bench = Bench(base, texts, settings, loaded.layout.components, folder)
    for group in groups:
        for readings, changed in bench.readings(group):
            measured = weights.measures(changed)
            found = make_maps(base, settings, readings, measured, loaded.layout.components, advance)
            by_plant: dict[Plant, dict[int, Map]] = {}
            for reading, (result, factors) in zip(readings, found, strict=True):
                by_plant.setdefault(reading.plant, {})[reading.seed] = result
                if reading.plant in pairs:
                    folder.write_factors(reading.plant, reading.seed, factors)
                if result.failure:
                    progress.say(f"{reading.name}: failed: {result.failure}")
            for plant, by_seed in by_plant.items():
                folder.write(plant, by_seed, facts)


class Bench:
    """A loaded model in which truths are planted, one group of plants at a time."""

    def __init__(
        self, base: Base, texts: Texts, settings: Settings, components: Sequence[Component], folder: Folder
    ) -> None:
        self.base, self.texts, self.settings, self.components = base, texts, settings, tuple(components)
        self.folder = folder
        self._factors: dict[tuple[Plant, int], Factors] = {}

    def readings(self, group: Sequence[Plant]) -> Iterator[tuple[list[Reading], list[Component]]]:
        """(maps to be made, components that differ from the base) while what is planted stands."""
        from ldc.calibrate.damage import damaged
        from ldc.calibrate.maps import Reading

        if group[0].kind == "taught":
            yield self._taught(group), []
            return
        found = [
            Reading(plant, seed, self._rows(plant, seed), self._against(plant, seed))
            for plant in group
            for seed in seeds_of(plant, self.settings)
        ]
        changed = self._components(group[0].units)
        with damaged(self.base, changed, group[0].strength):
            yield found, changed

    def _taught(self, group: Sequence[Plant]) -> list[Reading]:
        """Every teacher of the group taught and sampled; the base is whole again afterwards."""
        from ldc.calibrate.maps import Reading
        from ldc.calibrate.teach import teach

        found = []
        for units in dict.fromkeys(plant.units for plant in group):
            lessons = {int(plant.strength): plant for plant in group if plant.units == units}
            text = next(iter(lessons.values())).text
            batches = self.texts.lessons(text, seed=0)
            halts = teach(self.base, self._components(units), batches, tuple(lessons), self.settings.teaching_rate)
            for steps, _loss in halts:
                plant = lessons[steps]
                for seed in seeds_of(plant, self.settings):
                    found.append(Reading(plant, seed, self.texts.sampled(seed), self._against(plant, seed)))
        return found

    def _rows(self, plant: Plant, seed: int) -> list[Row]:
        """The rows of a plant that is no teacher; where nothing is planted samples that no reference reads."""
        return self.texts.rows(plant.text, seed + (FRESH if plant.kind == "none" else 0))

    def _against(self, plant: Plant, seed: int) -> Factors | None:
        """The factors of the paired map of the bare model, which was made before."""
        pair = pair_of(plant)
        if pair is None:
            return None
        if (pair, seed) not in self._factors:
            self._factors[pair, seed] = self.folder.read_factors(pair, seed)
        return self._factors[pair, seed]

    def _components(self, units: Sequence[Unit]) -> list[Component]:
        return [c for c in self.components if (c.layer, c.block) in units]
