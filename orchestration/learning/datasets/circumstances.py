"""What a build is surrounded by: the repository, the engine, the locked dependencies, the checks.

What belongs here: looking these up. What does not: the data, and what is declared of it.
"""

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster import AssetRecordsFilter, DagsterEventType

from orchestration.dagster_ext.check_state import Result
from orchestration.declarations import Partition
from orchestration.learning.datasets.manifest import CheckOutcome, Engine, Git, Window
from orchestration.partitions import day_window
from orchestration.sql import identifier, literal

CUTOFF = "training_cutoff"
"""The dbt variable, and the metadata key of a materialization, of the instant up to which labels count."""
_PACKAGES = ("groundwork", "duckdb", "duckdb-extension-ducklake", "pyarrow", "dbt-core", "dbt-duckdb",
             "dagster", "soda-core")  # fmt: skip
_SETTINGS = ("threads", "memory_limit", "TimeZone", "default_order", "default_null_order")


def git_state(folder: Path) -> Git | None:
    """The commit of the repository a folder is in; None without a repository, a commit or git itself."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    if commit is None or changes is None:
        return None
    return Git(commit=commit.strip(), dirty=bool(changes.strip()))


def engine_of(con: duckdb.DuckDBPyConnection) -> Engine:
    """Versions of what a build runs on, and the settings of its connection."""
    versions = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    asked = ", ".join(f"current_setting('{name}')::varchar" for name in _SETTINGS)
    (values,) = con.execute(f"select {asked}").fetchall()
    return Engine(versions=versions, settings=dict(zip(_SETTINGS, values, strict=True)))


def lock_hash(file: Path) -> str | None:
    """The SHA-256 of the locked dependencies; None when there is no such file."""
    if not file.is_file():
        return None
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_outcomes(
    results: Mapping[dg.AssetCheckKey, Sequence[Result]], specs: Sequence[dg.AssetCheckSpec]
) -> list[CheckOutcome]:
    """The last outcome of each check, by name, without checks that were never evaluated."""
    return [
        _outcome(spec, results[spec.key][0])
        for spec in sorted(specs, key=lambda spec: spec.name)
        if results.get(spec.key)
    ]


def _outcome(spec: dg.AssetCheckSpec, result: Result) -> CheckOutcome:
    measured = result.evaluation.metadata.get("measured")
    value = None if measured is None else measured.value
    return CheckOutcome(
        name=spec.name,
        outcome=result.status.value,
        blocking=spec.blocking,
        evaluated_at=result.at,
        run_id=result.run_id,
        description=result.evaluation.description or "",
        measured=float(value) if isinstance(value, int | float) else None,
    )


def cutoff_of(instance: dg.DagsterInstance, asset: dg.AssetKey) -> datetime | None:
    """Up to which instant labels counted when an asset was last materialized; None when it does not say."""
    made = instance.get_latest_materialization_event(asset)
    materialization = made.asset_materialization if made is not None else None
    value: Any = materialization.metadata.get(CUTOFF) if materialization is not None else None
    return None if value is None else datetime.fromisoformat(str(value.value))


def built_window(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    partition: Partition | None,
    column: str | None,
    since: datetime | None,
) -> Window | None:
    """The spans of time whose rows were built since a table was made; None when all of history was.

    Args:
        instance: Where materializations are recorded.
        asset: The training set's.
        partition: How it is partitioned.
        column: Of which instant of a row the partitions are.
        since: When the table was made; None counts every materialization.
    """
    if partition is None or column is None:
        return None
    after = None
    if since is not None:
        first = instance.fetch_materializations(
            AssetRecordsFilter(asset, after_timestamp=since.timestamp()), limit=1, ascending=True
        ).records
        if not first:
            return None
        after = first[0].storage_id - 1
    days: Mapping[str, int] = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, DagsterEventType.ASSET_MATERIALIZATION, after_cursor=after
    )
    spans: list[tuple[datetime, datetime]] = []
    for day in sorted(days):
        span = day_window(partition, date.fromisoformat(day))
        if spans and spans[-1][1] == span.start:
            spans[-1] = (spans[-1][0], span.end)
        else:
            spans.append((span.start, span.end))
    return Window(column=column, spans=tuple(spans)) if spans else None


def window_filter(window: Window | None) -> str:
    """The SQL condition that a row was built."""
    if window is None:
        return "true"
    name = identifier(window.column)
    return " or ".join(
        f"({name} >= {literal(start)} and {name} < {literal(end)})" for start, end in window.spans
    )
