"""Snapshots: which one last changed a table, when it was made, and which may be expired.

What belongs here: questions about the lakehouse's history. What does not: who needs which snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from orchestration.lakehouse.attachment import LAKE

_UPKEEP = "['flushed_inlined', 'rewrite_delete', 'merge_adjacent']"
"""What a snapshot changed that maintenance made: files, and no row."""
_CATALOG = f"__ducklake_metadata_{LAKE}"


@dataclass(frozen=True)
class TableHistory:
    """Since when a table is there, and the newest snapshot that changed its rows or columns.

    ``changed_at`` is the oldest snapshot that is kept when none that is kept changed the table;
    ``created`` is None when the snapshot that made it has been expired.
    """

    uuid: str
    changed_at: int
    created: datetime | None


def table_histories(
    con: duckdb.DuckDBPyConnection, until: int | None = None
) -> Mapping[tuple[str, str], TableHistory]:
    """The history of every table in the lakehouse, by schema and name: as it is now, or as of a snapshot."""
    upto, at = "", "t.end_snapshot is null"
    if until is not None:
        upto = f"where snapshot_id <= {until}"
        at = f"t.begin_snapshot <= {until} and (t.end_snapshot is null or t.end_snapshot > {until})"
    rows = con.execute(f"""
        with snapshots as (select * from ducklake_snapshots('{LAKE}') {upto}),
        told as (
            select snapshot_id, unnest(flatten(map_values(changes))) as changed
            from snapshots where not list_has_any(map_keys(changes), {_UPKEEP})
        ),
        tables as (
            select s.schema_name, t.table_name, t.table_uuid::varchar as uuid, t.begin_snapshot,
                [t.table_id::varchar, s.schema_name || '.' || t.table_name] as names
            from {_CATALOG}.ducklake_table t join {_CATALOG}.ducklake_schema s using (schema_id)
            where {at}
        )
        select schema_name, table_name, any_value(uuid),
            greatest(max(told.snapshot_id), (select min(snapshot_id) from snapshots)),
            any_value(epoch_us(made.snapshot_time))
        from tables
        left join told on list_contains(tables.names, told.changed)
        left join snapshots as made on made.snapshot_id = tables.begin_snapshot
        group by all
    """).fetchall()
    return {
        (schema, name): TableHistory(uuid, int(changed_at), _instant(created))
        for schema, name, uuid, changed_at, created in rows
    }


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC)


def snapshot_time(con: duckdb.DuckDBPyConnection, snapshot: int) -> datetime | None:
    """When a snapshot was made; None when it has been expired, or never was."""
    rows = con.execute(
        f"select epoch_us(snapshot_time) from ducklake_snapshots('{LAKE}') where snapshot_id = {snapshot}"
    ).fetchall()
    return _instant(rows[0][0]) if rows else None


def snapshots_before(con: duckdb.DuckDBPyConnection, before: datetime) -> list[int]:
    """The snapshots made before an instant, but never the newest of all."""
    rows = con.execute(
        f"select snapshot_id from ducklake_snapshots('{LAKE}') "
        f"where snapshot_time < timestamptz '{before.isoformat()}' "
        f"and snapshot_id < (select max(snapshot_id) from ducklake_snapshots('{LAKE}')) order by snapshot_id"
    ).fetchall()
    return [int(snapshot) for (snapshot,) in rows]
