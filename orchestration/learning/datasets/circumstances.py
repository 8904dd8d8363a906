"""What a build is surrounded by: the repository, the engine, the locked dependencies, the checks.

What belongs here: looking these up. What does not: the data, and what is declared of it.
"""

import hashlib
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster import AssetRecordsFilter, DagsterEventType, EventLogEntry
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from orchestration.declarations import Partition
from orchestration.learning.datasets.manifest import CheckOutcome, DatasetError, Engine, Git, Window
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


class NotYetCheckedError(DatasetError):
    """Another run has built the training set anew and is about to check it."""


_RUNS_AT_ONCE = 20
"""So many runs at most check a training set side by side."""
_EVALUATED = frozenset({AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED})


def _last_evaluation(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, latest: AssetCheckExecutionRecord | None
) -> EventLogEntry | None:
    """The last evaluation of a check; one that a run only plans says nothing."""
    if latest is not None and latest.status not in _EVALUATED:
        found = instance.event_log_storage.get_asset_check_execution_history(key, 1, status=_EVALUATED)
        latest = found[0] if found else None
    return latest.event if latest is not None else None


def settled_check_outcomes(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    specs: Sequence[dg.AssetCheckSpec],
    run_id: str,
    timeout_seconds: float,
) -> list[CheckOutcome]:
    """``check_outcomes``, once another run that is building the asset has checked it.

    Raises:
        DatasetError: As ``check_outcomes``; the other run has ended, or took longer than the timeout.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return check_outcomes(instance, asset, specs, run_id)
        except NotYetCheckedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def check_outcomes(
    instance: dg.DagsterInstance, asset: dg.AssetKey, specs: Sequence[dg.AssetCheckSpec], run_id: str
) -> list[CheckOutcome]:
    """How the checks of an asset last came out, in name order; one never evaluated is left out.

    Raises:
        NotYetCheckedError: As below, but a run other than ``run_id`` that goes on has built it last.
        DatasetError: A blocking check failed, or was not evaluated since the asset was last materialized:
            what it guards must not become a version.
    """
    made = instance.get_latest_materialization_event(asset)
    if made is None:
        raise DatasetError(f"{asset.to_user_string()}: found no materialization, expected the training set")
    storage = instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key([spec.key for spec in specs])
    found, faults, is_stale = [], [], False
    for spec in sorted(specs, key=lambda s: s.name):
        event = _last_evaluation(instance, spec.key, latest.get(spec.key))
        if event is None or event.dagster_event_type != DagsterEventType.ASSET_CHECK_EVALUATION:
            if spec.blocking:
                faults.append(f"{spec.name}: not evaluated")
            continue
        evaluation = event.get_dagster_event().asset_check_evaluation_data
        if spec.blocking and not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            faults.append(f"{spec.name}: failed: {evaluation.description or ''}".rstrip(": "))
        elif spec.blocking and not (
            _is_of(evaluation, made.timestamp) or _passed_since(instance, spec.key, made.timestamp)
        ):
            faults.append(f"{spec.name}: not evaluated since the training set was last built")
            is_stale = True
        found.append(_outcome(spec, event.run_id, event.timestamp, evaluation))
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        builder = instance.get_run_by_id(made.run_id) if made.run_id != run_id else None
        is_soon = is_stale and builder is not None and not builder.is_finished
        raise (NotYetCheckedError if is_soon else DatasetError)(
            f"{asset.to_user_string()}: found blocking checks that do not vouch for it, expected all passed:"
            f"{lines}"
        )
    return found


def _is_of(evaluation: dg.AssetCheckEvaluation, built: float) -> bool:
    """Whether it is of what was built at an instant or later."""
    target = evaluation.target_materialization_data
    return target is not None and target.timestamp >= built


def _passed_since(instance: dg.DagsterInstance, key: dg.AssetCheckKey, built: float) -> bool:
    """Whether a check has passed for what was built then, before another run checked its older build."""
    records = instance.event_log_storage.get_asset_check_execution_history(
        key, _RUNS_AT_ONCE, status={AssetCheckExecutionRecordStatus.SUCCEEDED}
    )
    evaluations = (r.event.get_dagster_event().asset_check_evaluation_data for r in records if r.event)
    return any(_is_of(evaluation, built) for evaluation in evaluations)


def _outcome(
    spec: dg.AssetCheckSpec, run_id: str, timestamp: float, evaluation: dg.AssetCheckEvaluation
) -> CheckOutcome:
    severe = evaluation.severity == dg.AssetCheckSeverity.ERROR
    measured = evaluation.metadata.get("measured")
    value = None if measured is None else measured.value
    return CheckOutcome(
        name=spec.name,
        outcome="passed" if evaluation.passed else "failed" if severe else "warned",
        blocking=spec.blocking,
        evaluated_at=datetime.fromtimestamp(timestamp, UTC),
        run_id=run_id,
        description=evaluation.description or "",
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
