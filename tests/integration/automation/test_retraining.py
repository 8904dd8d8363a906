"""Retraining in Dagster: triggers are looked at, a decision is written down, and its run trains once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.automation.retraining.evidence import Labels, Watched
from orchestration.automation.retraining.runs import DECISION_TAG, InstanceRuns
from orchestration.automation.retraining.sensors import Retrained, build_retraining, newest_partitions
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.assets import Ground, build_model_assets, model_key
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.settings import Clock, Settings
from tests.model_works import CODE, Rows, make_rows, make_spec

TABLE = "low_pressure_training_set"
MODEL = "low_pressure"
PERFORMANCE = (
    "model varchar, model_version varchar, window_start timestamptz, window_end timestamptz, slice varchar, "
    "metric varchar, realised double, realised_low double, realised_high double, expected double, "
    "rows bigint, labelled bigint"
)
DRIFT = (
    "model varchar, model_version varchar, window_start timestamptz, window_end timestamptz, "
    "column_name varchar, role varchar, rows bigint, importance double, alarm boolean"
)
RETRAIN = {
    "performance": {"loss": 0.05},
    "drift": {"alarms": 2, "of": 3, "importance": 0.2},
    "new_labels": {"share": 0.5},
    "age": "30 days",
    "cooldown": "1 day",
    "budget": {"trainings": 3, "per": "30 days"},
}


class Standing(Clock):
    """A clock that a test moves on."""

    def __init__(self, at: datetime) -> None:
        super().__init__(at)

    def move(self, **by: float) -> None:
        assert self._replay_at is not None
        self._replay_at += timedelta(**by)


@dataclass
class Works:
    """One model, its job and its sensor, on rows, definition and checks that a test changes."""

    settings: Settings
    lakehouse: LakehouseResource
    instance: dg.DagsterInstance
    clock: Standing = field(default_factory=lambda: Standing(datetime(2024, 3, 1, tzinfo=UTC)))
    dataset: Rows = field(default_factory=lambda: Rows(make_rows(), "d0"))
    definition: dict[str, str] = field(default_factory=lambda: {"features": "one"})
    changed: list[tuple[str, int]] = field(default_factory=list)
    holds: bool = True

    def __post_init__(self) -> None:
        self.spec: ModelSpec = make_spec(retrain=RETRAIN)
        self.registry = Registry(self.lakehouse, self.settings.models_dir, self.clock)
        self.log = DecisionLog(self.lakehouse, self.clock)
        self.put(self.dataset)
        self.definitions = self._definitions()

    def put(self, rows: Rows) -> None:
        """Make the rows the newest dataset version, and the training set of the lakehouse."""
        self.dataset = rows
        with self.lakehouse.get_connection() as con:
            con.execute("create schema if not exists lake.training")
            con.register("_rows", rows.table)
            con.execute(f"create or replace table lake.training.{TABLE} as select * from _rows")

    def _definitions(self) -> dg.Definitions:
        check = dg.AssetCheckKey(dg.AssetKey(["dataset", TABLE]), "whole")

        @dg.asset(key=["dataset", TABLE], check_specs=[dg.AssetCheckSpec("whole", asset=["dataset", TABLE])])
        def dataset() -> Iterator[Any]:
            yield dg.MaterializeResult()
            yield dg.AssetCheckResult(check_name="whole", passed=self.holds)

        ground = Ground(
            self.settings,
            self.clock,
            lambda name, version: self.dataset,
            lambda name: dg.AssetKey(["dataset", name]),
            lambda _: [check],
            lambda _: type(CODE)("c0ffee", False, "10cc", dict(self.definition)),
        )
        watched = Watched(
            MODEL,
            self.spec.declared.metric,
            self.spec.declared.retrain,
            Labels("training", TABLE, "label_known_at"),
            0.9,
            lambda _: self.definition,
            lambda con, learnt: self.changed,
        )
        retrained = Retrained(
            watched,
            self.spec.owner,
            [dg.AssetKey(["dataset", TABLE])],
            *(model_key(self.spec, part) for part in ("challenger", "evaluation", "champion")),
            lambda labels_until: None,
        )
        assets, jobs, sensors = build_retraining(
            [retrained], self.settings, self.clock, lambda instance, model: {"whole": self.holds}
        )
        return dg.Definitions(
            assets=[dataset, *build_model_assets({MODEL: self.spec}, ground), *assets],
            jobs=jobs,
            sensors=sensors,
            resources={"lakehouse": self.lakehouse},
        )

    def tick(self) -> dg.RunRequest | str:
        """One evaluation of the sensor: the run that it asks for, or why it asks for none."""
        sensor = self.definitions.get_repository_def().get_sensor_def(f"retrain_{MODEL}")
        with dg.build_sensor_context(self.instance, resources={"lakehouse": self.lakehouse}) as context:
            told = sensor.evaluate_tick(context)
        if told.run_requests:
            (request,) = told.run_requests
            return request
        return str(told.skip_message)

    def run(self, request: dg.RunRequest, **how: Any) -> dg.ExecuteInProcessResult:
        """The run that was asked for, as the daemon launches it."""
        job = self.definitions.resolve_job_def(f"retrain_{MODEL}")
        return job.execute_in_process(
            run_config=request.run_config, tags=dict(request.tags), instance=self.instance, **how
        )

    def fired(self) -> dg.RunRequest:
        told = self.tick()
        assert isinstance(told, dg.RunRequest), told
        return told

    def measured(self, table: str, columns: str, *rows: tuple[Any, ...]) -> None:
        with self.lakehouse.get_connection() as con:
            con.execute("create schema if not exists lake.monitoring")
            con.execute(f"create table if not exists lake.monitoring.{table} ({columns})")
            for row in rows:
                con.execute(f"insert into lake.monitoring.{table} values {row}")

    @property
    def champion(self) -> str:
        found = self.registry.champion(MODEL)
        assert found is not None
        return found.version


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    settings = Settings(data_dir=tmp_path / "data", duckdb_threads=1)
    with dg.DagsterInstance.ephemeral() as instance:
        made = Works(settings, LakehouseResource.from_settings(settings), instance)
        assert made.tick() == "no version serves yet"
        first = dg.RunRequest(run_config={}, tags={})
        assert made.run(first).success
        yield made


def more(rows: Rows, days: int, version: str) -> Rows:
    """The rows and so many days of new ones after them."""
    added = make_rows(days=60 + days, seed=1)
    later = added.slice(rows.table.num_rows) if added.num_rows > rows.table.num_rows else added
    return Rows(pa.concat_tables([rows.table, later]), version)


def test_a_trigger_fires_once_its_run_trains_and_tells(works: Works) -> None:
    before = works.champion
    assert works.tick() == "no trigger is in alarm"
    assert works.tick() == "no trigger is in alarm"
    assert [d.outcome for d in works.log.decisions(MODEL)] == ["quiet"]

    # The definition changes; but a check on what would be learnt from fails first.
    works.clock.move(days=2)
    works.definition = {"features": "other"}
    works.holds = False
    held = works.tick()
    assert isinstance(held, str)
    assert held.startswith("held back: whole do not hold; definition: changed since the champion was trained")
    works.holds = True
    request = works.fired()
    decision = works.log.decisions(MODEL)[-1]
    assert (decision.outcome, decision.triggers, decision.forced) == ("fired", ("definition",), "definition")
    assert request.run_key == decision.id

    # The daemon was killed before it launched the run: the very same one is asked for again.
    assert works.fired() == request
    result = works.run(request)
    assert result.success
    told = next(
        e.materialization.metadata
        for e in result.get_asset_materialization_events()
        if e.asset_key == dg.AssetKey(["retraining", MODEL])
    )
    assert told["triggers"].value == "definition"
    assert f"serves instead of {before}" in str(told["message"].value)
    assert works.champion != before
    assert works.registry.events(MODEL)[-1].run_id == result.run_id
    assert works.tick() == "no trigger is in alarm"
    assert [d.outcome for d in works.log.decisions(MODEL)] == ["quiet", "suppressed", "fired", "quiet"]


def test_evidence_comes_from_monitoring_labels_age_and_history(works: Works) -> None:
    works.holds = False  # Whatever is in alarm is held back: this is about evidence.
    now, champion = works.clock.now().isoformat(), works.champion

    def state(trigger: str) -> tuple[str, str]:
        works.tick()
        signal = next(s for s in works.log.decisions(MODEL)[-1].signals if s.trigger == trigger)
        return signal.state, signal.words

    assert {s.trigger: s.state for s in works.log.decisions(MODEL)[-1:] for s in s.signals} == {}
    assert state("performance") == ("unknown", "nothing was measured yet")
    window = (MODEL, champion, now, now)
    works.measured("performance", PERFORMANCE, (*window, "", "auc", 0.7, 0.65, 0.74, 0.8, 2000, 1900))
    assert state("performance")[1] == "worse than expected by 0.1000, by at least 0.0600; allowed are 0.05"
    assert works.log.decisions(MODEL)[-1].evidence == (
        f"monitoring.performance:{works.clock.now().isoformat()}",
    )
    works.clock.move(minutes=1)
    now = works.clock.now().isoformat()
    works.measured(
        "drift",
        DRIFT,
        *(
            (MODEL, champion, now, (works.clock.now() - timedelta(days=d)).isoformat(), column, "feature",
             5000, importance, alarm)
            for d, alarm in ((0, True), (1, False), (2, True), (3, True))
            for column, importance in (("demand", 0.15), ("pressure__mean", 0.3))
        ),
    )  # fmt: skip
    assert state("drift") == (
        "alarm", "2 of the last 3 evaluations found drift, lately of pressure__mean most",
    )  # fmt: skip
    works.changed = [("2024-01-03", 60)]
    assert state("restated") == ("alarm", "changed since d0: 2024-01-03")
    assert state("new_labels")[0] == "calm"
    works.put(more(works.dataset, 40, "d1"))
    works.clock.move(days=40)
    assert state("new_labels") == ("alarm", "2,400 rows are new, 67% of 3,600; 50% are enough")
    assert state("age") == ("alarm", "trained last 40.0 days ago; 30 days are allowed")


def test_a_training_that_fails_leaves_the_champion_and_is_tried_again_later(works: Works) -> None:
    champion, good = works.champion, works.dataset
    works.clock.move(days=31)
    works.put(more(good, 10, "d1"))
    request = works.fired()
    broken = Rows(works.dataset.table.slice(0, 500), "d2")
    works.dataset = broken
    assert not works.run(request, raise_on_error=False).success
    assert works.champion == champion
    held = works.tick()
    assert isinstance(held, str)
    assert held.startswith("held back: trained last on 2024-04-01 00:00, 1 day must pass; age: ")
    works.clock.move(days=1)
    works.dataset = more(good, 10, "d1")
    again = works.fired()
    assert again.run_key != request.run_key
    assert works.run(again).success
    assert works.tick() == "no trigger is in alarm"


def test_one_training_at_a_time_and_who_asks_by_hand_need_not_wait(works: Works) -> None:
    works.put(more(works.dataset, 5, "d1"))
    works.clock.move(days=5)
    asked = works.log.ask(MODEL, "ada", "A look at the new rows.")
    request = works.fired()
    going = works.instance.create_run_for_job(
        works.definitions.resolve_job_def(f"retrain_{MODEL}"), tags=dict(request.tags)
    )
    works.log.ask(MODEL, "bob", "Once more.")
    held = works.tick()
    assert isinstance(held, str)
    assert held.startswith(f"held back: run {going.run_id} is training; manual: bob: Once more.")
    works.instance.report_run_canceled(going)
    # Who asked sees that it was cancelled; the second request stands, whatever the cooldown says.
    second = works.fired()
    assert second.tags[DECISION_TAG] != request.tags[DECISION_TAG]
    assert asked.id not in works.log.decisions(MODEL)[-1].evidence
    assert works.run(second).success
    runs = InstanceRuns(works.instance, lambda *_: {"b": None, "a": False, "c": True})
    assert runs.trainings(MODEL, works.log.decisions(MODEL)).failed == {request.tags[DECISION_TAG]}
    assert runs.open_failures(MODEL) == ["a", "b"]


def test_two_sensors_cannot_both_fire(works: Works) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    works.definition = {"features": "other"}
    works.clock.move(days=2)
    works.put(more(works.dataset, 2, "d1"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: works.tick(), range(4)))
    assert [d.outcome for d in works.log.decisions(MODEL)].count("fired") == 1


def test_partitions_to_rebuild_reach_from_the_last_known_label_to_the_newest() -> None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    reached, zone = ["2024-01-01", "2024-01-02", "2024-01-03"], ZoneInfo("America/New_York")
    assert newest_partitions(datetime(2024, 1, 2, 4, tzinfo=UTC), reached, zone) == (
        "2024-01-01",
        "2024-01-03",
    )
    assert newest_partitions(datetime(2024, 1, 2, 6, tzinfo=UTC), reached, zone) == (
        "2024-01-02",
        "2024-01-03",
    )
    assert newest_partitions(datetime(2025, 1, 1, tzinfo=UTC), reached, zone) == ("2024-01-03", "2024-01-03")
    assert newest_partitions(datetime(2025, 1, 1, tzinfo=UTC), [], zone) is None
