"""Reads local files into documents: records of several kinds, plain text and folders of them, with or without gzip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldc.domains import paragraphs, pieces
from ldc.domains.capping import MOST_CHARACTERS
from ldc.domains.document import Document
from ldc.domains.formats import (
    Columns,
    UnfitRecord,
    formats_that_fit,
    nearest,
    prompt_and_rest,
    recognised,
    way_of,
)
from ldc.domains.quoting import listed, place, quoted, reason, shown
from ldc.domains.record_files import LINE_SUFFIXES, LIST_SUFFIX, PARQUET, TABLE_SUFFIXES, records
from ldc.errors import DataError

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".tex", ".py", ".c", ".cc", ".cpp", ".h", ".hpp", ".java", ".js", ".rs", ".go")
TABLES = (*TABLE_SUFFIXES, LIST_SUFFIX)
"""Kinds of file that a folder often holds beside its text, as lists of files or settings: read in a folder only if it
holds no file of another kind."""
SUFFIXES = (*LINE_SUFFIXES, PARQUET, *TABLES, *TEXT_SUFFIXES)

PLAIN = Columns()


@dataclass(slots=True)
class Tally:
    """What is met while files are read.

    Attributes:
        most: stop a file after this many records; None for all.
        pieces: whether a single file of plain text is cut into pieces, each a document.
        records: records read, those without text included.
        empty: those without text.
        ways: how records became text, in words, and whether that was recognised from the columns.
        columns: the columns of the first record of the last file.
        met: columns with a name of the user's choice that were in any record.
        notes: notes for the user, without the domain's name.
    """

    most: int | None = None
    pieces: bool = False
    records: int = 0
    empty: int = 0
    ways: dict[str, bool] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    met: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def check(self, columns: Columns, path: Path) -> None:
        """Make sure that each column which the study names was in some record.

        Raises:
            DataError: one was in none; names those there are, and the nearest.
        """
        for name, setting in columns.named.items() if self.records else ():
            if name not in self.met:
                raise DataError(
                    f"{place(path)}: no record has the column {quoted(name)}, which {setting} names"
                    f"{nearest(name, self.columns) or '.'} The columns are {listed(map(shown, self.columns))}"
                )


def read_documents(
    path: Path,
    columns: Columns = PLAIN,
    prefix: str = "",
    characters: int = MOST_CHARACTERS,
    tally: Tally | None = None,
) -> Iterator[Document]:
    """Every document of a file, or of the readable files of a folder in order of their paths.

    Where a record names no source of its own, it is called after its file: by the path within the folder, or by the
    name of a single file, behind `prefix`. So the folder may lie anywhere, and be named in any way. Of a plain text
    file one character more than `characters` is read, which tells that there is more. Records without text are left
    out and counted.

    Args:
        columns: where a record has its parts. A usual format is recognised (`formats.recognised`).
        tally: counts what is met.

    Raises:
        DataError: the path is missing, empty or binary, or a record lacks its columns; names the file and line.
    """
    tally = Tally() if tally is None else tally
    files = _files(path, tally)
    for file, name in files:
        yield from _read(file, prefix + name, columns, characters, tally, alone=len(files) == 1)


def local_path(base: Path, path: str) -> Path:
    """A path of the study file, which starts from the folder `base` unless it is absolute or begins with ~.

    Raises:
        DataError: there is no such user.
    """
    try:
        return base / Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{place(path)}: {reason(error)}; write the path out") from error


def check_there(path: Path) -> None:
    """Make sure that a file or folder exists.

    Raises:
        DataError: it does not, or cannot be looked at.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise DataError(
            f"{place(path)}: no such file or folder; paths start from the folder of the study file"
        ) from error
    except OSError as error:
        raise DataError(f"{place(path)}: cannot be accessed ({error.strerror})") from error


def characters_on_disk(path: Path) -> int | None:
    """The most characters that a file or folder can hold, from its bytes; None where files are packed.

    Raises:
        DataError: as `read_documents`, of the path itself.
    """
    files = [file for file, _ in _files(path, Tally())]
    if any(file.suffix.lower() == ".gz" or _kind(file) == PARQUET for file in files):
        return None
    return sum(file.stat().st_size for file in files)


