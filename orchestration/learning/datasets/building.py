"""Making a dataset version from a training set, once: the same data again is the same version.

What belongs here: from a table at a snapshot to files with a manifest. What does not: when it is made
(``assets``), and the lakehouse's own files.

Importing this module imports Arrow.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.content import content_of
from orchestration.lakehouse.snapshots import TableHistory, snapshot_time, table_histories
from orchestration.lakehouse.tables import Column, describe_table, relation
from orchestration.learning.datasets.circumstances import CUTOFF, engine_of, git_state, lock_hash
from orchestration.learning.datasets.manifest import (
    FORMAT,
    Build,
    CheckOutcome,
    DatasetError,
    Input,
    Lake,
    Manifest,
    ModelCode,
    Provenance,
    SchemaColumn,
    Shard,
    Window,
    version_of,
)
from orchestration.learning.datasets.recipe import SPLIT, Compile, Recipe, order_by
from orchestration.learning.datasets.store import MANIFEST, QUERY, DatasetStore, sync, write_synced
from orchestration.settings import PROJECT_DIR, Settings
from orchestration.sql import identifier, literal

_SORTED = "temp._dataset"


@dataclass(frozen=True)
class Told:
    """What only the caller of a build knows.

    ``cutoff`` is the instant up to which labels counted, ``variables`` those of the dbt project; ``window``
    gives the spans that were built since the instant at which the table was made.
    """

    run_id: str | None
    cutoff: datetime
    variables: Mapping[str, Any]
    checks: Sequence[CheckOutcome]
    window: Callable[[datetime | None], Window | None]
    compiled: Compile

    @property
    def all_variables(self) -> dict[str, Any]:
        """The project's variables, and the one of the run."""
        return {**self.variables, CUTOFF: self.cutoff.isoformat()}


class _Code:
    """The models of a build. dbt compiles them only if no earlier build of the same project tells."""

    def __init__(self, store: DatasetStore, recipe: Recipe, told: Told) -> None:
        self._recipe, self._told = recipe, told
        self._builds = store.builds(recipe.name)

    @cached_property
    def compiled(self) -> Mapping[str, str]:
        """The SQL of each."""
        return self._told.compiled(sorted(self._recipe.sources), self._told.cutoff)

    def models(self) -> Mapping[str, ModelCode]:
        """The hashes of each."""
        recipe, dbt = self._recipe, version("dbt-core")
        for build in reversed(self._builds):
            of = build.built
            if (
                (of.dbt_manifest_sha256, of.variables)
                == (recipe.dbt_manifest_sha256, self._told.all_variables)
                and of.engine.versions.get("dbt-core") == dbt
                and of.models.keys() == recipe.sources.keys()
            ):
                return of.models
        return recipe.models(self.compiled)


@dataclass(frozen=True)
class Built:
    """What became of a build; ``how`` is ``written``, ``same content`` or ``same snapshot``."""

    manifest: Manifest
    how: str
    path: Path


def build(
    store: DatasetStore,
    lakehouse: LakehouseResource,
    recipe: Recipe,
    told: Told,
    settings: Settings,
    snapshot: int | None = None,
) -> Built:
    """Make the version of a training set as it is in a snapshot, the newest if left out, or find it.

    A build that finds its version is recorded in the log of builds all the same. A version whose files
    are missing or of another size is written again.

    Raises:
        DatasetError: The training set has no row, no total order, or a type that Parquet cannot hold.
    """
    with store.writing(recipe.name), lakehouse.reader(snapshot=snapshot) as con:
        history = table_histories(con, until=snapshot).get((recipe.table.schema, recipe.table.name))
        if history is None:
            raise DatasetError(f"{recipe.name}: found no table in the lakehouse, expected the training set")
        columns = describe_table(con, recipe.table.schema, recipe.table.name)
        code = _Code(store, recipe, told)
        provenance = _provenance(con, recipe, told, code.models(), history, settings)
        known = _of_snapshot(store, recipe, provenance.lake, columns)
        if known is not None:
            return _found(store, known, provenance, "same snapshot")
        with store.scratch(recipe.name) as folder:
            write_synced(folder / QUERY, code.compiled[recipe.table.unique_id])
            manifest = _write(con, folder, recipe, columns, provenance, settings)
            if (same := _present(store, manifest)) is not None:
                return _found(store, same, provenance, "same content")
            store.publish(folder, manifest)
            return _found(store, manifest, provenance, "written")


