"""Which partition a day asks for, and how old data may be, on either clock."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from orchestration.automation.freshness import (
    DAILY_LIMITS,
    REFERENCE_LIMITS,
    STANDSTILL,
    Measurement,
    freshness_policy,
    judge,
    limits_of,
    with_policy,
)
from orchestration.automation.jobs import build_jobs, reached_partitions
from orchestration.automation.schedules import build_schedules
from orchestration.declarations import (
    DeclarationError,
    Declarations,
    DeclaredColumn,
    Freshness,
    Ingest,
    Partition,
    Table,
    TableMeta,
)
from orchestration.partitions import partitions_def
from orchestration.settings import Clock, Settings

DAYS = Partition(frequency="daily", start=date(2024, 1, 1), end=date(2024, 2, 1), timezone="America/New_York")
REPLAY = Clock(datetime(2024, 1, 20, 5, tzinfo=UTC))  # midnight in New York


def source(name: str, partition: Partition | None, freshness: Freshness | None = None) -> Table:
    ingest = Ingest(
        uri="x.csv",
        format="csv",
        primary_key=("id",),
        event_time="at" if partition else None,
        partition=partition,
    )
    return Table(
        unique_id=f"source.p.raw.{name}",
        layer="raw",
        schema="raw",
        name=name,
        description="A source.",
        file="models/raw/sources.yml",
        columns=(
            DeclaredColumn("id", "bigint", "Key.", "internal"),
            DeclaredColumn("at", "timestamptz", "When.", "public"),
        ),
        tags=(),
        meta=TableMeta(owner="team:data", ingest=ingest, freshness=freshness),
        upstream=(),
    )


def declared(*tables: Table) -> Declarations:
    return Declarations({t.unique_id: t for t in tables})


def daily_tick(declarations: Declarations, clock: Clock) -> Any:
    asset = dg.AssetSpec(["raw", "t"], partitions_def=partitions_def(DAYS, clock))

    @dg.multi_asset(specs=[asset])
    def land() -> None: ...

    schedule = next(s for s in build_schedules(declarations, Settings(), clock) if s.name == "daily")
    defs = dg.Definitions(assets=[land], jobs=build_jobs([asset.key]), schedules=[schedule])
    context = dg.build_schedule_context(
        repository_def=defs.get_repository_def(), scheduled_execution_time=datetime(2026, 5, 5, 6, tzinfo=UTC)
    )
    return schedule(context)


def test_the_day_before_the_replay_clock_is_asked_for_once() -> None:
    request = daily_tick(declared(source("t", DAYS)), REPLAY)
    assert (request.partition_key, request.run_key) == ("2024-01-19", "2024-01-19")


def test_recorded_history_ends_with_its_last_partition() -> None:
    assert daily_tick(declared(source("t", DAYS)), Clock()).partition_key == "2024-01-31"


def test_a_clock_before_the_first_midnight_asks_for_nothing() -> None:
    skipped = daily_tick(declared(source("t", DAYS)), Clock(datetime(2024, 1, 1, 12, tzinfo=UTC)))
    assert isinstance(skipped, dg.SkipReason)
    assert "has passed no day" in str(skipped.skip_message)


def test_without_partitions_every_day_lands_everything() -> None:
    request = daily_tick(declared(source("t", None)), REPLAY)
    assert (request.partition_key, request.run_key) == (None, None)


def test_only_partitions_that_are_over_are_reached() -> None:
    reached = reached_partitions(declared(source("t", DAYS)), REPLAY)
    assert (reached[0], reached[-1], len(reached)) == ("2024-01-01", "2024-01-19", 19)


def test_sources_with_different_partitions_are_a_fault_that_names_both() -> None:
    other = Partition(frequency="daily", start=date(2023, 1, 1))
    with pytest.raises(DeclarationError) as error:
        reached_partitions(declared(source("a", DAYS), source("b", other)), REPLAY)
    assert "sources.a" in str(error.value)
    assert "sources.b" in str(error.value)


def test_limits_follow_from_the_declaration_or_from_the_partitions() -> None:
    own = Freshness(column="at", warn_after="6 hours", fail_after="2 days")
    tables = source("a", DAYS, own), source("b", DAYS), source("c", None)
    found = [limits_of(t, declared(*tables)) for t in tables]
    assert [(x.column, x.warn_after, x.fail_after) for x in found] == [
        ("at", timedelta(hours=6), timedelta(days=2)),
        ("at", *DAILY_LIMITS),
        (None, *REFERENCE_LIMITS),
    ]


@pytest.mark.parametrize(
    ("age", "passed", "severity"),
    [
        (timedelta(hours=5), True, "WARN"),
        (timedelta(hours=6), True, "WARN"),
        (timedelta(hours=7), False, "WARN"),
        (timedelta(days=3), False, "ERROR"),
    ],
)
def test_old_data_warns_and_then_fails(age: timedelta, passed: bool, severity: str) -> None:
    table = source("a", DAYS, Freshness(column="at", warn_after="6 hours", fail_after="2 days"))
    limits = limits_of(table, declared(table))
    result = judge(table, limits, Measurement(REPLAY.now() - age, age), REPLAY)
    assert (result.passed, result.severity.value) == (passed, severity)
    assert result.metadata["clock"].value == "replay"
    assert result.metadata["age_hours"].value == age.total_seconds() / 3600


def test_a_table_without_any_row_fails() -> None:
    table = source("a", DAYS)
    result = judge(table, limits_of(table, declared(table)), Measurement(None, None), REPLAY)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.ERROR)


def test_on_the_wall_clock_a_policy_uses_the_limits_and_on_the_replay_clock_nothing_ages() -> None:
    table = source("a", DAYS, Freshness(column="at", warn_after="6 hours", fail_after="2 days"))
    limits = limits_of(table, declared(table))
    wall, replay = freshness_policy(limits, Clock()), freshness_policy(limits, REPLAY)
    assert isinstance(wall, TimeWindowFreshnessPolicy)
    assert isinstance(replay, TimeWindowFreshnessPolicy)
    assert wall.warn_window is not None
    assert wall.warn_window.to_timedelta() == timedelta(hours=6)
    assert wall.fail_window.to_timedelta() == timedelta(days=2)
    assert replay.fail_window.to_timedelta() == STANDSTILL


def test_every_asset_gets_a_policy_and_upkeep_follows_the_wall_clock() -> None:
    tables = declared(source("a", DAYS))

    def window(*path: str) -> timedelta:
        policy = with_policy(dg.AssetSpec(list(path)), tables, REPLAY).freshness_policy
        assert isinstance(policy, TimeWindowFreshnessPolicy)
        return policy.fail_window.to_timedelta()

    assert window("raw", "a") == STANDSTILL
    assert window("quality", "report") == STANDSTILL
    assert window("operations", "upkeep") == REFERENCE_LIMITS[1]


def test_what_is_made_anew_at_an_age_is_stale_after_it() -> None:
    key, tables = dg.AssetKey(["model", "m_champion"]), declared(source("a", DAYS))
    windows = []
    for age in (timedelta(days=30), None):
        policy = with_policy(dg.AssetSpec(key), tables, Clock(), {key: age}).freshness_policy
        assert isinstance(policy, TimeWindowFreshnessPolicy)
        windows.append(
            (policy.warn_window and policy.warn_window.to_timedelta(), policy.fail_window.to_timedelta())
        )
    assert windows == [(timedelta(days=30), timedelta(days=60)), (None, STANDSTILL)]
