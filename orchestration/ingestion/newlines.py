"""Line endings of text files: detect them, find where records end, and make them uniform."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestration.ingestion.faults import IngestFault

CHUNK = 1 << 20
NAMES = {b"\n": "LF", b"\r\n": "CRLF", b"\r": "CR"}


@dataclass(frozen=True)
class NewlineCounts:
    """The number of each byte sequence; each ``crlf`` also counts as one of both others."""

    cr: int
    lf: int
    crlf: int

    @property
    def is_mixed(self) -> bool:
        """Whether the file may have records with different endings."""
        return self.cr > 0 and self.lf > 0 and not self.cr == self.lf == self.crlf

    @property
    def newline(self) -> bytes:
        """The ending of records in a file that is not mixed."""
        return b"\r\n" if self.crlf else b"\r" if self.cr and not self.lf else b"\n"


def count_newlines(path: Path) -> NewlineCounts:
    """Count line endings, wherever they are."""
    cr = lf = crlf = 0
    last = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            lf += chunk.count(b"\n")
            if b"\r" in chunk:
                cr += chunk.count(b"\r")
                crlf += chunk.count(b"\r\n")
            crlf += last == b"\r" and chunk[:1] == b"\n"
            last = chunk[-1:]
    return NewlineCounts(cr, lf, crlf)


class Quotes:
    """Follows a delimited text line by line and tracks whether its end is inside a quoted field.

    As in DuckDB, a quote opens a field only at its start; anywhere else it is text.
    """

    def __init__(self, delimiter: str | None) -> None:
        """``delimiter`` is None for a format without quotes, such as JSON lines."""
        self.is_open = False
        self._delimiter = (delimiter or "").encode()
        self._closing = re.compile(rb'(?:[^"]|"")*+"')
        self._field = re.compile(rb"(?:\A|(?<=[\r" + re.escape(self._delimiter) + rb']))"(?:[^"]|"")*+("?)')

    def feed(self, line: bytes) -> None:
        """Advance by a line, or by a part of one that begins at a field or inside the open field."""
        if not self._delimiter or b'"' not in line:
            return
        quotes = line.count(b'"')
        if not self.is_open:
            opening = line.startswith(b'"') + line.count(self._delimiter + b'"')
            closing = line.rstrip(b"\r\n").endswith(b'"') + line.count(b'"' + self._delimiter)
            if quotes == opening + closing and opening == closing:
                return
            start = 0
        else:
            found = self._closing.match(line)
            if found is None:
                return
            self.is_open, start = False, found.end()
        for match in self._field.finditer(line, start):
            self.is_open = not match[1]


@dataclass(frozen=True)
class LineCounts:
    """Lines that do not begin a record: ``blank`` lines and lines inside quoted fields."""

    blank: int
    quoted: int


def count_lines_without_record(path: Path, newline: bytes, delimiter: str | None, label: str) -> LineCounts:
    """Count the lines of a text file on which no row begins.

    Raises:
        IngestFault: A quoted field is never closed.
    """
    blank = quoted = opened = number = 0
    quotes, end = Quotes(delimiter), newline[-1:]
    for lines in _batches(path, end):
        if not quotes.is_open and _is_plain(lines, end, has_quotes=delimiter is not None):
            number += lines.count(end)
            continue
        for line in lines.removesuffix(end).split(end):
            number += 1
            if quotes.is_open:
                quoted += 1
            elif not line.strip():
                blank += 1
            was_open = quotes.is_open
            quotes.feed(line + end)
            if quotes.is_open and not was_open:
                opened = number
    if quotes.is_open:
        raise IngestFault(f"{label}, line {opened}", "a quote that is never closed", "a closing quote")
    return LineCounts(blank, quoted)


def _batches(path: Path, end: bytes) -> Iterator[bytes]:
    """The bytes of a file, many whole lines at a time."""
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            lines, found, rest_of_chunk = chunk.rpartition(end)
            if found:
                yield rest + lines + found
                rest = rest_of_chunk
            else:
                rest += chunk
    if rest:
        yield rest


def _is_plain(lines: bytes, end: bytes, *, has_quotes: bool) -> bool:
    """Whether no line is blank or has a quote: a few searches instead of a look at each line."""
    if (has_quotes and b'"' in lines) or lines[:1].isspace():
        return False
    return not any(end + space in lines for space in (b" ", b"\t", b"\n", b"\r", b"\v", b"\f"))


def with_one_newline(path: Path, delimiter: str | None, label: str, target: Path) -> Path:
    """Write the file to ``target`` with LF after each record, and return that path.

    Line breaks inside quoted fields do not change. CRLF and LF may be mixed. A bare CR is ambiguous, so it
    ends records only if nothing else does.

    Raises:
        IngestFault: Some records end in CR and others do not.
    """
    quotes = Quotes(delimiter)
    first: bytes | None = None
    number = 1
    with path.open("rb") as file, target.open("wb") as out:
        for line in _pieces(file):
            quotes.feed(line)
            ending = b"\r\n" if line.endswith(b"\r\n") else line[-1:] if line[-1:] in b"\r\n" else b""
            if not ending or quotes.is_open:
                out.write(line)
            else:
                if first is not None and first != ending and b"\r" in (first, ending):
                    raise IngestFault(
                        f"{label}, line {number}", f"a line that ends in {NAMES[ending]}",
                        f"{NAMES[first]}, as in line 1 (a carriage return in a value needs quotes)",
                    )  # fmt: skip
                first = first or ending
                out.write(line[: -len(ending)] + b"\n")
            number += bool(ending)
    return target


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, each with its ending, whichever that is."""
    for line in file:
        if b"\r" not in line or line.count(b"\r") == line.endswith(b"\r\n"):
            yield line
            continue
        yield from re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", line)
