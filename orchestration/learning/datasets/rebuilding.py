"""Making a dataset version again from its manifest, to see that it comes out the same.

What belongs here: running the recorded SQL over the recorded snapshot, in a scratch place. What does not:
writing anything that stays.
"""

from contextlib import closing
from dataclasses import dataclass, field

import duckdb

from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.content import content_of
from orchestration.lakehouse.tables import Column
from orchestration.learning.datasets.building import files_relation
from orchestration.learning.datasets.circumstances import engine_of, window_filter
from orchestration.learning.datasets.comparing import Rows, compare_rows
from orchestration.learning.datasets.manifest import DatasetError, Manifest
from orchestration.learning.datasets.recipe import order_by
from orchestration.learning.datasets.store import QUERY, DatasetStore
from orchestration.learning.datasets.verifying import file_hash
from orchestration.sql import identifier

_REBUILT = "temp._rebuilt"


@dataclass(frozen=True)
class Rebuilt:
    """What came out; ``rows`` tells how it differs, ``engine`` what runs now that ran otherwise then."""

    equal: bool
    content_hash: str
    count: int
    snapshot: int
    rows: Rows = field(default_factory=Rows)
    engine: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)


def rebuild(store: DatasetStore, lakehouse: LakehouseResource, manifest: Manifest) -> Rebuilt:
    """Make a version again: its SQL, over its inputs as they were at its snapshot.

    Raises:
        DatasetError: The snapshot has been expired, the SQL is not the recorded one, or it cannot be run.
    """
    folder, lake = store.path(manifest.dataset, manifest.version), manifest.built.lake
    query_file = folder / QUERY
    if not query_file.is_file() or file_hash(query_file) != manifest.query_sha256:
        raise DatasetError(f"{query_file}: found another text, expected the SQL of {manifest.reference}")
    with closing(_open_at(lakehouse, manifest)) as con:
        columns = [Column(c.name, c.type) for c in manifest.columns]
        types = ", ".join(f"{identifier(c.name)} {c.data_type}" for c in columns)
        names = ", ".join(identifier(c.name) for c in columns)
        con.execute(f"create temp table {_REBUILT} ({types})")
        try:
            con.execute(
                f"insert into {_REBUILT} select {names} from (\n{query_file.read_text()}\n) "
                f"where {window_filter(manifest.built.window)}"
            )
        except duckdb.Error as error:
            raise DatasetError(
                f"{manifest.reference}: its SQL cannot be run at snapshot {lake.snapshot}: {error}"
            ) from error
        content_hash, count = content_of(
            con, f"(from {_REBUILT} order by {order_by(manifest.order)})", columns
        )
        engine = _engine_changes(con, manifest)
        if content_hash == manifest.content_hash:
            return Rebuilt(True, content_hash, count, lake.snapshot, engine=engine)
        files = files_relation([folder / shard.path for shard in manifest.shards])
        rows = compare_rows(con, files, _REBUILT, manifest.column_names, manifest.key)
        return Rebuilt(False, content_hash, count, lake.snapshot, rows, engine)


def _open_at(lakehouse: LakehouseResource, manifest: Manifest) -> duckdb.DuckDBPyConnection:
    snapshot = manifest.built.lake.snapshot
    try:
        return lakehouse.open(read_only=True, snapshot=snapshot)
    except duckdb.Error as error:
        if "snapshot" not in str(error).lower():
            raise
        raise DatasetError(
            f"{manifest.reference}: found no snapshot {snapshot} in the lakehouse, from which it was made on "
            f"{manifest.built.lake.snapshot_at:%Y-%m-%d}: it has been expired, or this is another lakehouse"
        ) from error


def _engine_changes(
    con: duckdb.DuckDBPyConnection, manifest: Manifest
) -> dict[str, tuple[str | None, str | None]]:
    then, now = manifest.built.engine.versions, engine_of(con).versions
    return {
        name: (then.get(name), now.get(name))
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    }