def _found(store: DatasetStore, manifest: Manifest, provenance: Provenance, how: str) -> Built:
    path = store.path(manifest.dataset, manifest.version)
    digest = hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    build = Build(version=manifest.version, is_new=how == "written", manifest_sha256=digest, built=provenance)
    store.note(manifest.dataset, build)
    return Built(manifest, how, path)


def is_whole(store: DatasetStore, manifest: Manifest) -> bool:
    """Whether the files of a version are there, in the size they had; ``verify`` looks into them."""
    folder = store.path(manifest.dataset, manifest.version)
    files = {shard.path: shard.bytes for shard in manifest.shards}
    return (folder / QUERY).is_file() and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size for name, size in files.items()
    )


def _of_snapshot(
    store: DatasetStore, recipe: Recipe, lake: Lake, columns: Sequence[Column]
) -> Manifest | None:
    """The version that was made of the very snapshot, if it is still there."""
    for build in reversed(store.builds(recipe.name)):
        of = build.built.lake
        if (of.table_uuid, of.snapshot) != (lake.table_uuid, lake.snapshot):
            continue
        if build.version not in store.versions(recipe.name):
            continue
        manifest = store.manifest(recipe.name, build.version)
        same = manifest.order == recipe.order and manifest.columns == _schema(columns)
        return manifest if same and is_whole(store, manifest) else None
    return None


def _present(store: DatasetStore, manifest: Manifest) -> Manifest | None:
    """The version with this content, if it is there; a damaged one is removed."""
    if manifest.version not in store.versions(manifest.dataset):
        return None
    held = store.manifest(manifest.dataset, manifest.version)
    if (held.content_hash, held.columns) != (manifest.content_hash, manifest.columns):
        raise DatasetError(
            f"{manifest.reference}: found content {held.content_hash}, expected {manifest.content_hash}"
        )
    if is_whole(store, held):
        return held
    store.remove(manifest.dataset, manifest.version)
    return None


def _schema(columns: Sequence[Column]) -> tuple[SchemaColumn, ...]:
    return tuple(SchemaColumn(name=c.name, type=c.data_type) for c in columns)


def _provenance(
    con: duckdb.DuckDBPyConnection,
    recipe: Recipe,
    told: Told,
    models: Mapping[str, ModelCode],
    history: TableHistory,
    settings: Settings,
) -> Provenance:
    at = snapshot_time(con, history.changed_at)
    if at is None:
        raise DatasetError(f"{recipe.name}: snapshot {history.changed_at} has been expired meanwhile")
    histories = table_histories(con, until=history.changed_at)
    inputs = {
        ".".join(table): Input(changed_at=histories[table].changed_at, is_read=is_read)
        for table, is_read in sorted(recipe.inputs.items())
        if table in histories
    }
    return Provenance(
        built_at=datetime.now(UTC),
        run_id=told.run_id,
        git=git_state(settings.dbt_project_dir),
        project=recipe.project,
        dbt_manifest_sha256=recipe.dbt_manifest_sha256,
        variables=told.all_variables,
        cutoff=told.cutoff,
        models=models,
        declarations=recipe.declared,
        lake=Lake(snapshot=history.changed_at, snapshot_at=at, table_uuid=history.uuid, inputs=inputs),
        window=told.window(history.created),
        split=recipe.split,
        engine=engine_of(con),
        lock_sha256=lock_hash(PROJECT_DIR / "requirements.lock"),
        checks=tuple(told.checks),
    )


