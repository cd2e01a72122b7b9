"""Text files in pieces, so that a compressed file takes only the memory of the part in use.

Files are UTF-8, with or without a byte order mark, and may be compressed with gzip. Line ends stay as they are.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from ldc.domains.quoting import place, reason
from ldc.errors import DataError

PIECE_BYTES = 2**20
LINE_CHARACTERS = 2**28
BLANK_CHARACTERS = 100_000_000


def head(path: Path, characters: int) -> str:
    """The first `characters` of a file; the rest is not read.

    Raises:
        DataError: the file cannot be read, or is no text as far as it was read.
    """
    parts: list[str] = []
    left = characters
    for piece in pieces(path):
        parts.append(piece[:left])
        left -= len(parts[-1])
        if left <= 0:
            break
    return "".join(parts)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, each with its number from 1 on. Only a line feed ends a line.

    Raises:
        DataError: as `head`; or a line is longer than LINE_CHARACTERS, or nothing but blanks comes for
            BLANK_CHARACTERS.
    """
    number, blank = 1, 0
    parts: list[str] = []
    length = 0
    for piece in pieces(path):
        if not parts and piece.isspace():
            number += piece.count("\n")
            blank += len(piece)
            if blank > BLANK_CHARACTERS:
                raise DataError(f"{place(path)}: nothing but white space for {blank:,} characters; is it text?")
            continue
        blank = 0
        *ended, rest = piece.split("\n")
        for line in ended:
            whole = "".join((*parts, line)) if parts else line
            parts, length = [], 0
            if whole and not whole.isspace():
                yield number, whole
            number += 1
        if rest:
            parts.append(rest)
            length += len(rest)
        if length > LINE_CHARACTERS:
            raise DataError(
                f"{place(path)}, line {number}: over {LINE_CHARACTERS:,} characters; LDC needs one record per line"
            )
    if not (last := "".join(parts)).isspace() and last:
        yield number, last


def pieces(path: Path) -> Iterator[str]:
    """The text of a file in pieces of at most PIECE_BYTES characters, none of them empty.

    Raises:
        DataError: the file cannot be read, is damaged, is not UTF-8, or is binary.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    read = 0
    for block in _blocks(path):
        read += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at, value = read - len(error.object) + error.start, error.object[error.start]
            raise DataError(f"{place(path)}: not UTF-8 text (byte {at} is 0x{value:02x}); is it binary?") from error
        if "\x00" in text:
            raise DataError(f"{place(path)}: holds zero bytes, so it is binary and not text")
        if text:
            yield text


def _blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked, in blocks; the last one is empty."""
    packed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            block = file.read(PIECE_BYTES)
            while block:
                yield block
                block = file.read(PIECE_BYTES)
            yield block
    except (OSError, EOFError, zlib.error) as error:
        if packed and not isinstance(error, (PermissionError, FileNotFoundError)):
            raise DataError(f"{place(path)}: not a whole gzip file ({reason(error)}); fetch it again") from error
        told = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{place(path)}: cannot be read ({told})") from error
