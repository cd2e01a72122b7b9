"""Local files into documents: JSON lines, Parquet, plain text, folders of them, gzip-compressed or not."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldc.domains.document import Document
from ldc.domains.formats import Columns, UnfitRecord, formats_that_fit, prompt_and_rest
from ldc.errors import DataError

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".tex", ".py", ".c", ".cc", ".cpp", ".h", ".hpp", ".java", ".js", ".rs", ".go")
LINE_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (*LINE_SUFFIXES, ".parquet", *TEXT_SUFFIXES)


PLAIN = Columns()


def read_documents(path: Path, columns: Columns = PLAIN, prefix: str = "") -> Iterator[Document]:
    """Every document of a file, or of the readable files of a folder in order of their paths.

    Where a record names no source of its own, it is called after its file: by the path within the folder, or by the
    name of a single file, behind `prefix`. So the folder may lie anywhere, and be named in any way.

    Raises:
        DataError: the path is missing, empty or binary, or a record lacks its columns; names the file and line.
    """
    for file, name in _files(path):
        yield from _read(file, prefix + name, columns)


def _files(path: Path) -> list[tuple[Path, str]]:
    """The file itself, or the readable files of a folder, each with the name its documents are called by."""
    if not path.is_dir():
        return [(path, path.name)]
    files = [p for p in path.rglob("*") if p.is_file() and _kind(p) and not p.name.startswith(".")]
    if not files:
        raise DataError(f"{path}: no readable file in this folder; LDC reads {', '.join(SUFFIXES)}, and .gz of these")
    within = [(p, p.relative_to(path)) for p in files]
    return [(p, r.as_posix()) for p, r in sorted(within, key=lambda pair: pair[1].parts)]


def _read(path: Path, name: str, columns: Columns) -> Iterator[Document]:
    check_there(path)
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; give one with text")
    if not _is_unicode(name):
        raise DataError(f"{str(path)!r}: the name of the file is not UTF-8; rename it")
    kind = _kind(path)
    if kind == ".parquet":
        yield from _parquet(path, name, columns)
    elif kind in LINE_SUFFIXES:
        yield from _json_lines(path, name, columns)
    elif kind:
        yield Document(source=name, text=_text(path))
    else:
        raise DataError(f"{path}: unknown kind of file; LDC reads {', '.join(SUFFIXES)}, and .gz of these")


def check_there(path: Path) -> None:
    """Make sure that a file or folder exists.

    Raises:
        DataError: it does not.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; paths start from the folder of the study file")


def _kind(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); fetch it again") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x}); is it binary?"
        ) from error
    if "\x00" in text:
        raise DataError(f"{path}: holds zero bytes, so it is binary and not text")
    return text


def _json_lines(path: Path, name: str, columns: Columns) -> Iterator[Document]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{path}, line {number}: not JSON ({told}); LDC wants one JSON object a line") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}, line {number}: a JSON object is wanted, this is {type(record).__name__}")
        yield _document(record, columns, f"{path}, line {number}", f"{name}:{number}")


def _parquet(path: Path, name: str, columns: Columns) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names if columns.names is None else columns.names
        wanted = [column for column in names if column in file.schema_arrow.names]
        records = [record for batch in file.iter_batches(columns=wanted or None) for record in batch.to_pylist()]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a whole Parquet file ({error}); fetch it again") from error
    for number, record in enumerate(records, start=1):
        yield _document(record, columns, f"{path}, row {number}", f"{name}:{number}")


def _document(record: dict[str, Any], columns: Columns, where: str, default_source: str) -> Document:
    document = document_of(record, columns, where, default_source)
    if document is None:
        raise DataError(f"{where}: wanted {columns.wanted}; {found_columns(record)}")
    return document


def document_of(record: dict[str, Any], columns: Columns, where: str, default_source: str) -> Document | None:
    """A record as a document; None where its columns are there, but empty.

    Raises:
        DataError: a column is missing; names those wanted and those found.
    """
    source = record.get(columns.source)
    source = default_source if source is None else str(source)
    try:
        parts = prompt_and_rest(record, columns)
    except UnfitRecord as unfit:
        raise DataError(f"{where}: wanted {unfit}; {found_columns(record)}") from unfit
    if parts is None:
        return None
    document = Document(source=source, text=parts[0] + parts[1], prompt_characters=len(parts[0]))
    if not _is_unicode(document.source + document.text):
        raise DataError(f"{where}: holds half a surrogate pair (such as \\ud800), which is not text; remove it")
    return document


def found_columns(record: dict[str, Any]) -> str:
    """What a record has, and how to name it under the domain."""
    found = ", ".join(f"{key} ({type(value).__name__})" for key, value in sorted(record.items()))
    fitting = formats_that_fit(list(record))
    hint = f", or format: {fitting[0]}, which fits these columns" if fitting else ""
    return (
        f"found {found or 'nothing'}. Other names can be given under the domain as text, prompt and completion, "
        f"each a column or a template with columns in braces{hint}"
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
