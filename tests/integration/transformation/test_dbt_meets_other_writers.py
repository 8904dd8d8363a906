"""Another writer holds the catalog while dbt wants to commit."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from orchestration.settings import Settings
from tests.integration.transformation.tiny_platform import Platform, evaluations, failure, materializations

HOLD = """
import pathlib, sqlite3, sys, time
con = sqlite3.connect(sys.argv[1], isolation_level=None)
con.execute("begin immediate")
print("held", flush=True)
while not list(pathlib.Path(sys.argv[2]).glob(sys.argv[3])):
    time.sleep(0.05)
con.execute("rollback")
"""


@contextmanager
def held_until(platform: Platform, found: str) -> Iterator[None]:
    """The catalog's write lock in another process, until a file appears under ``data_dir``."""
    data_dir = platform.settings.data_dir
    arguments = [str(data_dir / "lake" / "catalog.sqlite"), str(data_dir), found]
    holder = subprocess.Popen([sys.executable, "-c", HOLD, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@pytest.fixture
def impatient(own_project: Platform) -> Platform:
    """SQLite itself waits 50 milliseconds instead of 30 seconds."""
    own_project.replace("profiles.yml", 'meta_busy_timeout: "30000"', 'meta_busy_timeout: "50"')
    own_project.execute("create schema if not exists staged")
    return own_project


def test_nodes_in_a_conflict_and_those_behind_them_run_again(impatient: Platform) -> None:
    with held_until(impatient, "dbt/runs/*/dbt_staged/run_results.json"):
        result = impatient.run(selection=dg.AssetSelection.groups("staged"))
    assert result.success
    assert {key: len(events) for key, events in materializations(result).items()} == {
        "staged/kinds": 1,
        "staged/stg_readings": 1,
        "staged/stg_sensors": 1,
    }
    assert len(evaluations(result)) == 4
    records = impatient.settings.data_dir / "dbt" / "runs" / result.run_id / "dbt_staged"
    assert (records / "run_results.attempt_2.json").is_file()


def test_a_conflict_that_outlasts_the_timeout_fails_the_run(impatient: Platform, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=impatient.settings.data_dir,
        dbt_project_dir=impatient.settings.dbt_project_dir,
        lake_lock_timeout_seconds=0.5,
    )
    with held_until(impatient, "never"):
        result = Platform(settings).run(selection=dg.AssetSelection.groups("staged"))
    assert not result.success
    assert materializations(result) == {}
    assert "database is locked" in failure(result)
