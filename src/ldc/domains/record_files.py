"""Records out of files: JSON lines, a list in JSON, comma- or tab-separated values, Parquet. One record at a time."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from ldc.domains import pieces
from ldc.domains.quoting import place, quoted, reason
from ldc.errors import DataError

LINE_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv")
LIST_SUFFIX, PARQUET = ".json", ".parquet"
BATCH_ROWS = 64
_MARGIN = 32
_BETWEEN = re.compile(r"[\s,]*")

Record = dict[str, Any]
Choose = Callable[[Sequence[str]], "Sequence[str] | None"]
"""Told the columns of a file once, before its first record; returns the columns to read, or None for all."""


def records(path: Path, kind: str, choose: Choose) -> Iterator[tuple[str, int, Record]]:
    """The records of a file, each with the word for its place (`line`, `row` or `record`) and its number from 1 on.

    Args:
        kind: the suffix that says how the file is written.
        choose: is told the file's columns; of JSON those of the first record.

    Raises:
        DataError: the file cannot be read, is damaged, or holds something other than records.
    """
    if kind == PARQUET:
        yield from (("row", number, record) for number, record in enumerate(_parquet(path, choose), start=1))
    elif kind in TABLE_SUFFIXES:
        yield from (("row", number, record) for number, record in enumerate(_table(path, kind, choose), start=1))
    elif kind == LIST_SUFFIX and _begins_with_bracket(path):
        yield from _told(choose, (("record", number, record) for number, record in _list(path)))
    else:
        yield from _told(choose, (("line", number, record) for number, record in _lines(path, kind)))


def _told(choose: Choose, found: Iterator[tuple[str, int, Record]]) -> Iterator[tuple[str, int, Record]]:
    """The same records, after `choose` was told the columns of the first."""
    for index, (word, number, record) in enumerate(found):
        if index == 0:
            choose(list(record))
        yield word, number, record


def _lines(path: Path, kind: str) -> Iterator[tuple[int, Record]]:
    where = place(path)
    for number, line in pieces.lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else error
            wanted = "one JSON object per line" + (", or one list of objects" if kind == LIST_SUFFIX else "")
            raise DataError(f"{where}, line {number}: not JSON ({told}); LDC needs {wanted}") from error
        if not isinstance(record, dict):
            hint = "; a file that is one list of objects is to be called .json" if isinstance(record, list) else ""
            raise DataError(f"{where}, line {number}: needs a JSON object, but this is {type(record).__name__}{hint}")
        yield number, record


def _begins_with_bracket(path: Path) -> bool:
    """Whether the first character of a file that is not white space is [."""
    blank = 0
    for piece in pieces.pieces(path):
        if text := piece.lstrip():
            return text[0] == "["
        blank += len(piece)
        if blank > pieces.BLANK_CHARACTERS:
            break
    return False


def _list(path: Path) -> Iterator[tuple[int, Record]]:
    """The objects of a list, each parsed as soon as it is read whole.

    Raises:
        DataError: the list is damaged, an entry is no object, or one is longer than pieces.LINE_BYTES.
    """
    where, decoder, source = place(path), json.JSONDecoder(), pieces.pieces(path)
    buffer = next((text for piece in source if (text := piece.lstrip())), "")
    at, number, wanted, ended = 1, 0, 0, False  # the first character is the bracket
    while True:
        at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]  # it matches everywhere
        left = len(buffer) - at
        if left and buffer[at] == "]":
            return
        here = f"{where}, record {number + 1}"
        found = _object(decoder, buffer, at, here) if left and (ended or left >= wanted) else None
        if found is not None:
            (record, at), number, wanted = found, number + 1, 0
            if not isinstance(record, dict):
                raise DataError(f"{here}: needs a JSON object, but this is {type(record).__name__}")
            yield number, record
            continue
        if ended:
            raise DataError(f"{where}: the list does not end after record {number}; fetch the file again")
        if left * pieces.width(buffer) > pieces.LINE_BYTES:
            raise DataError(f"{here}: over {left:,} characters in one record; is it a list of objects?")
        wanted = 2 * left  # so a long record is parsed a few times, and not once for each piece
        more = _next(source, left)
        ended = not more
        buffer, at = buffer[at:] + more, 0


def _next(source: Iterator[str], characters: int) -> str:
    """At least so many characters of a file, and at least one piece; fewer at its end."""
    parts: list[str] = []
    count = 0
    for piece in source:
        parts.append(piece)
        count += len(piece)
        if count >= characters:
            break
    return "".join(parts)


def _object(decoder: json.JSONDecoder, text: str, at: int, where: str) -> tuple[Any, int] | None:
    """The value at a place and where it ends; None if the text may end within it.

    Raises:
        DataError: it is damaged before the end of the text.
    """
    try:
        return decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated") or error.pos > len(text) - _MARGIN:
            return None
        raise DataError(f"{where}: not JSON ({error.msg}); LDC needs a list of objects") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({reason(error)}); LDC needs a list of objects") from error


def _table(path: Path, kind: str, choose: Choose) -> Iterator[Record]:
    """The rows below a header, all values as text. Empty cells are empty text.

    Raises:
        DataError: there is no header, quotes do not end, or a row has more values than the header has names.
    """
    where = place(path)
    lines = pieces.whole_lines(path)
    header = next((line for line in lines if line.strip()), "")
    mark = "\t" if kind == ".tsv" else max(",;\t", key=header.count)
    before = csv.field_size_limit(pieces.LINE_BYTES)
    try:
        reader = csv.reader(chain([header], lines), delimiter=mark, strict=True)
        names = [name.strip() for name in next(reader, [])]
        twice = [name for name in names if names.count(name) > 1]
        if twice or not any(names):
            what = f"the column {quoted(twice[0])} occurs twice" if twice else "the first line names no column"
            raise DataError(f"{where}: {what}; the first line has to be a header with the names of the columns")
        choose(names)
        for number, row in enumerate(filter(None, reader), start=1):
            if len(row) > len(names):
                raise DataError(
                    f"{where}, row {number} (line {reader.line_num}): {len(row)} values, but the header names "
                    f"{len(names)} columns; put values that hold {quoted(mark)} in double quotes"
                )
            yield dict(zip_longest(names, row))
    except csv.Error as error:
        raise DataError(
            f"{where}, near line {reader.line_num}: not a table of values ({reason(error)}); a value that holds a "
            "double quote is to be in double quotes, with each of its own doubled"
        ) from error
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path, choose: Choose) -> Iterator[Record]:
    """Rows in small batches: a few kilobytes of a file can hold gigabytes of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            have = file.schema_arrow.names
            chosen = choose(have)
            wanted = [column for column in (have if chosen is None else chosen) if column in have]
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
