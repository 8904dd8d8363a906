"""Where deliveries are: from a declared uri to the files or the database it stands for.

What belongs here: schemes, environment variables in a uri, patterns, folders, packages, and what of a
uri may be shown. What does not: opening or reading anything.
"""

import glob
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from orchestration.declarations import Ingest
from orchestration.ingestion.faults import IngestFault, hint
from orchestration.settings import Settings

Scheme = Literal["local", "http", "s3", "sqlite", "postgres"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SCHEMES: dict[str, Scheme] = {
    "http": "http",
    "https": "http",
    "s3": "s3",
    "sqlite": "sqlite",
    "postgresql": "postgres",
    "postgres": "postgres",
}
_SUFFIXES = {
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet",),
}
_COMPRESSED = ("", ".gz", ".zip")


@dataclass(frozen=True)
class Place:
    """Where a source is.

    ``address`` is what is opened and may hold a secret, so it stays out of ``repr``; ``label`` may be
    shown and stored. ``is_many`` is true for a pattern or a folder, where each file is a delivery.
    """

    scheme: Scheme
    address: str
    label: str
    is_many: bool = False

    def __repr__(self) -> str:
        return f"Place({self.scheme}, {self.label})"

    @property
    def is_network(self) -> bool:
        """Whether a failure can be the network's and pass by itself."""
        return self.scheme in {"http", "s3", "postgres"}


@dataclass(frozen=True)
class Item:
    """One file of a place: what to open, what to call it, and the ``key=value`` parts of its path."""

    address: str
    label: str
    parts: tuple[tuple[str, str], ...] = ()


def redacted(uri: str) -> str:
    """A uri without its user, password and query values."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    query = re.sub(r"=[^&]*", "=***", parts.query)
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def expand(uri: str, place: str) -> str:
    """A uri with every ``${NAME}`` replaced by that environment variable.

    Raises:
        IngestFault: A variable is not set, or empty.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1], "")
        if not found:
            raise IngestFault(
                f"{place}.uri", f"${{{match[1]}}} and no such environment variable", "it to be set"
            )
        return found

    return _VARIABLE.sub(value, uri)


def _package_file(uri: str, place: str) -> Path:
    """The file a ``package://<package>/<path>`` names; the package is located, never imported."""
    parts = urlsplit(uri)
    package, inner = parts.netloc, unquote(parts.path).lstrip("/")
    # A top-level name only: finding a nested one would import its parent.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise IngestFault(f"{place}.uri", f"package {package!r}, not installed", "an installed package")
    for folder in spec.submodule_search_locations or ():
        path = Path(folder) / inner
        if path.is_file():
            return path
    raise IngestFault(f"{place}.uri", f"no file {inner!r} in package {package!r}", "a file of the package")


def _is_pattern(path: str) -> bool:
    return any(c in path for c in "*?[")


def find_place(ingest: Ingest, settings: Settings, place: str) -> Place:
    """What a declaration's uri stands for, with environment variables expanded.

    Args:
        ingest: The declaration.
        settings: The platform's settings; a relative path starts beside its dbt project.
        place: Where the declaration is, for messages.

    Raises:
        IngestFault: The scheme is unknown, a variable is not set, or a package has no such file.
    """
    declared = ingest.uri
    uri = expand(declared, place)
    scheme = uri.split("://", 1)[0].lower() if "://" in uri else ""
    if scheme == "package":
        return Place("local", str(_package_file(uri, place)), declared)
    if scheme in _SCHEMES:
        kind = _SCHEMES[scheme]
        if (kind in {"sqlite", "postgres"}) != (ingest.format == "table"):
            raise IngestFault(f"{place}.uri", f"{scheme}:// with format {ingest.format}", "format table only")
        if kind == "sqlite":
            path = _local(unquote(uri.split("://", 1)[1]), settings)
            return Place(kind, str(path), declared)
        many = kind == "s3" and (_is_pattern(uri) or uri.endswith("/"))
        label = uri if kind == "s3" else redacted(declared)
        return Place(kind, uri, label, many)
    if scheme not in {"", "file"}:
        known = ["package", "file", *_SCHEMES]
        raise IngestFault(
            f"{place}.uri", f"scheme {scheme!r}{hint(scheme, known)}", f"one of {', '.join(known)}, or a path"
        )
    if ingest.format == "table":
        raise IngestFault(f"{place}.uri", "a path with format table", "sqlite:///<path> or postgresql://...")
    text = unquote(urlsplit(uri).path) if scheme == "file" else uri
    path = _local(text, settings)
    many = not path.is_file() and (
        path.is_dir() or text.endswith("/") or _is_pattern(text) or not has_suffix(text, ingest)
    )
    return Place("local", str(path), uri, many)


def _local(text: str, settings: Settings) -> Path:
    path = Path(text).expanduser()
    return path if path.is_absolute() else settings.dbt_project_dir.parent / path


def has_suffix(name: str, ingest: Ingest) -> bool:
    """Whether a file in a folder is a delivery of the declared format; hidden and temporary ones are not."""
    base = name.rsplit("/", 1)[-1].lower()
    suffixes = tuple(s + c for s in _SUFFIXES[ingest.format] for c in _COMPRESSED)
    return base.endswith(suffixes) and not base.startswith((".", "_"))


def folder_pattern(place: Place) -> str:
    """The pattern of a place of many files."""
    root = place.address
    return root if _is_pattern(root) else root.rstrip("/") + "/*"


def local_items(place: Place, ingest: Ingest) -> list[Item]:
    """The files of a local place, in name order; each is called by the declared uri's own words."""
    if not place.is_many:
        return [Item(place.address, place.label)]
    is_folder = not _is_pattern(place.address)
    found = sorted(p for p in glob.glob(folder_pattern(place), recursive=True) if Path(p).is_file())
    return [
        Item(path, _label(path, place), path_parts(place, path))
        for path in found
        if not is_folder or has_suffix(path, ingest)
    ]


def path_parts(place: Place, address: str) -> tuple[tuple[str, str], ...]:
    """The ``key=value`` folders between a place of many files and one of them.

    Folders above the declared one, or above the first wildcard of a pattern, do not count.
    """
    if not place.is_many:
        return ()
    root = place.address.rstrip("/") + "/"
    if _is_pattern(place.address):
        root = re.split(r"[*?\[]", place.address, maxsplit=1)[0].rpartition("/")[0] + "/"
    folders = [part.partition("=") for part in address.removeprefix(root).split("/")[:-1]]
    return tuple((unquote(key), unquote(value)) for key, equals, value in folders if equals)


def _label(path: str, place: Place) -> str:
    """The file's uri: relative or absolute as the declaration is, so that it does not name a machine."""
    if place.address.endswith(place.label.rstrip("/")) and not place.label.startswith("/"):
        root = place.address[: len(place.address.rstrip("/")) - len(place.label.rstrip("/"))]
        return path[len(root) :]
    return path if not place.label.startswith("file://") else f"file://{path}"


def looks_like_many(ingest: Ingest, settings: Settings) -> bool:
    """Whether a declared uri is a local folder or pattern, as far as its words tell.

    Definitions load where the folder, or an environment variable that names it, may not exist yet.
    """
    if ingest.format == "table" or ("://" in ingest.uri and not ingest.uri.startswith("file://")):
        return False
    text = ingest.uri.removeprefix("file://")
    if _is_pattern(text) or text.endswith("/") or not has_suffix(text, ingest):
        return True
    return not _VARIABLE.search(text) and _local(text, settings).is_dir()
