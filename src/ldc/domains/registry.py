"""Loads the text of a domain: embedded, local files with or without splits, or a data set on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ldc.domains.capping import TENTHS, Cap
from ldc.domains.document import Document, DomainText, Split
from ldc.domains.embedded import EMBEDDED_DOMAINS, SYNTHETIC_CHARACTERS, SYNTHETIC_DOMAINS, embedded_domain
from ldc.domains.formats import Columns
from ldc.domains.hub import load_hub_domain
from ldc.domains.quoting import without_text
from ldc.domains.readers import Tally, characters_on_disk, local_path, read_documents
from ldc.domains.splits import assemble, keep_apart, split_by_source
from ldc.domains.word_order import shuffled_words
from ldc.errors import DataError
from ldc.study.schema import DomainSpec, Study

_LOOK_RECORDS = 100
_LOOK_CHARACTERS = 100_000
"""How far `look` reads into a file."""


def load_texts(study: Study, base: Path) -> Iterator[DomainText]:
    """The text of each domain of a study, in the study's order of words.

    Raises:
        DataError, EnvironmentFault: as `load_domain`.
    """
    for name, spec in study.domains.items():
        text = load_domain(name, spec, base)
        yield shuffled_words(text) if study.order == "shuffled" else text


def load_domain(name: str, spec: DomainSpec, base: Path) -> DomainText:
    """The text of a domain.

    Args:
        name: the domain's short name in the study; for `source: embedded`, the name of an embedded domain.
        spec: the domain's record in the study.
        base: the folder that relative paths start from.

    Raises:
        DataError: a file is missing or unreadable, a split is empty, or a document is in two splits.
        EnvironmentFault: a data set of the Hub is not on this disk; nothing is fetched here.
    """
    if spec.source == "embedded":
        if name not in EMBEDDED_DOMAINS:
            raise DataError(
                f"domains.{name}: no embedded domain has this name; choose one of {', '.join(EMBEDDED_DOMAINS)}"
            )
        return embedded_domain(name)
    if spec.on_hub:
        return load_hub_domain(name, spec)
    columns, found = _columns(spec), _Found(name, base, spec.characters)
    repeats = 0
    if spec.source is not None:
        documents = found.documents(spec.source, columns, pieces=True)
        splits = split_by_source(documents, spec.validation_share, spec.test_share)
        splits, repeats = keep_apart(splits)
        if repeats:
            found.notes.append(
                f"{name}: {repeats} of {len(documents)} documents repeat one of another split and were left out"
            )
    else:
        paths: dict[Split, str | None] = {"train": spec.train, "validation": spec.validation, "test": spec.test}
        splits = {
            split: [] if path is None else found.documents(path, columns, f"{split}:") for split, path in paths.items()
        }
    for split in ("train", "test"):
        if not splits[split]:
            asked = " and ".join(f"{column}: {value}" for column, value in spec.only.items())
            raise DataError(
                f"domains.{name}: its {split} split is empty ({sum(map(len, splits.values()))} documents in all"
                + (f", of records with {asked}" if asked else "")
                + (f"; {without_text(found.empty)}" if found.empty else "")
                + (f"; reading ended at `characters: {spec.characters:,}`, so raise it" if found.full else "")
                + "); give more documents, a larger share, or train and test files of their own"
            )
    text = assemble(name, splits)
    reading = replace(text.reading, ways=tuple(found.ways), empty=found.empty, repeats=repeats)
    return replace(text, notes=(*found.notes, *_twins(name, text)), reading=reading)


def look(name: str, spec: DomainSpec, base: Path) -> tuple[str, ...]:
    """Read the first records of a domain's local files, and return how they are read; nothing for other domains.

    Raises:
        DataError: a path is missing or unreadable, or the first records lack their columns.
    """
    if spec.source == "embedded" or spec.on_hub:
        return ()
    found = _Found(name, base, _LOOK_CHARACTERS, most=_LOOK_RECORDS)
    for path in (spec.source, spec.train, spec.validation, spec.test):
        if path is not None:
            found.documents(path, _columns(spec), pieces=spec.source is not None)
    return tuple(found.ways)


def training_characters(name: str, spec: DomainSpec, base: Path) -> int | None:
    """The most characters of a domain's training split, from the sizes of its files and its limit, without reading.

    None where that is not known: packed files without a limit, and embedded code, which depends on what is installed.

    Raises:
        DataError: a path is missing or unreadable.
    """
    if spec.source == "embedded":
        return SYNTHETIC_CHARACTERS.get(name)
    path = spec.source or spec.train
    held = None if spec.on_hub or path is None else characters_on_disk(local_path(base, path))
    limit = None if spec.characters is None else spec.characters * TENTHS // 10
    bounds = [bound for bound in (held, limit) if bound is not None]
    if not bounds:
        return None
    share = 1.0 if spec.source is None or spec.on_hub else 1.0 - spec.validation_share - spec.test_share
    return int(min(bounds) * share)


def is_synthetic(name: str, spec: DomainSpec) -> bool:
    """Whether a domain's text comes from a generator of the package."""
    return spec.source == "embedded" and name in SYNTHETIC_DOMAINS


