"""From the file as delivered to a plain local file: hash, decompression, encoding, and what is in its bytes.

What belongs here: bytes. What does not: rows and columns.
"""

import codecs
import gzip
import hashlib
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from orchestration.declarations import Ingest
from orchestration.ingestion.download import CHUNK, fetch_http, fetch_s3
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.newlines import count_newlines, with_one_newline
from orchestration.ingestion.uris import Item, Place
from orchestration.settings import Settings

MAX_LINE = 2_000_000
"""Longest line, in bytes, that is read; DuckDB drops a longer one without a word."""


@dataclass(frozen=True)
class Delivery:
    """A delivered file on the local disk, as it was delivered."""

    label: str
    path: Path
    sha256: str
    size: int
    mtime_ns: int
    parts: tuple[tuple[str, str], ...] = ()
    """The ``key=value`` folders of its path."""


@dataclass(frozen=True)
class TextFacts:
    """What the bytes of a text file say before any row is read."""

    lines: int
    has_nul: bool
    newline: bytes
    is_empty: bool
    """Whether it has only line breaks and a byte order mark."""

    @property
    def newline_option(self) -> str:
        """The option of DuckDB's ``read_csv`` for the line ending.

        By default DuckDB uses the first one in the file, which may be inside a quoted name; given CRLF, it
        does not read in parallel.
        """
        return "new_line='\\n', " if self.newline == b"\n" else ""


def deliver(item: Item, place: Place, settings: Settings, folder: Path) -> Delivery:
    """Bring a file to the local disk if it is remote, and hash it.

    Raises:
        IngestFault: There is no such file.
        ConnectionError: The network failed.
    """
    path = Path(item.address)
    if place.scheme in {"http", "s3"}:
        path = folder / f"{hashlib.sha256(item.address.encode()).hexdigest()[:16]}.delivered"
        if place.scheme == "s3":
            fetch_s3(item.address, settings, path)
        else:
            fetch_http(item.address, item.label, path)
    if not path.is_file():
        raise IngestFault(item.label, "no such file", "a file")
    before = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    delivery = Delivery(item.label, path, digest, before.st_size, before.st_mtime_ns, item.parts)
    check_unchanged(delivery)
    return delivery


def check_unchanged(delivery: Delivery) -> None:
    """Raise if the file is another one than was hashed: somebody is still writing it.

    Raises:
        IngestFault: Its size or modification time has changed.
    """
    now = delivery.path.stat()
    if (now.st_size, now.st_mtime_ns) != (delivery.size, delivery.mtime_ns):
        raise IngestFault(delivery.label, "a file that changed while it was read", "a complete file")


def _compression(ingest: Ingest, label: str) -> str:
    if ingest.compression != "auto":
        return ingest.compression
    name = label.lower().split("?")[0]
    return "zip" if name.endswith(".zip") else "gzip" if name.endswith(".gz") else "none"


def _zip_member(file: BinaryIO, label: str) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise IngestFault(label, f"no zip archive ({error})", "a complete zip archive") from error
    return archive


def _is_content(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a packed file, not one that macOS adds."""
    parts = member.filename.split("/")
    return not (member.is_dir() or parts[0] == "__MACOSX" or parts[-1].startswith("."))


_DAMAGED = (
    EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError,
    RuntimeError, ValueError, struct.error,
)  # fmt: skip


def _unpacked(delivery: Delivery, compression: str, folder: Path, limit: int) -> Path:
    """The decompressed file; the whole of it is read, so that checksums at its end are verified."""
    target = folder / f"{delivery.sha256[:32]}.unpacked"
    label = delivery.label
    with delivery.path.open("rb") as file, target.open("wb") as out:
        try:
            if compression == "gzip":
                with gzip.GzipFile(fileobj=file) as inner:
                    _copy(inner, out, limit, label)
            else:
                with _zip_member(file, label) as archive:
                    members = [m for m in archive.infolist() if _is_content(m)]
                    if len(members) != 1:
                        names = ", ".join(m.filename for m in members[:5])
                        raise IngestFault(
                            label, f"{len(members)} members ({names})", "a zip with exactly one"
                        )
                    if members[0].flag_bits & 0x1:
                        raise IngestFault(label, f"encrypted member {members[0].filename}", "a plain one")
                    with archive.open(members[0]) as member:
                        _copy(member, out, limit, label)
        except _DAMAGED as error:
            found = f"a damaged {compression} file ({str(error) or type(error).__name__})"
            raise IngestFault(label, found, "a complete one") from error
    return target


def _copy(packed: IO[bytes] | gzip.GzipFile, out: BinaryIO, limit: int, label: str) -> None:
    size = 0
    while chunk := packed.read(CHUNK):
        size += len(chunk)
        if size > limit:
            out.truncate(0)
            raise IngestFault(
                label, f"more than {limit:,} bytes when unpacked", "at most that (ingest.max_unpacked_size)"
            )
        out.write(chunk)


def _transcoded(path: Path, encoding: str, label: str, target: Path) -> Path:
    """The file in UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
    offset = 0
    with path.open("rb") as file, target.open("wb") as out:
        try:
            while chunk := file.read(CHUNK):
                out.write(decoder.decode(chunk).encode("utf-8"))
                offset += len(chunk)
            out.write(decoder.decode(b"", final=True).encode("utf-8"))
        except UnicodeError as error:
            raise IngestFault(
                label, f"bytes near offset {offset} that are not {encoding} ({error})", f"encoding {encoding}"
            ) from error
    return target


def unpack(delivery: Delivery, ingest: Ingest, folder: Path) -> Path:
    """The plain file of a delivery: decompressed, and in UTF-8 where it is text.

    Args:
        delivery: The file as delivered.
        ingest: The declaration.
        folder: Where temporary files go.

    Raises:
        IngestFault: The file is truncated, damaged, of another kind, or in another encoding.
    """
    compression = _compression(ingest, delivery.label)
    path = delivery.path
    if compression != "none":
        path = _unpacked(delivery, compression, folder, ingest.max_unpacked_size)
    if ingest.format == "parquet":
        return path
    encoding = codecs.lookup(ingest.encoding).name
    if encoding not in {"utf-8", "utf-8-sig"}:
        path = _transcoded(path, encoding, delivery.label, folder / f"{delivery.sha256[:32]}.utf8")
    if not count_newlines(path).is_mixed:
        return path
    delimiter = ingest.delimiter if ingest.format == "csv" else None
    return with_one_newline(path, delimiter, delivery.label, folder / f"{delivery.sha256[:32]}.lines")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def text_facts(path: Path, label: str) -> TextFacts:
    """Count the lines of a text file and look for what DuckDB would read wrongly or drop.

    Raises:
        IngestFault: A line is longer than ``MAX_LINE`` bytes.
    """
    newline = count_newlines(path).newline
    end = newline[-1:]
    lines, since, last = 0, 0, b""
    has_nul, is_empty = False, True
    for chunk in _chunks(path):
        ends = chunk.count(end)
        has_nul = has_nul or b"\0" in chunk
        is_empty = is_empty and not chunk.removeprefix(codecs.BOM_UTF8).strip(b"\r\n")
        since += chunk.find(end) if ends else len(chunk)
        if since > MAX_LINE:
            raise IngestFault(
                f"{label}, line {lines + 1}", f"more than {MAX_LINE:,} bytes in one line", "shorter lines"
            )
        if ends:
            since = len(chunk) - 1 - chunk.rfind(end)
        lines += ends
        last = chunk[-1:]
    return TextFacts(lines + (last not in {b"", end}), has_nul, newline, is_empty)