def _files(path: Path, tally: Tally) -> list[tuple[Path, str]]:
    """The file itself, or the readable files of a folder, each with the name its documents are called by."""
    check_there(path)
    if not path.is_dir():
        return [(path, path.name)]
    try:
        files = [p for p in path.rglob("*") if p.is_file() and _kind(p) and not p.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{place(path)}: the folder cannot be read ({error.strerror})") from error
    if not files:
        raise DataError(
            f"{place(path)}: no readable file in this folder; LDC reads {', '.join(SUFFIXES)}, and .gz of these"
        )
    first = [p for p in files if _kind(p) not in TABLES]
    if first and len(first) < len(files):
        kinds = sorted({_kind(p) for p in files} - {_kind(p) for p in first})
        tally.notes.append(
            f"files beside text of other kinds were not read: {len(files) - len(first):,} ({', '.join(kinds)}); "
            "to read them, give them a folder of their own"
        )
    within = [(p, p.relative_to(path)) for p in first or files]
    return [(p, r.as_posix()) for p, r in sorted(within, key=lambda pair: pair[1].parts)]


def _read(path: Path, name: str, columns: Columns, characters: int, tally: Tally, alone: bool) -> Iterator[Document]:
    check_there(path)
    if path.stat().st_size == 0:
        raise DataError(f"{place(path)}: the file is empty; give one with text")
    if not _is_unicode(name):
        raise DataError(f"{place(path)}: the name of the file is not UTF-8; rename it")
    kind = _kind(path)
    if not kind:
        raise DataError(f"{place(path)}: unknown kind of file; LDC reads {', '.join(SUFFIXES)}, and .gz of these")
    if kind not in TEXT_SUFFIXES:
        yield from _records(path, name, kind, columns, tally)
        return
    if columns.only:
        raise DataError(f"{place(path)}: plain text has no columns, so `only` cannot choose from it")
    tally.ways.setdefault("plain text", False)
    text = pieces.head(path, characters + 1)
    if alone and tally.pieces:
        yield from _pieces(name, text, tally)
    else:
        yield Document(source=name, text=text)


def _pieces(name: str, text: str, tally: Tally) -> Iterator[Document]:
    """A single text as documents of their own, so that it can be split."""
    most = paragraphs.piece_characters(len(text))
    tally.notes.append(
        f"{shown(name)} is one text; it was cut at blank lines into pieces of at most {most:,} characters, each a "
        "document. Neighbours may fall into different splits, so its test text is close to its training text"
    )
    for number, piece in enumerate(paragraphs.cut(text, most), start=1):
        yield Document(source=f"{name}:{number}", text=piece)


def _kind(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""


def _records(path: Path, name: str, kind: str, columns: Columns, tally: Tally) -> Iterator[Document]:
    """The documents of a file of records; those without text are counted and left out."""
    where, way = place(path), columns
    named = set(columns.named)

    def choose(found: Sequence[str]) -> Sequence[str] | None:
        nonlocal way
        tally.columns = tuple(found)
        tally.met |= named.intersection(found)
        way = recognised(columns, set(found))
        tally.ways.setdefault(way_of(way, found), way is not columns)
        told = way.names and set(way.names).difference((way.source, *dict(way.only)))
        return way.names if told and told.intersection(found) else None  # all columns, to name them in the message

    for count, (word, number, record) in enumerate(records(path, kind, choose)):
        if count == tally.most:
            return
        here = f"{where}, {word} {number}"
        if not tally.met >= named:
            tally.met |= named.intersection(record)
        if not _taken(record, way, here):
            continue
        tally.records += 1
        document = document_of(record, way, here, f"{name}:{number}")
        if document is None or not document.text or document.text.isspace():
            tally.empty += 1
        else:
            yield document


def _taken(record: dict[str, Any], columns: Columns, where: str) -> bool:
    try:
        return columns.takes(record)
    except UnfitRecord as unfit:
        raise DataError(f"{where}: needs {unfit}; {found_columns(record)}") from unfit


def document_of(record: dict[str, Any], columns: Columns, where: str, default_source: str) -> Document | None:
    """A record as a document; None if its columns exist but are empty.

    Raises:
        DataError: a column is missing; names those wanted and those found.
    """
    try:
        parts = prompt_and_rest(record, columns)
        source = _source(record.get(columns.source), columns.source, default_source)
    except UnfitRecord as unfit:
        raise DataError(f"{where}: needs {unfit}; {found_columns(record, columns)}") from unfit
    if parts is None:
        return None
    document = Document(source=source, text=parts[0] + parts[1], prompt_characters=len(parts[0]))
    if not (_is_unicode(document.source) and _is_unicode(document.text)):
        raise DataError(f"{where}: holds half a surrogate pair (such as \\ud800), which is not text; remove it")
    return document


def _source(value: Any, column: str, default: str) -> str:
    """The name of a record's source document."""
    if value is None:
        return default
    try:
        return str(value)
    except RecursionError as error:
        raise UnfitRecord(f"a name in the column {quoted(column)}, which holds lists in lists") from error


def found_columns(record: dict[str, Any], columns: Columns = PLAIN) -> str:
    """What a record has, the nearest to a column that was named, and how to name it under the domain."""
    found = listed(f"{shown(key)} ({type(value).__name__})" for key, value in sorted(record.items()))
    fitting = formats_that_fit(list(record))
    hint = f", or format: {fitting[0]}, which fits these columns" if fitting else ""
    meant = next((near for name in columns.named if name not in record and (near := nearest(name, record))), "")
    return (
        f"found {found or 'nothing'}{meant or '.'} To use other names, set text, prompt and completion of the domain, "
        f"each to a column or a template with columns in braces{hint}"
    )


def _is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        for at in range(0, len(text), pieces.PIECE_BYTES):
            text[at : at + pieces.PIECE_BYTES].encode()
    except UnicodeEncodeError:
        return False
    return True
