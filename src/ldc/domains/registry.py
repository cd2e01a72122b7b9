"""Loads the text of a domain: embedded, local files with or without splits, or a data set on the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ldc.domains.capping import Cap
from ldc.domains.document import Document, DomainText, Split
from ldc.domains.embedded import EMBEDDED_DOMAINS, SYNTHETIC_DOMAINS, embedded_domain
from ldc.domains.formats import Columns
from ldc.domains.hub import load_hub_domain
from ldc.domains.readers import local_path, read_documents
from ldc.domains.splits import assemble, keep_apart, split_by_source
from ldc.domains.word_order import shuffled_words
from ldc.errors import DataError
from ldc.study.schema import DomainSpec, Study


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
    columns = Columns(spec.text, spec.prompt, spec.completion, spec.document, spec.format, tuple(spec.only.items()))
    notes: list[str] = []
    if spec.source is not None:
        documents = _documents(name, base, spec.source, columns, spec.characters, notes)
        splits = split_by_source(documents, spec.validation_share, spec.test_share)
        splits, repeats = keep_apart(splits)
        if repeats:
            notes.append(
                f"{name}: {repeats} of {len(documents)} documents repeat one of another split and were left out"
            )
    else:
        paths: dict[Split, str | None] = {"train": spec.train, "validation": spec.validation, "test": spec.test}
        splits = {
            split: [] if path is None else _documents(name, base, path, columns, spec.characters, notes, f"{split}:")
            for split, path in paths.items()
        }
    for split in ("train", "test"):
        if not splits[split]:
            asked = " and ".join(f"{column}: {value}" for column, value in spec.only.items())
            raise DataError(
                f"domains.{name}: its {split} split is empty ({sum(map(len, splits.values()))} documents in all"
                + (f", of records with {asked}" if asked else "")
                + "); give more documents, a larger share, or train and test files of their own"
            )
    return replace(assemble(name, splits), notes=tuple(notes))


def is_synthetic(name: str, spec: DomainSpec) -> bool:
    """Whether a domain's text comes from a generator of the package."""
    return spec.source == "embedded" and name in SYNTHETIC_DOMAINS


def _documents(
    name: str,
    base: Path,
    path: str,
    columns: Columns,
    characters: int | None,
    notes: list[str],
    prefix: str = "",
) -> list[Document]:
    """The documents of a file or folder that hold more than white space, up to the one that reaches `characters`.

    `prefix` tells the splits' own files apart, which may be of one name: train/a.txt and test/a.txt are two documents.
    Adds notes for the user to `notes`.
    """
    cap = Cap(name, characters)
    out: list[Document] = []
    try:
        for document in read_documents(local_path(base, path), columns, prefix, cap.limit):
            if (taken := cap.take(document)) is not None:
                out.append(taken)
            if cap.full:
                break
    except DataError as error:
        raise DataError(f"domains.{name}: {error}") from error
    notes += cap.notes
    return out
