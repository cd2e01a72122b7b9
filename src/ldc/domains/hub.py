"""Domains from data sets on the Hub: streamed up to a limit, or read from this disk, with the same text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldc.access.hub import Listing, Repository, refusals_in_words
from ldc.domains import kept, streaming
from ldc.domains.capping import Cap
from ldc.domains.choices import CHOICES, Choice, HubSplit
from ldc.domains.document import SPLITS, Document, DomainText, Split
from ldc.domains.formats import Columns, recognised, way_of
from ldc.domains.quoting import quoted
from ldc.domains.readers import document_of
from ldc.domains.splits import assemble, split_by_source, text_digest
from ldc.errors import DataError, EnvironmentFault, LdcError
from ldc.study.schema import DomainSpec

CHARACTERS = 10_000_000
_REGISTRY_OWN = ("configuration", "folder", "train", "validation", "test")
_COLUMNS = ("format", "text", "prompt", "completion", "document")


@dataclass(frozen=True, slots=True)
class HubDomain:
    """The splits that a domain needs from the Hub: one for training, and each split that LDC does not make."""

    name: str
    splits: Mapping[Split, HubSplit]
    characters: int
    validation_share: float
    test_share: float
    licence: str | None = None
    note: str = ""

    @property
    def splits_itself(self) -> bool:
        """Whether LDC makes the splits instead of using the data set's own."""
        return "test" not in self.splits


@dataclass(frozen=True, slots=True)
class Read:
    """The result of one split: its documents, their commit, and the number of rows without text."""

    documents: list[Document]
    commit: str
    licence: str | None = None
    empty: int = 0
    splits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    way: str = ""


