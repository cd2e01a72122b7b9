"""Text files in pieces, so that a compressed file takes only the memory of the part in use.

Files are UTF-8, with or without a byte order mark, and may be compressed with gzip. Line ends stay as they are.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from ldc.domains.quoting import place, reason, shown
from ldc.errors import DataError

PIECE_BYTES = 2**20
LINE_BYTES = 2**28
"""The most memory of one line: a character takes one byte, or up to four in a text with signs that need them."""
BLANK_CHARACTERS = 100_000_000
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_SAMPLE = 24
_MOST_LETTERS = 48


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
        DataError: as `head`; or a line takes more memory than LINE_BYTES, or nothing but blanks comes for
            BLANK_CHARACTERS.
    """
    number, blank = 1, 0
    parts: list[str] = []
    length, widest = 0, 1
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
            parts, length, widest = [], 0, 1
            if whole and not whole.isspace():
                yield number, whole
            number += 1
        if rest:
            parts.append(rest)
            length += len(rest)
        widest = max(widest, width(rest)) if rest else widest
        if length * widest > LINE_BYTES:
            raise DataError(
                f"{place(path)}, line {number}: over {LINE_BYTES // widest:,} characters; LDC needs one record per line"
            )
    if not (last := "".join(parts)).isspace() and last:
        yield number, last


def whole_lines(path: Path) -> Iterator[str]:
    """All lines of a file, each with its line feed. Only a line feed ends a line.

    Raises:
        DataError: as `lines`; blank lines may go on.
    """
    parts: list[str] = []
    length, widest = 0, 1
    for piece in pieces(path):
        wide = width(piece)
        for part in _LINE.findall(piece):
            parts.append(part)
            length += len(part)
            widest = max(widest, wide)
            if length * widest > LINE_BYTES:
                raise DataError(f"{place(path)}: over {LINE_BYTES // widest:,} characters in one line")
            if part[-1] == "\n":
                yield "".join(parts)
                parts, length, widest = [], 0, 1
    if parts:
        yield "".join(parts)


def pieces(path: Path) -> Iterator[str]:
    """The text of a file in pieces of at most PIECE_BYTES characters, none of them empty.

    Raises:
        DataError: the file cannot be read, is damaged, is not UTF-8, or is binary.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    read = 0
    for block in _blocks(path):
        if not read and block[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            told = f"not UTF-8 text (byte 0 is 0x{block[0]:02x}), but probably UTF-16"
            raise DataError(f"{place(path)}: {told}. {_convert(path, 'UTF-16')}")
        read += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at, value = read - len(error.object) + error.start, error.object[error.start]
            told = _encoding(path, bytes(error.object), error.start)
            raise DataError(f"{place(path)}: not UTF-8 text (byte {at} is 0x{value:02x}); {told}") from error
        if "\x00" in text:
            raise DataError(f"{place(path)}: holds zero bytes, so it is binary and not text")
        if text:
            yield text


def _encoding(path: Path, block: bytes, at: int) -> str:
    """Which encoding bytes that are not UTF-8 are likely in, with a sample, and how to convert the file."""
    near = block[max(0, at - 4096) : at + 4096]
    high = {value for value in near if value > 127}
    if len(near) < 2 or any(value in _CONTROL for value in near) or len(high) > _MOST_LETTERS:
        return "is it binary?"
    windows = any(value < 0xA0 for value in high)
    try:
        sample = block[max(0, at - _SAMPLE) : at + _SAMPLE].decode("cp1252" if windows else "latin-1")
    except UnicodeDecodeError:
        return "is it binary?"
    name = "WINDOWS-1252" if windows else "ISO-8859-1"
    words = " ".join(sample.split())
    return f"as {'Windows-1252 (CP1252)' if windows else 'Latin-1'} it reads {words!r}. {_convert(path, name)}"


def _convert(path: Path, encoding: str) -> str:
    """The sentence that says how to make a file UTF-8."""
    packed = path.suffix.lower() == ".gz"
    plain = path.name.removesuffix(path.suffix) if packed else path.name
    take = (
        f"zcat {shown(path.name)} | iconv -f {encoding} -t UTF-8"
        if packed
        else (f"iconv -f {encoding} -t UTF-8 {shown(path.name)}")
    )
    return f"If it is {encoding}, convert it: {take} > utf8-{shown(plain)}"


def width(text: str) -> int:
    """The bytes that each character of a text takes in memory: 1, 2 or 4, as the widest one needs (PEP 393)."""
    if text.isascii():
        return 1
    widest = max(text)
    return 1 if widest < "\u0100" else 2 if widest < "\U00010000" else 4


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