def _write(
    con: duckdb.DuckDBPyConnection,
    folder: Path,
    recipe: Recipe,
    columns: Sequence[Column],
    provenance: Provenance,
    settings: Settings,
) -> Manifest:
    """Write the shards, and say what was written: the content hash is of the files, read back."""
    table = relation(recipe.table.schema, recipe.table.name)
    con.execute(
        f"create or replace temp table {_SORTED} as "
        f"from {table} at (version => {provenance.lake.snapshot}) order by {order_by(recipe.order)}"
    )
    try:
        _check_key(con, recipe)
        splits = con.execute(
            f"select {identifier(SPLIT)}, min(rowid), count(*) from {_SORTED} group by all order by 2"
        ).fetchall()
        if not splits:
            raise DatasetError(f"{recipe.name}: found no row, expected a training set")
        shards: list[Shard] = []
        for split, first, rows in splits:
            for start in range(first, first + rows, settings.dataset_shard_rows):
                end = min(start + settings.dataset_shard_rows, first + rows)
                path = folder / f"part-{len(shards):05d}.parquet"
                con.execute(
                    f"copy (from {_SORTED} where rowid >= {start} and rowid < {end}) to {literal(str(path))} "
                    "(format parquet, compression zstd, preserve_order true, "
                    f"row_group_size {settings.dataset_row_group_rows})"
                )
                shards.append(_shard(path, split))
    finally:
        con.execute(f"drop table if exists {_SORTED}")
    content_hash, rows = read_back([folder / s.path for s in shards], columns, recipe.name, settings)
    if rows != sum(count for _, _, count in splits):
        raise DatasetError(f"{recipe.name}: found {rows} rows in its files, expected {splits}")
    schema = _schema(columns)
    return Manifest(
        format=FORMAT,
        dataset=recipe.name,
        version=version_of(content_hash, schema),
        content_hash=content_hash,
        columns=schema,
        rows=rows,
        bytes=sum(shard.bytes for shard in shards),
        key=recipe.key,
        order=recipe.order,
        splits={str(split): count for split, _, count in splits},
        shards=tuple(shards),
        query_sha256=hashlib.sha256((folder / QUERY).read_bytes()).hexdigest(),
        built=provenance,
    )


def _check_key(con: duckdb.DuckDBPyConnection, recipe: Recipe) -> None:
    """Without a key that tells every row apart, the rows would have no total order."""
    if not recipe.key:
        return
    names = [identifier(name) for name in recipe.key]
    told_apart = names[0] if len(names) == 1 else f"({', '.join(names)})"
    missing = " or ".join(f"{name} is null" for name in names)
    ((rows, different, nulls),) = con.execute(
        f"select count(*), count(distinct {told_apart}), count(*) filter (where {missing}) from {_SORTED}"
    ).fetchall()
    if nulls or rows != different:
        raise DatasetError(
            f"{recipe.name}: key {', '.join(recipe.key)}: found {different} values, and {nulls} rows "
            f"without any, in {rows} rows, expected another value in each"
        )


def _shard(path: Path, split: str | None) -> Shard:
    sync(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    footer = pq.read_metadata(path)
    return Shard(
        path=path.name,
        split=split,
        rows=footer.num_rows,
        bytes=path.stat().st_size,
        sha256=digest,
        row_groups=tuple(footer.row_group(n).num_rows for n in range(footer.num_row_groups)),
    )


def open_files(settings: Settings) -> duckdb.DuckDBPyConnection:
    """A DuckDB that reads files in their order, apart from any lakehouse; the caller closes it."""
    settings.tmp_dir.mkdir(parents=True, exist_ok=True)
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": settings.duckdb_memory_limit,
        "temp_directory": str(settings.tmp_dir),
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
    }
    if settings.duckdb_threads is not None:
        config["threads"] = settings.duckdb_threads
    con = duckdb.connect(config=config)
    con.execute("set timezone = 'UTC'")
    return con


def files_relation(paths: Sequence[Path]) -> str:
    """What follows ``from`` to read Parquet files, one after the other."""
    files = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{files}], hive_partitioning = false)"


def read_back(
    paths: Sequence[Path], columns: Sequence[Column], name: str, settings: Settings
) -> tuple[str, int]:
    """The content hash of files and the number of their rows.

    Raises:
        DatasetError: They hold another type than the column has.
    """
    files = files_relation(paths)
    with open_files(settings) as con:
        held = {row[0]: row[1] for row in con.execute(f"describe from {files}").fetchall()}
        for column in columns:
            if held.get(column.name) != column.data_type:
                raise DatasetError(
                    f"{name}: column {column.name}: found {held.get(column.name, 'nothing')} in Parquet, "
                    f"expected {column.data_type}; cast it in the model to a type that Parquet holds"
                )
        return content_of(con, files, columns)
