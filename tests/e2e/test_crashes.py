"""A run killed at any moment: readers see whole commits only, and the next run ends as if nothing was."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.lakehouse import LakehouseResource, content_hash
from tests.second_domain.deliveries import FIRST_DAY, deliver_readings
from tests.water_works import WaterWorks, make_water_works

pytestmark = pytest.mark.timeout(280)

LAYERS = ("raw", "quarantine", "staged", "features", "training")
FIRST, UPDATED = "2024-01-04", "2024-01-05"  # the newest partition of each run
LATE = "1901,alder,2024-01-02T23:30:00Z,5.55,open\n"


class Runner:
    """Runs of the graph in processes that may be killed."""

    def __init__(self, folder: Path) -> None:
        self.counter = folder / "commits"
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.crash_runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, works: WaterWorks, **request: Any) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {
            "last": UPDATED,
            **request,
            "environment": dict(works.environment),
            "counter": str(self.counter),
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            assert line, "the runner has died"
            if line.startswith('{"exit"'):
                answer: dict[str, float] = json.loads(line)
                return answer

    def finish(self, works: WaterWorks, last: str = UPDATED) -> None:
        log = works.settings.data_dir / "logs" / "run.log"
        assert self.run(works, last=last)["exit"] == 0, log.read_text()[-4000:] if log.exists() else "no log"


@pytest.fixture(scope="module")
def runner(tmp_path_factory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    runner.process.stdin.close()
    runner.process.wait(10)


def contents(works: WaterWorks) -> Mapping[str, str]:
    """The content hash of every table a reader can see."""
    with LakehouseResource.from_settings(works.settings).reader() as con:
        tables = con.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'lake'"
        ).fetchall()
        return {f"{s}.{t}": content_hash(con, s, t) for s, t in tables if s in LAYERS}


def verdicts(works: WaterWorks) -> Mapping[tuple[str, str], str]:
    """How every check of every table ended last, as Dagster's storage has it: PLANNED if it never did."""
    storage = works.settings.data_dir / "dagster" / "history" / "runs" / "index.db"
    with closing(sqlite3.connect(storage)) as con:
        rows = con.execute(
            "select asset_key, check_name, execution_status, max(id) from asset_check_executions group by 1, 2"
        ).fetchall()
    return {(asset, check): status for asset, check, status, _ in rows}


@pytest.fixture(scope="module")
def works(runner, tmp_path_factory) -> WaterWorks:
    """A finished first run, kept in a copy: the lakehouse knows its files by their absolute paths."""
    works = make_water_works(tmp_path_factory.mktemp("works") / "works", days=4, duckdb_threads=1)
    runner.finish(works, last=FIRST)
    shutil.copytree(works.root, works.root.with_name("kept"), symlinks=True)
    return works


def start_over(works: WaterWorks) -> None:
    """The first run is over; a new day's file has come since, and a late row in an older one."""
    shutil.rmtree(works.root)
    shutil.copytree(works.root.with_name("kept"), works.root, symlinks=True)
    deliver_readings(works.deliveries, FIRST_DAY + timedelta(days=4))
    deliver_readings(works.deliveries, FIRST_DAY + timedelta(days=1), extra=(LATE,))


@pytest.fixture(scope="module")
def undisturbed(runner, works) -> Mapping[str, Any]:
    """What every table holds before and after the update, and how many commits and seconds that takes."""
    start_over(works)
    old = contents(works)
    answer = runner.run(works)
    assert answer["exit"] == 0
    checked = verdicts(works)
    assert checked
    assert "PLANNED" not in checked.values()
    return {
        "old": old,
        "new": contents(works),
        "checked": checked,
        "commits": answer["commits"],
        "seconds": answer["seconds"],
    }


def check_that_only_whole_commits_are_seen(works: WaterWorks, undisturbed: Mapping[str, Any]) -> None:
    old, new = undisturbed["old"], undisturbed["new"]
    for table, digest in contents(works).items():
        assert digest in (old.get(table), new[table]), f"{table} is neither as before nor as after"


def check_that_the_next_run_makes_it_good(
    works: WaterWorks, runner: Runner, undisturbed: Mapping[str, Any]
) -> None:
    runner.finish(works)
    assert contents(works) == undisturbed["new"]
    assert verdicts(works) == undisturbed["checked"]


def test_the_update_changes_what_it_should(undisturbed):
    old, new = undisturbed["old"], undisturbed["new"]
    assert {t for t in new if old[t] != new[t]} >= {
        "raw.readings",
        "staged.stg_readings",
        "features.pump_pressure",
    }
    assert undisturbed["commits"] >= 5


@pytest.mark.parametrize("chapter", range(4))
def test_runs_killed_at_random_moments_are_made_good_by_the_next(runner, works, undisturbed, chapter):
    """Three times one run, then two in a row: the second finds what the first left, and is killed too."""
    dice = random.Random(chapter)
    for kills in (1, 1, 1, 2):
        start_over(works)
        for _ in range(kills):
            runner.run(works, kill_after=dice.uniform(0, undisturbed["seconds"]))
            check_that_only_whole_commits_are_seen(works, undisturbed)
        check_that_the_next_run_makes_it_good(works, runner, undisturbed)


@pytest.mark.parametrize("half", [0, 1])
def test_a_run_killed_at_each_commit_boundary_is_made_good_by_the_next(runner, works, undisturbed, half):
    last = undisturbed["commits"]
    boundaries = [(commit, True) for commit in range(1, last + 1)] + [(last, False)]
    for commit, before in boundaries[half::2]:
        start_over(works)
        assert runner.run(works, kill_at=commit, before=before)["exit"] == -9
        check_that_only_whole_commits_are_seen(works, undisturbed)
        check_that_the_next_run_makes_it_good(works, runner, undisturbed)
