"""Runs of the command line beside readers and beside each other, in processes of their own."""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.instance import open_instance
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.registry import Registry
from orchestration.settings import Clock, Settings
from tests.forks import CONTEXT, Forked, groundwork
from tests.second_domain.deliveries import FIRST_DAY, deliver_readings
from tests.water_works import WaterWorks, make_water_works


def run(works: WaterWorks, name: str, *arguments: str) -> Forked:
    """``groundwork run`` in a process of its own."""
    return Forked(
        groundwork, "run", *arguments, environment=works.environment, output=works.root / f"{name}.log"
    )


@pytest.fixture(params=["sqlite", "postgres"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LakehouseResource]:
    catalog = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    lake = LakehouseResource.from_settings(
        Settings(data_dir=tmp_path / "data", lake_catalog_postgres=catalog)
    )
    with lake.get_connection() as con:
        con.execute("create schema lake.s")
        con.execute("create table lake.s.t as select range as id from range(1000)")
    return lake


def read_when_asked(settings: Settings, pipe: Any) -> None:
    lake = LakehouseResource.from_settings(settings)
    while pipe.recv():
        started = time.monotonic()
        with lake.reader() as con:
            count, total = con.execute("select count(*), sum(id) from s.t").fetchall()[0]
        pipe.send((count, total, time.monotonic() - started))


def test_a_reader_in_another_process_neither_waits_for_a_writer_nor_sees_half_of_its_work(
    lake: LakehouseResource,
) -> None:
    here, there = CONTEXT.Pipe()
    reader = CONTEXT.Process(target=read_when_asked, args=(lake.settings, there))
    reader.start()

    def read() -> tuple[int, int]:
        here.send(True)
        assert here.poll(60)
        count, total, seconds = here.recv()
        # A reader that waited would wait for lake_lock_timeout_seconds: a minute.
        assert seconds < 20
        return int(count), int(total)

    before, after = (1000, sum(range(1000))), (2000, sum(range(1000)) + 1000 * 7)
    assert read() == before
    with lake.transaction() as con:
        for _ in range(2):
            con.execute("insert into lake.s.t select 7 from range(500)")
            assert read() == before
    assert read() == after
    here.send(False)
    reader.join(20)
    assert reader.exitcode == 0


def test_two_runs_started_at_once_queue_and_both_succeed_and_another_has_nothing_to_do(
    tmp_path: Path, water_project: Path
) -> None:
    works = make_water_works(tmp_path, days=5, parsed=water_project)
    started = [run(works, name, "--force") for name in ("one", "other")]
    assert [process.end(250) for process in started] == [0, 0], "\n".join(p.said for p in started)
    with open_instance(works.settings) as instance:
        runs = instance.get_runs()
        assert [r.status for r in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
        spans = sorted(_writing(instance, [r.run_id for r in runs]))
    assert len(spans) == 2 * 6
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))

    script = str(Path(sys.executable).with_name("groundwork"))
    again = subprocess.run([script, "run"], env=works.environment, capture_output=True, text=True, check=True)
    assert "Up to date" in again.stdout
    assert "make ui" in again.stdout


def test_a_failed_blocking_check_stops_the_run_and_says_where_to_look(
    tmp_path: Path, water_project: Path
) -> None:
    works = make_water_works(tmp_path, days=1, parsed=water_project)
    deliver_readings(works.deliveries, FIRST_DAY, extra=("9001,willow,2024-01-01T05:00:00Z,4.00,open\n",))
    process = run(works, "first")
    assert process.end(100) == 1, process.said
    assert "look at: raw/readings > Checks >" in process.said
    assert "blocked by raw/readings: " in process.said
    assert "stg_readings" not in process.said
    again = run(works, "again")
    assert again.end(100) == 1
    assert "Up to date" not in again.said


def test_a_selection_of_an_unknown_group_is_refused_whatever_else_it_selects(
    tmp_path: Path, water_project: Path
) -> None:
    works = make_water_works(tmp_path, days=1, parsed=water_project)
    process = run(works, "select", "--select", "group:raw or group:online_store")
    assert process.end(100) != 0
    assert "found group online_store, expected one of " in process.said
    assert " raw, " in process.said


def test_a_run_that_withheld_a_promotion_says_so_and_is_not_up_to_date(
    tmp_path: Path, water_project: Path
) -> None:
    works = make_water_works(tmp_path, days=8, parsed=water_project, duckdb_threads=1)
    skew = dg.AssetKey(["monitoring", "low_pressure_skew"])
    with open_instance(works.settings) as instance:
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(skew, "no_skew", False, {}))
    first = run(works, "first")
    assert first.end(250) == 1, first.said
    reason = "low_pressure was not promoted: 1 failed: monitoring/low_pressure_skew:no_skew"
    assert " succeeded but withheld a promotion in " in first.said
    assert first.said.strip().splitlines()[-1] == f"Not up to date: {reason}. The next run tries again."
    # The run has evaluated the check, so the next one promotes.
    second = run(works, "second")
    assert second.end(250) == 0, second.said
    assert "Up to date" not in second.said
    registry = Registry(LakehouseResource.from_settings(works.settings), works.settings.models_dir, Clock())
    champion = registry.champion("low_pressure")
    assert champion is not None
    # Nor does a person promote by hand while a check fails.
    with open_instance(works.settings) as instance:
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(skew, "no_skew", False, {}))
    arguments = ("models", "promote", "low_pressure", champion.version, "--reason", "It is better.")
    by_hand = Forked(groundwork, *arguments, environment=works.environment, output=works.root / "by_hand.log")
    assert by_hand.end(100) == 1
    assert "do not hold: 1 failed: monitoring/low_pressure_skew:no_skew" in by_hand.said


def _writing(instance: dg.DagsterInstance, run_ids: list[str]) -> Iterator[tuple[float, float]]:
    """From when to when each step of the runs held the pool's slot."""
    for run_id in run_ids:
        for step in instance.get_run_step_stats(run_id):
            is_writer = step.step_key.startswith(("land_", "dbt_", "quality__"))
            if is_writer and step.start_time is not None and step.end_time is not None:
                yield step.start_time, step.end_time