def _columns(spec: DomainSpec) -> Columns:
    return Columns(spec.text, spec.prompt, spec.completion, spec.document, spec.format, tuple(spec.only.items()))


def _twins(name: str, text: DomainText) -> list[str]:
    """A note on documents that stay although another of their split has their text."""
    many = [
        f"{count:,} of {len(text.split(split)):,} ({split})" for split, count in text.reading.twins.items() if count
    ]
    return [f"{name}: documents whose text another of their split has, which stay: {', '.join(many)}"] if many else []


class _Found:
    """What is found in the files of a domain: documents; over all files notes, ways and empty records; and whether
    its limit ended the reading."""

    def __init__(self, name: str, base: Path, characters: int | None, most: int | None = None) -> None:
        self.name, self.base, self.characters, self.most = name, base, characters, most
        self.notes: list[str] = []
        self.ways: dict[str, bool] = {}
        self.empty = 0
        self.full = False

    def documents(self, path: str, columns: Columns, prefix: str = "", pieces: bool = False) -> list[Document]:
        """The documents of a file or folder that hold more than white space, up to the one that reaches the limit.

        `prefix` tells the splits' own files apart, which may be of one name: train/a.txt and test/a.txt are two
        documents. With `pieces`, a single text is cut into documents.

        Raises:
            DataError: as `read_documents`; or no record has a column that the study names.
        """
        cap, tally = Cap(self.name, self.characters), Tally(self.most, pieces)
        out: list[Document] = []
        try:
            place = local_path(self.base, path)
            for document in read_documents(place, columns, prefix, cap.limit, tally):
                if (taken := cap.take(document)) is not None:
                    out.append(taken)
                if cap.full or (self.most is not None and len(out) >= self.most):
                    break
            tally.check(columns, place)
        except DataError as error:
            raise DataError(f"domains.{self.name}: {error}") from error
        self._note([*tally.notes, *_recognised(tally, self.ways), *_empty(tally)])
        self.notes += cap.notes
        self.full = self.full or cap.full
        self.ways |= tally.ways
        self.empty += tally.empty
        return out

    def _note(self, sentences: list[str]) -> None:
        self.notes += [f"{self.name}: {sentence}" for sentence in sentences]


def _recognised(tally: Tally, before: Mapping[str, bool]) -> list[str]:
    return [
        f"read as {way}; set `format` or columns of the domain to read it otherwise"
        for way, recognised in tally.ways.items()
        if recognised and way not in before
    ]


def _empty(tally: Tally) -> list[str]:
    return (
        [f"{without_text(tally.empty, tally.records)} and {'was' if tally.empty == 1 else 'were'} left out"]
        if tally.empty
        else []
    )
