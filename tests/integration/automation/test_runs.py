"""Runs of the command line beside readers and beside each other, in processes of their own."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from orchestration.instance import open_instance
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings
from tests.second_domain.deliveries import FIRST_DAY, deliver_readings
from tests.water_works import WaterWorks, make_water_works

GROUNDWORK = str(Path(sys.executable).with_name("groundwork"))


def run(works: WaterWorks, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [GROUNDWORK, "run", *arguments], env=dict(works.environment), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


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


READER = """
import sys, time
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings
lake = LakehouseResource.from_settings(Settings())
for _ in sys.stdin:
    started = time.monotonic()
    with lake.reader() as con:
        count, total = con.execute("select count(*), sum(id) from s.t").fetchall()[0]
    print(count, total, time.monotonic() - started, flush=True)
"""


def test_a_reader_in_another_process_neither_waits_for_a_writer_nor_sees_half_of_its_work(
    lake: LakehouseResource,
) -> None:
    secret = lake.settings.lake_catalog_postgres
    environment = {"GROUNDWORK_DATA_DIR": str(lake.settings.data_dir)}
    if secret is not None:
        environment["GROUNDWORK_LAKE_CATALOG_POSTGRES"] = secret.get_secret_value()
    reader = subprocess.Popen(
        [sys.executable, "-c", READER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdin is not None
    assert reader.stdout is not None

    def read() -> tuple[int, int]:
        reader.stdin.write("\n")  # type: ignore[union-attr]
        reader.stdin.flush()  # type: ignore[union-attr]
        count, total, seconds = reader.stdout.readline().split()  # type: ignore[union-attr]
        # A reader that waited would wait for lake_lock_timeout_seconds: a minute.
        assert float(seconds) < 20
        return int(count), int(total)

    before, after = (1000, sum(range(1000))), (2000, sum(range(1000)) + 1000 * 7)
    try:
        assert read() == before
        with lake.transaction() as con:
            for _ in range(2):
                con.execute("insert into lake.s.t select 7 from range(500)")
                assert read() == before
        assert read() == after
    finally:
        reader.stdin.close()
        reader.wait(20)


def test_two_runs_started_at_once_queue_and_both_succeed_and_another_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    works = make_water_works(tmp_path, days=5)
    started = [run(works, "--force") for _ in range(2)]
    outputs = [process.communicate(timeout=250)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    with open_instance(works.settings) as instance:
        runs = instance.get_runs()
        assert [r.status for r in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
        spans = sorted(_writing(instance, [r.run_id for r in runs]))
    assert len(spans) == 2 * 6
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))

    again = run(works)
    output = again.communicate(timeout=100)[0]
    assert again.returncode == 0
    assert "Up to date" in output
    assert "make ui" in output


def test_a_failed_blocking_check_stops_the_run_and_says_where_to_look(tmp_path: Path) -> None:
    works = make_water_works(tmp_path, days=1)
    deliver_readings(works.deliveries, FIRST_DAY, extra=("9001,willow,2024-01-01T05:00:00Z,4.00,open\n",))
    process = run(works)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 1, output
    assert "look at: raw/readings > Checks >" in output
    assert "blocked by raw/readings: " in output
    assert "stg_readings" not in output
    again = run(works)
    assert "Up to date" not in again.communicate(timeout=100)[0]
    assert again.returncode == 1


def _writing(instance: dg.DagsterInstance, run_ids: list[str]) -> Iterator[tuple[float, float]]:
    """From when to when each step of the runs held the pool's slot."""
    for run_id in run_ids:
        for step in instance.get_run_step_stats(run_id):
            is_writer = step.step_key.startswith(("land_", "dbt_", "quality__"))
            if is_writer and step.start_time is not None and step.end_time is not None:
                yield step.start_time, step.end_time
