"""Whether what a dataset version was made from is still what it was, partition by partition.

What belongs here: comparing the rows that a version held at an instant with those of the training set now.
What does not: what follows from a difference.
"""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import duckdb

from orchestration.declarations import Table
from orchestration.lakehouse import describe_table
from orchestration.lakehouse.tables import relation
from orchestration.learning.datasets.manifest import DatasetError
from orchestration.learning.datasets.store import DatasetStore
from orchestration.sql import identifier, listing, literal


def restated_days(
    con: duckdb.DuckDBPyConnection,
    store: DatasetStore,
    table: Table,
    version: str,
    labels_until: datetime,
    columns: Sequence[str],
    timezone: ZoneInfo,
) -> list[tuple[str, int]] | None:
    """The days whose rows are no longer those of the version, with their rows now.

    Rows whose label became known later are no part of the comparison, nor are columns that one of the two
    lacks: those are another definition.

    Args:
        con: A connection to the lakehouse.
        store: Where versions are.
        table: The training set.
        version: The version.
        labels_until: The instant up to which its labels were known.
        columns: Those that count.
        timezone: Whose midnights part the days.

    Returns:
        Days in order, or None where the version or the training set is gone.
    """
    training_set = table.meta.training_set
    assert training_set is not None, f"{table.name} is no training set"
    try:
        manifest = store.resolve(table.name, version)
    except DatasetError:
        return None
    held = {c.name: c.data_type for c in describe_table(con, table.schema, table.name)}
    was = {c.name: c.type for c in manifest.columns}
    known, asked = training_set.label_known_at, training_set.prediction_time
    if not {known, asked} <= held.keys() & was.keys():
        return None
    shared = sorted(c for c in {*columns, known, asked} if held.get(c) == was.get(c) and c in held)
    files = [str(store.path(table.name, manifest.version) / shard.path) for shard in manifest.shards]
    day = f"timezone({literal(str(timezone))}, {identifier(asked)})::date"
    values = ", ".join(map(identifier, shared))

    def days(rows: str) -> str:
        # Sums of hashes: rows may come in any order.
        return (
            f"select {day} as day, count(*) as n, sum(hash({values})::hugeint) as digest from {rows} "
            f"where {identifier(known)} <= {literal(labels_until)} group by day"
        )

    parquet = f"read_parquet({listing(files)}, hive_partitioning = false)"
    found = con.execute(
        f"select coalesce(a.day, b.day)::varchar, coalesce(b.n, 0) from ({days(parquet)}) as a "
        f"full join ({days(relation(table.schema, table.name))}) as b using (day) "
        "where a.digest is distinct from b.digest or a.n is distinct from b.n order by 1"
    ).fetchall()
    return [(str(day), int(rows)) for day, rows in found]
