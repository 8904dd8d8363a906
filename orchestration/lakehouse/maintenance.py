"""Upkeep of the lakehouse: fewer, fuller files, and none that no snapshot needs.

What belongs here: compaction, expiry of old snapshots, and removal of files. What does not: when it
runs. No row changes: every table reads the same before and after, at every snapshot that is kept.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from orchestration.lakehouse.attachment import LAKE
from orchestration.lakehouse.inlined import InlinedRows, flush_inlined_rows
from orchestration.lakehouse.resource import LakehouseResource, retry_on_conflict
from orchestration.lakehouse.snapshots import snapshots_before

SAFE_AGE = timedelta(days=1)
"""A file is removed only when it has been unneeded this long: no query that may read it and no
transaction that may commit it can still be open."""
REWRITE_THRESHOLD = 0.25
"""A data file is rewritten when more than this share of its rows has been deleted."""

_CATALOG = f"__ducklake_metadata_{LAKE}"


@dataclass(frozen=True)
class Usage:
    """What the lakehouse stores.

    ``live_*`` is what the newest snapshot reads; ``stored_*`` adds files that older snapshots need
    and files that wait for removal (their bytes are not recorded, so only their number counts).
    """

    snapshots: int
    live_files: int
    live_bytes: int
    stored_files: int
    stored_bytes: int


@dataclass(frozen=True)
class Upkeep:
    """What one round of maintenance did."""

    before: Usage
    after: Usage
    files_compacted: int
    snapshots_expired: int
    snapshots_held: int
    files_removed: int
    orphans_removed: int
    rows_inlined: int
    inlined: tuple[InlinedRows, ...] = ()
    """Those of ``rows_inlined`` rows that stay in the catalog."""

    def as_metadata(self) -> dict[str, int]:
        """Flat numbers: ``before_live_files``, ``after_live_files``, ``files_compacted`` ..."""
        flat = {k: v for k, v in asdict(self).items() if isinstance(v, int)}
        for moment in ("before", "after"):
            flat |= {f"{moment}_{k}": v for k, v in asdict(getattr(self, moment)).items()}
        return flat


def usage(con: duckdb.DuckDBPyConnection) -> Usage:
    """What the lakehouse stores now."""

    def one(query: str) -> tuple[int, ...]:
        return tuple(int(value) for value in con.execute(query).fetchall()[0])

    (snapshots,) = one(f"select count(*) from ducklake_snapshots('{LAKE}')")
    live = one(
        "select coalesce(sum(file_count + delete_file_count), 0), "
        f"coalesce(sum(file_size_bytes + delete_file_size_bytes), 0) from ducklake_table_info('{LAKE}')"
    )
    stored = one(
        "select count(*), coalesce(sum(file_size_bytes), 0) from ("
        f"select file_size_bytes from {_CATALOG}.ducklake_data_file union all "
        f"select file_size_bytes from {_CATALOG}.ducklake_delete_file)"
    )
    (waiting,) = one(f"select count(*) from {_CATALOG}.ducklake_files_scheduled_for_deletion")
    return Usage(snapshots, live[0], live[1], stored[0] + waiting, stored[1])


def maintain(
    lakehouse: LakehouseResource,
    *,
    retention: timedelta,
    safe_age: timedelta = SAFE_AGE,
    keep: Collection[int] = (),
) -> Upkeep:
    """Compact every table, expire snapshots older than ``retention``, remove unneeded files.

    Readers go on undisturbed: files they may still read are kept for ``safe_age``. Each step is a
    transaction of its own, tried again while another writer is in the way.

    Args:
        lakehouse: Where.
        retention: How long a snapshot stays readable; the newest always does.
        safe_age: How long an unneeded or orphaned file is kept.
        keep: Snapshots that stay readable however old they are.

    Raises:
        duckdb.Error: A step failed; those before it are done and the next round goes on from there.
    """

    def ago(age: timedelta) -> datetime:
        return datetime.now(UTC) - age

    with lakehouse.get_connection() as con:

        def call(statement: str, *values: object) -> list[tuple[object, ...]]:
            return retry_on_conflict(
                lambda: con.execute(statement, list(values)).fetchall(),
                lakehouse.settings.lake_lock_timeout_seconds,
            )

        before = usage(con)
        inlined = retry_on_conflict(
            lambda: flush_inlined_rows(con), lakehouse.settings.lake_lock_timeout_seconds
        )
        compacted = [
            *call(f"call ducklake_rewrite_data_files('{LAKE}', delete_threshold => {REWRITE_THRESHOLD})"),
            *call(f"call ducklake_merge_adjacent_files('{LAKE}')"),
        ]
        old = snapshots_before(con, ago(retention))
        expired = [snapshot for snapshot in old if snapshot not in keep]
        if expired:
            call(f"call ducklake_expire_snapshots('{LAKE}', versions => {expired})")
        removed = call(f"call ducklake_cleanup_old_files('{LAKE}', older_than => ?)", ago(safe_age))
        orphans = call(f"call ducklake_delete_orphaned_files('{LAKE}', older_than => ?)", ago(safe_age))
        return Upkeep(
            before=before,
            after=usage(con),
            files_compacted=sum(int(str(row[2])) for row in compacted),
            snapshots_expired=len(expired),
            snapshots_held=len(old) - len(expired),
            files_removed=len(removed),
            orphans_removed=len(orphans),
            rows_inlined=sum(rows.rows for rows in inlined),
            inlined=tuple(inlined),
        )
