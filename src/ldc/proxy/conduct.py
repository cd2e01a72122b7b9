"""The order of work of a comparison: check, load, make the trials that are not there yet, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldc.calibrate.conduct import named
from ldc.calibrate.sources import read_domain, slug
from ldc.errors import StudyError
from ldc.models.folders import fingerprint, resolve_folder
from ldc.models.headers import read_shape
from ldc.progress import Progress
from ldc.proxy.folder import Folder
from ldc.proxy.settings import RANKS, Settings
from ldc.proxy.trials import PT, Trial, plan
from ldc.store.lock import locked
from ldc.study.schema import ModelSpec

if TYPE_CHECKING:
    from ldc.domains.document import DomainText
    from ldc.models.roles import Component
    from ldc.models.shapes import ModelShape


def compare(
    model: str, out: Path, settings: Settings, progress: Progress, device: str = "auto", threads: int | None = None
) -> dict[str, Any]:
    """Tune a model in full and with LoRA of several ranks, write how far their maps agree; goes on where it stopped.

    Args:
        model: an embedded model's name, a folder, or a Hub id in the cache.
        out: the folder of the comparison.
        settings: what is trained.
        progress: told what happens.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; None leaves torch's choice.

    Returns:
        What `summary.json` holds.

    Raises:
        LdcError: of the kinds in `ldc.errors`; trials that are made stay.
    """
    from ldc.proxy.outputs import write_comparison

    name, spec = named(model)
    source = resolve_folder(name, spec, Path())
    shape = read_shape(source)
    settings = _checked(settings, shape, name)
    folder, groups = Folder(out), plan(settings)
    waiting = [group for group in groups if not all(map(folder.is_done, group))]
    texts = texts_of(settings) if waiting else {}
    folder.begin(name, fingerprint(source), settings, shape.components)
    with locked(out, progress.say):
        if waiting:
            for sentence in capped(settings.ranks, shape.components):
                progress.say(sentence)
            _work(name, spec, settings, texts, folder, waiting, progress, device, threads)
        progress.stage("report", 1)
        summary = write_comparison(folder)
        progress.advance(1)
    return summary


def _checked(settings: Settings, shape: ModelShape, model: str) -> Settings:
    """The settings with their ranks filled in, and held-out windows no longer than the context.

    Raises:
        StudyError: a rank that no projection can hold, rows longer than the context, two domains of one name.
    """
    widest = max(min(c.d_in, c.d_out) for c in shape.components)
    large = [rank for rank in settings.ranks if rank > widest]
    if large:
        raise StudyError(
            f"--rank {large[0]}: no projection of {model} can have a rank above {widest}, the smaller of its two "
            "widths; give a lower one"
        )
    if shape.context is not None and settings.length + 1 > shape.context:
        raise StudyError(f"--length {settings.length}: {model} reads {shape.context} tokens at most; give fewer")
    names = [slug(d) for d in settings.domains]
    if len(set(names)) < len(names):
        raise StudyError(f"--domain: two domains would be called {max(names, key=names.count)}; rename a file")
    ranks = settings.ranks or tuple(r for r in RANKS if r <= widest)
    return settings.model_copy(
        update={"ranks": ranks, "window": min(settings.window, shape.context or settings.window)}
    )


def capped(ranks: Sequence[int], components: Sequence[Component]) -> list[str]:
    """A sentence for each rank that some projections cannot hold."""
    found = []
    for rank in ranks:
        narrow = {c.name: min(c.d_in, c.d_out) for c in components if min(c.d_in, c.d_out) < rank}
        if narrow:
            places = ", ".join(f"{name} at {width}" for name, width in narrow.items())
            found.append(f"rank {rank} is capped where a projection is narrower: {places}")
    return found


def texts_of(settings: Settings) -> dict[str, DomainText]:
    """The text of each domain by its short name.

    Raises:
        DataError: one is neither an embedded domain nor a file or folder, or cannot be read.
    """
    return {slug(domain): read_domain(domain) for domain in settings.domains}


def _work(
    name: str,
    spec: ModelSpec,
    settings: Settings,
    texts: dict[str, DomainText],
    folder: Folder,
    groups: Sequence[Sequence[Trial]],
    progress: Progress,
    device: str,
    threads: int | None,
) -> None:
    """Make the trials of these groups and store those that are not there; a group that was cut short is made whole."""
    from ldc.engine.feed import Feed
    from ldc.engine.opening import open_model
    from ldc.proxy.measure import Bench

    loaded, base = open_model(name, spec, Path(), device, threads, progress)
    feed = Feed(settings.study(name, spec), texts, loaded.tokenizer, base.device)
    feed.check()
    facts = {"device": str(base.device), "dtype": loaded.precision}
    runs = sum(len(group) for group in groups if group[0].method != PT)
    progress.stage(f"{name}: full fine-tuning and LoRA", runs * settings.steps)
    tokens = settings.rows * settings.length
    bench = Bench(base, feed, loaded.layout.components, settings)
    for group in groups:
        found = bench.outcomes(group, lambda count: progress.advance(count // tokens, count))
        for trial, outcome in zip(group, found, strict=True):
            if not folder.is_done(trial):
                folder.write(trial, outcome, facts)
            if outcome.fault:
                progress.say(f"{trial.name}: failed: {outcome.fault}")
