"""Whether a dataset version is what its manifest says.

What belongs here: looking at every byte of a version. What does not: making it again (``rebuilding``).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.lakehouse.tables import Column
from orchestration.learning.datasets.building import read_back
from orchestration.learning.datasets.manifest import DatasetError, Manifest, Shard, version_of
from orchestration.learning.datasets.store import MANIFEST, QUERY, DatasetStore
from orchestration.settings import Settings

_CHECKED: dict[Path, tuple[int, int]] = {}
"""Shards that this process has looked at, by the size and time of change that they had."""


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_shard(folder: Path, shard: Shard, *, content: bool = True) -> Path:
    """A shard's file, verified; with ``content`` each file is read through once per process.

    Raises:
        DatasetError: It is missing, or its bytes are not those that were written.
    """
    path = folder / shard.path
    try:
        state = path.stat()
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: found no file, expected {shard.rows:,} rows: `groundwork dataset gc --remove` removes "
            "versions that nothing keeps; `groundwork dataset pin` keeps one"
        ) from None
    if state.st_size != shard.bytes:
        raise DatasetError(f"{path}: found {state.st_size} bytes, expected {shard.bytes}")
    if content and _CHECKED.get(path) != (state.st_size, state.st_mtime_ns):
        found = file_hash(path)
        if found != shard.sha256:
            raise DatasetError(f"{path}: found SHA-256 {found}, expected {shard.sha256}")
        _CHECKED[path] = (state.st_size, state.st_mtime_ns)
    return path


def verify(store: DatasetStore, manifest: Manifest, settings: Settings) -> list[str]:
    """What is wrong with a version, a line a fault; nothing when every byte is as it was written."""
    faults = list(_of_files(store, manifest))
    if not faults:
        faults = list(_of_content(store, manifest, settings))
    return faults


def _of_files(store: DatasetStore, manifest: Manifest) -> Iterator[str]:
    folder = store.path(manifest.dataset, manifest.version)
    defined = version_of(manifest.content_hash, manifest.columns)
    if not defined == manifest.version == folder.name:
        yield f"{MANIFEST}: found version {manifest.version}, expected {defined}, which its content has"
    wrote = [b for b in store.builds(manifest.dataset) if b.version == manifest.version]
    digest = file_hash(folder / MANIFEST)
    if wrote and digest != wrote[-1].manifest_sha256:
        yield f"{MANIFEST}: found SHA-256 {digest}, expected {wrote[-1].manifest_sha256}, as logged"
    query = folder / QUERY
    found = file_hash(query) if query.is_file() else "nothing"
    if found != manifest.query_sha256:
        yield f"{QUERY}: found SHA-256 {found}, expected {manifest.query_sha256}"
    for shard in manifest.shards:
        _CHECKED.pop(folder / shard.path, None)
        try:
            check_shard(folder, shard)
        except DatasetError as fault:
            yield str(fault)
            continue
        try:
            footer = pq.read_metadata(folder / shard.path)
        except pa.ArrowException as error:
            yield f"{shard.path}: found no Parquet ({error})"
            continue
        groups = tuple(footer.row_group(n).num_rows for n in range(footer.num_row_groups))
        if groups != shard.row_groups or sum(groups) != shard.rows:
            yield f"{shard.path}: found row groups of {groups} rows, expected {shard.row_groups}"
    expected = {shard.path for shard in manifest.shards} | {MANIFEST, QUERY}
    for extra in sorted({file.name for file in folder.iterdir()} - expected):
        yield f"{extra}: found a file that the manifest does not name"


def _of_content(store: DatasetStore, manifest: Manifest, settings: Settings) -> Iterator[str]:
    folder = store.path(manifest.dataset, manifest.version)
    columns = [Column(c.name, c.type) for c in manifest.columns]
    paths = [folder / shard.path for shard in manifest.shards]
    try:
        content_hash, rows = read_back(paths, columns, manifest.reference, settings)
    except (DatasetError, duckdb.Error) as fault:
        yield str(fault)
        return
    if rows != manifest.rows:
        yield f"found {rows} rows, expected {manifest.rows}"
    if content_hash != manifest.content_hash:
        yield f"found content {content_hash}, expected {manifest.content_hash}"
    splits: dict[str, int] = {}
    for shard in manifest.shards:
        splits[str(shard.split)] = splits.get(str(shard.split), 0) + shard.rows
    if splits != manifest.splits:
        yield f"found {splits} rows by split, expected {dict(manifest.splits)}"