@dataclass(slots=True)
class _Taking:
    """Turns rows into documents up to the limit; records why it ended."""

    split: HubSplit
    cap: Cap
    documents: list[Document] = field(default_factory=list)
    empty: int = 0
    way: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, asked: HubDomain, split: HubSplit) -> _Taking:
        """Start with no document."""
        return cls(split, Cap(asked.name, asked.characters))

    @property
    def full(self) -> bool:
        """Whether the limit was reached."""
        return self.cap.full

    def take(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Read rows until their text reaches the limit.

        Raises:
            DataError: a row lacks its columns.
        """
        where = f"domains.{self.cap.domain}: {self.split.id}, split {self.split.split}"
        columns, missing = self.split.columns, set(self.split.columns.named)
        for number, row in enumerate(rows):
            if not self.way:
                columns = self._begun(row)
            missing.difference_update(row if missing else ())
            source = f"{self.split.id}:{self.split.split}:{number}"
            document = document_of(dict(row), columns, f"{where}, row {number}", source)
            taken = None if document is None else self.cap.take(document)
            if taken is None:
                self.empty += 1
                continue
            self.documents.append(taken)
            if self.full:
                break
        if missing and self.way:
            name = min(missing)
            raise DataError(f"{where}: no row has the column {quoted(name)}, which {columns.named[name]} names")

    def _begun(self, row: Mapping[str, Any]) -> Columns:
        """How rows are read, from the columns of the first."""
        columns = recognised(self.split.columns, set(row))
        self.way = way_of(columns, set(row))
        if columns is not self.split.columns:
            self.notes = (
                f"{self.cap.domain}: read as {self.way}; set `format` or columns of the domain to read it otherwise",
            )
        return columns

    def read(self, commit: str, licence: str | None, splits: tuple[str, ...]) -> Read:
        """The documents taken, with their provenance."""
        return Read(self.documents, commit, licence, self.empty, splits, (*self.notes, *self.cap.notes), self.way)


def hub_domain(name: str, spec: DomainSpec) -> HubDomain:
    """The splits that a domain of the study needs from the Hub.

    Raises:
        DataError: the built-in choice does not exist, or the study sets what the choice sets itself.
    """
    asked = (spec.source or "").removeprefix("hub").removeprefix(":") or name
    cap = spec.characters or CHARACTERS
    if "/" in asked:
        columns = Columns(spec.text, spec.prompt, spec.completion, spec.document, spec.format)
        train = HubSplit(asked, spec.train or "train", columns, spec.configuration, spec.folder, spec.revision)
        splits: dict[Split, HubSplit] = {"train": train}
        for split, own in (("validation", spec.validation), ("test", spec.test)):
            if own is not None:
                splits[_split(split)] = replace(train, split=own)
        return HubDomain(name, splits, cap, spec.validation_share, spec.test_share)
    choice = CHOICES.get(asked)
    if choice is None:
        raise DataError(
            f"domains.{name}: there is no built-in choice `{asked}`; choose one of {', '.join(CHOICES)}. "
            "You can give any data set by its id: hub:org/name"
        )
    _refuse_columns(name, asked, spec, choice)
    splits = {"train": choice.train}
    splits |= {s: c for s, c in _own(choice) if c is not None}
    if spec.revision is not None:
        splits = {s: replace(c, revision=spec.revision) if c.id == choice.train.id else c for s, c in splits.items()}
    return HubDomain(name, splits, cap, spec.validation_share, spec.test_share, choice.licence, choice.note)


def load_hub_domain(name: str, spec: DomainSpec) -> DomainText:
    """The text of a Hub domain from this disk alone.

    Raises:
        DataError: the data set is not what the study takes it for: columns, splits, a script.
        EnvironmentFault: it is missing or incomplete on this disk; says how to fetch it.
    """
    asked = hub_domain(name, spec)
    return _assembled(asked, {split: read_local(asked, part) for split, part in asked.splits.items()})


def read_local(asked: HubDomain, split: HubSplit) -> Read:
    """The documents of a split from the rows kept here, or from a snapshot in the Hub cache.

    Raises:
        DataError, EnvironmentFault: as `load_hub_domain`.
    """
    found = kept.find(split)
    if found is not None:
        taking = _Taking.of(asked, split)
        taking.take(found.read())
        if taking.full or found.whole:
            return taking.read(found.commit, found.licence, found.splits)
    repository = repository_of(split)
    snapshot = repository.snapshot()
    if snapshot is None:
        more = f"has {found.rows} rows, too few for {asked.characters:,} characters" if found else "is not on this disk"
        raise EnvironmentFault(
            f"domains.{asked.name}: {repository}, split {split.split}, {more} (looked for rows in {kept.kept_folder()} "
            f"and for {repository.folder}). Fetch it on a machine with access: ldc fetch STUDY"
        )
    taking = _Taking.of(asked, split)
    with streaming.faults_in_words(asked.name, split):
        stream = streaming.from_snapshot(asked.name, split, snapshot)
        taking.take(stream.rows)
    if not taking.full:
        stream.check_whole(len(taking.documents) + taking.empty)
    return taking.read(snapshot.name, streaming.licence_of(snapshot), stream.splits)


def fetch_split(asked: HubDomain, split: HubSplit, found: Listing) -> Read:
    """Stream a split from the Hub up to the limit, and keep its rows.

    Args:
        found: what the Hub says of the data set; the commit to read at.

    Raises:
        DataError, EnvironmentFault: as `load_hub_domain`; or the Hub refuses or cannot be reached.
    """
    streaming.refuse_script(asked.name, split, found.files)
    keeper = kept.Keeper(split)
    taking = _Taking.of(asked, split)
    try:
        with refusals_in_words(repository_of(split)), streaming.faults_in_words(asked.name, split):
            stream = streaming.from_hub(asked.name, split, found.commit)
            with closing(keeper.passing(stream.rows)) as rows:
                taking.take(rows)
        keeper.keep(found.commit, not taking.full, found.licence, stream.splits)
    finally:
        keeper.discard()
    return taking.read(found.commit, found.licence, stream.splits)


def repository_of(split: HubSplit) -> Repository:
    """The repository of a split."""
    return Repository(split.id, "dataset", split.revision)


def snapshot_of(split: HubSplit) -> Path | None:
    """The snapshot of a split's data set in the Hub cache, if there is one."""
    return repository_of(split).snapshot()


def _assembled(asked: HubDomain, read: Mapping[Split, Read]) -> DomainText:
    """Splits without repeats as a domain, with notes on what was left out."""
    documents: dict[Split, list[Document]] = {s: read[s].documents if s in read else [] for s in SPLITS}
    notes = []
    if asked.splits_itself:
        own = [s for s in read["train"].splits if s != asked.splits["train"].split]
        has = f"its other splits ({', '.join(own)}) are not used" if own else "the data set has no other split"
        notes.append(
            f"{asked.name}: split by document here, {asked.test_share:.0%} for the test and "
            f"{asked.validation_share:.0%} for validation; {has}"
        )
        documents = split_by_source(_distinct({"train": documents["train"]})["train"], *_shares(asked))
    kept_documents = _distinct(documents)
    before, after = sum(len(r.documents) for r in read.values()), sum(map(len, kept_documents.values()))
    if before > after:
        notes.append(f"{asked.name}: {before - after} of {before} documents repeat another and were left out")
    notes += dict.fromkeys(note for r in read.values() for note in r.notes)
    if empty := sum(r.empty for r in read.values()):
        notes.append(f"{asked.name}: {empty} rows have no text and were left out")
    for split in ("train", "test"):
        if not kept_documents[_split(split)]:
            raise DataError(
                f"domains.{asked.name}: its {split} split is empty ({after} documents in all); raise characters, "
                "the split's share, or name another split"
            )
    text = assemble(asked.name, kept_documents)
    ways = tuple(dict.fromkeys(r.way for r in read.values() if r.way))
    reading = replace(text.reading, ways=ways, empty=empty, repeats=before - after)
    return replace(text, notes=tuple(notes), origin=_origin(asked, read), reading=reading)


def _origin(asked: HubDomain, read: Mapping[Split, Read]) -> dict[str, Any]:
    """Where the text came from, for the record of the study."""
    licences = [r.licence for r in read.values() if r.licence]
    return {
        "licence": asked.licence or (licences[0] if licences else None),
        "note": asked.note,
        "hub": {
            split: {
                "id": part.id,
                "configuration": part.configuration,
                "folder": part.folder,
                "split": part.split,
                "revision": read[split].commit,
            }
            for split, part in asked.splits.items()
        },
    }


def _own(choice: Choice) -> list[tuple[Split, HubSplit | None]]:
    """The splits that a built-in choice has beside that for training."""
    return [("validation", choice.validation), ("test", choice.test)]


def _shares(asked: HubDomain) -> tuple[float, float]:
    return asked.validation_share, asked.test_share


def _distinct(splits: Mapping[Split, list[Document]]) -> dict[Split, list[Document]]:
    """Each text once, and each source in one split: the test split keeps its own, then validation, then training."""
    texts: set[bytes] = set()
    owners: dict[str, Split] = {}
    out: dict[Split, list[Document]] = {}
    for split in ("test", "validation", "train"):
        name = _split(split)
        out[name] = []
        for document in splits.get(name, ()):
            digest = text_digest(document.text)
            if digest not in texts and owners.setdefault(document.source, name) == name:
                texts.add(digest)
                out[name].append(document)
    return {name: out[name] for name in SPLITS}


def _split(name: str) -> Split:
    return next(split for split in SPLITS if split == name)


def _refuse_columns(name: str, asked: str, spec: DomainSpec, choice: Choice) -> None:
    """Settings that a built-in choice makes itself.

    Raises:
        DataError: names them.
    """
    defaults = {key: DomainSpec.model_fields[key].default for key in (*_REGISTRY_OWN, *_COLUMNS)}
    given = [key for key, default in defaults.items() if getattr(spec, key) != default]
    if given:
        raise DataError(
            f"domains.{name}: the built-in choice `{asked}` has its own {', '.join(given)}; to choose them yourself, "
            f"give the data set by its id: source: hub:{choice.train.id}"
        )


def local_problem(asked: HubDomain, split: HubSplit) -> LdcError | None:
    """Why a split cannot be read from this disk; None if it can. Reads only the rows kept here.

    A snapshot of the Hub cache counts as complete unless its files show otherwise.
    """
    try:
        found = kept.find(split)
        if found is not None and not found.whole:
            taking = _Taking.of(asked, split)
            taking.take(found.read())
        if found is not None and (found.whole or taking.full):
            return None
        if (snapshot := snapshot_of(split)) is None:
            read_local(asked, split)
        else:
            streaming.check_files(asked.name, split, snapshot)
    except LdcError as fault:
        return fault
    return None
