"""Which partition a day asks for, and how old data may be, on either clock."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from orchestration.automation.freshness import (
    UPKEEP_LIMITS,
    Measurement,
    build_freshness_checks,
    judge,
    with_policy,
)
from orchestration.automation.jobs import build_jobs, reached_partitions
from orchestration.automation.schedules import Daily, build_schedules
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
from orchestration.ingestion import unwatched_assets
from orchestration.instance import open_instance
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


RAW = dg.AssetSpec(["raw", "t"], partitions_def=partitions_def(DAYS, REPLAY))


@dg.multi_asset(specs=[RAW])
def land() -> None: ...


DEFS = dg.Definitions(assets=[land], jobs=build_jobs([RAW.key]))


def daily_tick(declarations: Declarations, clock: Clock) -> Any:
    schedule: Any = next(s for s in build_schedules(declarations, Settings(), clock) if s.name == "daily")
    return schedule(dg.build_schedule_context(repository_def=DEFS.get_repository_def()))


def january(first: int, last: int) -> list[str]:
    return [f"2024-01-{day:02}" for day in range(first, last + 1)]


class History:
    """What has landed of the first 19 days of January, and what is asked for then."""

    def __init__(self, late_days: int = 0, landing: tuple[dg.AssetKey, ...] = (RAW.key,)) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self._daily = Daily(landing, [RAW.key], late_days)

    def land(self, days: list[str]) -> None:
        for day in days:
            self.instance.report_runless_asset_event(dg.AssetMaterialization(RAW.key, partition=day))

    def start(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
        """Let a request be a run in this state."""
        tags = dict(request.tags)
        if request.partition_key is not None:
            tags["dagster/partition"] = request.partition_key
        self.instance.create_run_for_job(DEFS.resolve_job_def("daily"), status=status, tags=tags)

    def asked(self) -> list[dg.RunRequest]:
        return list(self._daily.requests(self.instance, january(1, 19)))

    def days(self) -> list[str | None]:
        return [request.partition_key for request in self.asked()]


def test_dagster_takes_what_a_tick_asks_for(tmp_path: Path) -> None:
    daily, _ = build_schedules(declared(source("t", DAYS)), Settings(late_days=2), REPLAY, [RAW.key])
    defs = dg.Definitions(assets=[land], jobs=build_jobs([RAW.key]), schedules=[daily])
    with open_instance(Settings(data_dir=tmp_path)) as instance:
        for day in january(13, 19):
            instance.report_runless_asset_event(dg.AssetMaterialization(RAW.key, partition=day))
        repository = defs.get_repository_def()
        tick = repository.get_schedule_def("daily").evaluate_tick(
            dg.build_schedule_context(instance, repository_def=repository)
        )
    day, late = tick.run_requests or ()
    assert (day.run_key, day.tags["dagster/partition"]) == ("2024-01-19", "2024-01-19")
    assert late.run_key == "late: 2024-01-17 to 2024-01-18"


def test_days_that_nobody_asked_for_or_that_failed_are_asked_for_until_they_land() -> None:
    it = History()
    assert it.days() == january(13, 19)
    it.land([*january(10, 14), *january(16, 17)])
    assert it.days() == ["2024-01-15", "2024-01-18", "2024-01-19"]
    it.land(january(15, 19))
    assert it.days() == ["2024-01-19"]


def test_a_day_that_one_of_two_sources_lacks_is_asked_for() -> None:
    it = History(landing=(RAW.key, dg.AssetKey(["raw", "u"])))
    it.land(january(13, 19))
    assert it.days() == january(13, 19)


def test_what_is_under_way_is_not_asked_for_twice_and_what_failed_is() -> None:
    it = History(late_days=2)
    it.land(january(13, 17))
    asked = it.asked()
    assert [r.partition_key for r in asked] == ["2024-01-18", "2024-01-19", None]
    it.start(asked[0], dg.DagsterRunStatus.FAILURE)
    it.start(asked[1], dg.DagsterRunStatus.STARTED)
    it.start(asked[2], dg.DagsterRunStatus.STARTING)
    assert it.days() == ["2024-01-18"]
    it.start(asked[0], dg.DagsterRunStatus.NOT_STARTED)
    assert it.days() == []


def test_late_rows_are_looked_for_where_no_sensor_watches() -> None:
    it = History(late_days=3)
    it.land(january(13, 19))
    _, late = it.asked()
    assert (late.asset_selection, late.partition_key) == ([RAW.key], None)
    assert late.tags == {
        "dagster/asset_partition_range_start": "2024-01-16",
        "dagster/asset_partition_range_end": "2024-01-18",
    }


def test_only_what_can_gain_rows_unseen_is_looked_at_for_late_ones(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    uris = {
        "web": "https://h/x.csv",
        "file": "x.csv",
        "folder": f"{tmp_path}/drop",
        "package": "package://p/x.csv",
    }
    tables = [source(name, DAYS) for name in uris]
    tables = [
        replace(
            t,
            meta=t.meta.model_copy(update={"ingest": t.meta.ingest.model_copy(update={"uri": uris[t.name]})}),
        )
        for t in tables
        if t.meta.ingest is not None
    ]
    found = unwatched_assets(declared(*tables, source("reference", None)), Settings())
    assert [key.to_user_string() for key in found] == [
        "raw/file", "quarantine/file", "raw/web", "quarantine/web",
    ]  # fmt: skip


def test_recorded_history_ends_with_its_last_partition() -> None:
    assert reached_partitions(declared(source("t", DAYS)), Clock())[-1] == "2024-01-31"


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


OWN = Freshness(column="at", warn_after="6 hours", fail_after="2 days")


def test_only_declared_freshness_is_checked() -> None:
    tables = declared(source("a", DAYS, OWN), source("b", DAYS), source("c", None))
    (checks,) = build_freshness_checks(tables, REPLAY)
    (spec,) = checks.check_specs
    assert (spec.asset_key, spec.name) == (dg.AssetKey(["raw", "a"]), "freshness")
    assert spec.description == "The newest at is at most 6 hours old on the platform's clock."
    assert build_freshness_checks(declared(source("b", DAYS)), Clock()) == []


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
    result = judge(source("a", DAYS, OWN), OWN, Measurement(REPLAY.now() - age, age), REPLAY)
    assert (result.passed, result.severity.value) == (passed, severity)
    words = f"{age // timedelta(hours=1)} hours" if age < timedelta(days=1) else "3 days"
    assert result.description == f"{words} old on the replay clock, limit 6 hours"
    assert result.metadata["clock"].value == "replay"
    assert result.metadata["age_hours"].value == age.total_seconds() / 3600


def test_a_table_without_any_row_fails() -> None:
    result = judge(source("a", DAYS, OWN), OWN, Measurement(None, None), REPLAY)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.ERROR)
    warns = OWN.model_copy(update={"fail_after": None})
    result = judge(source("a", DAYS, warns), warns, Measurement(None, None), REPLAY)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert not result.metadata["evaluated"].value


Windows = tuple[timedelta | None, timedelta] | None


def windows(
    key: str, clock: Clock, partitions: dg.PartitionsDefinition[str] | None = None, **ages: timedelta | None
) -> Windows:
    """The policy's warn and fail windows of an asset; None without a policy."""
    tables = declared(source("a", DAYS, OWN), source("b", DAYS))
    spec = dg.AssetSpec(key.split("/"), partitions_def=partitions)
    keyed = {dg.AssetKey(["model", name]): age for name, age in ages.items()}
    policy = with_policy(spec, tables, clock, keyed).freshness_policy
    if policy is None:
        return None
    assert isinstance(policy, TimeWindowFreshnessPolicy)
    return policy.warn_window and policy.warn_window.to_timedelta(), policy.fail_window.to_timedelta()


def test_on_the_wall_clock_a_table_has_the_policy_that_it_declares_and_no_other() -> None:
    days = partitions_def(DAYS, REPLAY)
    assert windows("raw/a", Clock(), days) == (timedelta(hours=6), timedelta(days=2))
    assert windows("raw/b", Clock(), days) is None
    assert windows("quality/report", Clock()) is None
    assert windows("operations/upkeep", Clock()) == UPKEEP_LIMITS


def test_on_the_replay_clock_only_upkeep_has_a_policy() -> None:
    assert windows("raw/a", REPLAY) is None
    assert windows("quality/report", REPLAY) is None
    assert windows("operations/upkeep", REPLAY) == UPKEEP_LIMITS


def test_what_is_rebuilt_at_an_age_is_stale_after_it_and_what_is_not_never_is() -> None:
    assert windows("model/m", Clock(), m=timedelta(days=30)) == (timedelta(days=30), timedelta(days=60))
    assert windows("model/m", Clock(), m=None) is None
