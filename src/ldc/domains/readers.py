"""Reads local files into documents: JSON lines, Parquet, plain text and folders of them, with or without gzip."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldc.domains import pieces
from ldc.domains.capping import MOST_CHARACTERS
from ldc.domains.document import Document
from ldc.domains.formats import Columns, UnfitRecord, formats_that_fit, prompt_and_rest
from ldc.domains.quoting import listed, place, quoted, reason, shown
from ldc.errors import DataError

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".tex", ".py", ".c", ".cc", ".cpp", ".h", ".hpp", ".java", ".js", ".rs", ".go")
LINE_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (*LINE_SUFFIXES, ".parquet", *TEXT_SUFFIXES)
BATCH_ROWS = 64


PLAIN = Columns()


def read_documents(
    path: Path, columns: Columns = PLAIN, prefix: str = "", characters: int = MOST_CHARACTERS
) -> Iterator[Document]:
    """Every document of a file, or of the readable files of a folder in order of their paths.

    Where a record names no source of its own, it is called after its file: by the path within the folder, or by the
    name of a single file, behind `prefix`. So the folder may lie anywhere, and be named in any way. Of a plain text
    file one character more than `characters` is read, which tells that there is more.

    Raises:
        DataError: the path is missing, empty or binary, or a record lacks its columns; names the file and line.
    """
    for file, name in _files(path):
        yield from _read(file, prefix + name, columns, characters)


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


def _files(path: Path) -> list[tuple[Path, str]]:
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
    within = [(p, p.relative_to(path)) for p in files]
    return [(p, r.as_posix()) for p, r in sorted(within, key=lambda pair: pair[1].parts)]


def _read(path: Path, name: str, columns: Columns, characters: int) -> Iterator[Document]:
    check_there(path)
    if path.stat().st_size == 0:
        raise DataError(f"{place(path)}: the file is empty; give one with text")
    if not _is_unicode(name):
        raise DataError(f"{place(path)}: the name of the file is not UTF-8; rename it")
    kind = _kind(path)
    if kind == ".parquet":
        yield from _parquet(path, name, columns)
    elif kind in LINE_SUFFIXES:
        yield from _json_lines(path, name, columns)
    elif kind and columns.only:
        raise DataError(f"{place(path)}: plain text has no columns, so `only` cannot choose from it")
    elif kind:
        yield Document(source=name, text=pieces.head(path, characters + 1))
    else:
        raise DataError(f"{place(path)}: unknown kind of file; LDC reads {', '.join(SUFFIXES)}, and .gz of these")


def _kind(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""


def _json_lines(path: Path, name: str, columns: Columns) -> Iterator[Document]:
    where = place(path)
    for number, line in pieces.lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{where}, line {number}: not JSON ({told}); LDC needs one JSON object per line") from error
        if not isinstance(record, dict):
            raise DataError(f"{where}, line {number}: needs a JSON object, but this is {type(record).__name__}")
        if _taken(record, columns, f"{where}, line {number}"):
            yield _document(record, columns, f"{where}, line {number}", f"{name}:{number}")


def _parquet(path: Path, name: str, columns: Columns) -> Iterator[Document]:
    """Rows in small batches: a few kilobytes of a file can hold gigabytes of text."""
    where = place(path)
    for number, record in enumerate(_records(path, columns), start=1):
        if _taken(record, columns, f"{where}, row {number}"):
            yield _document(record, columns, f"{where}, row {number}", f"{name}:{number}")


def _records(path: Path, columns: Columns) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            have = file.schema_arrow.names
            wanted = [column for column in (have if columns.names is None else columns.names) if column in have]
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted or None, use_threads=False):
                values = [_values(batch.column(at), at_name, path) for at, at_name in enumerate(batch.schema.names)]
                yield from (dict(zip(batch.schema.names, row)) for row in zip(*values))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{place(path)}: not a whole Parquet file ({reason(error)}); fetch it again") from error


def _values(column: Any, name: str, path: Path) -> list[Any]:
    """The values of a column of a batch.

    Raises:
        DataError: Python has no form for one of them, such as text in another encoding or a date beyond all calendars.
    """
    try:
        return column.to_pylist()
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{place(path)}: the column {quoted(name)} has values that cannot be read ({reason(error)}); "
            "rewrite it as UTF-8 text, or leave the column out"
        ) from error


def _taken(record: dict[str, Any], columns: Columns, where: str) -> bool:
    try:
        return columns.takes(record)
    except UnfitRecord as unfit:
        raise DataError(f"{where}: needs {unfit}; {found_columns(record)}") from unfit


def _document(record: dict[str, Any], columns: Columns, where: str, default_source: str) -> Document:
    document = document_of(record, columns, where, default_source)
    if document is None:
        raise DataError(f"{where}: needs {columns.wanted}; {found_columns(record)}")
    return document


def document_of(record: dict[str, Any], columns: Columns, where: str, default_source: str) -> Document | None:
    """A record as a document; None if its columns exist but are empty.

    Raises:
        DataError: a column is missing; names those wanted and those found.
    """
    try:
        parts = prompt_and_rest(record, columns)
        source = _source(record.get(columns.source), columns.source, default_source)
    except UnfitRecord as unfit:
        raise DataError(f"{where}: needs {unfit}; {found_columns(record)}") from unfit
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


def found_columns(record: dict[str, Any]) -> str:
    """What a record has, and how to name it under the domain."""
    found = listed(f"{shown(key)} ({type(value).__name__})" for key, value in sorted(record.items()))
    fitting = formats_that_fit(list(record))
    hint = f", or format: {fitting[0]}, which fits these columns" if fitting else ""
    return (
        f"found {found or 'nothing'}. To use other names, set text, prompt and completion of the domain, "
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
