"""An invocation of dbt ends clean: after success, failure, a closed stream and a killed run."""

import logging
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Clock, Settings
from orchestration.transformation.translator import LayerTranslator
from tests.forks import Forked
from tests.integration.transformation.tiny_platform import Platform

BUILD = ["build", "--exclude-resource-type", "unit_test"]


def handles() -> dict[str, Any]:
    """What a process could leak."""
    return {
        "files": sorted(
            os.readlink(link)
            for link in Path("/proc/self/fd").iterdir()
            if link.is_symlink()
            if (os.readlink(link).startswith("/") and "/dev/" not in os.readlink(link))
        ),
        "threads": {t.name for t in threading.enumerate()},
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "handlers": [h for name in ("file_log", "stdout_log") for h in logging.getLogger(name).handlers],
    }


def project_files(platform: Platform) -> set[Path]:
    return set(platform.settings.dbt_project_dir.rglob("*"))


def write_outside(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir, lake_lock_timeout_seconds=1)
    LakehouseResource.from_settings(settings).write(
        lambda con: con.execute("create table raw.from_outside (i int)")
    )


def write_from_another_process(platform: Platform, output: Path) -> None:
    writer = Forked(write_outside, platform.settings.data_dir, environment=os.environ, output=output)
    assert writer.end() == 0, writer.said


def test_invocations_leave_no_handle_thread_variable_file_or_lock(platform: Platform, tmp_path: Path) -> None:
    dbt, files = platform.dbt, project_files(platform)
    dbt.cli(BUILD).wait()
    before = handles()
    for _ in range(2):
        dbt.cli(BUILD).wait()
    assert handles() == before
    assert project_files(platform) == files
    assert list(platform.settings.tmp_dir.glob("dbt-*")) == []
    write_from_another_process(platform, tmp_path / "said")


def test_threads_of_one_process_take_turns(platform: Platform) -> None:
    with ThreadPoolExecutor(2) as pool:
        invocations = list(pool.map(lambda _: platform.dbt.cli(BUILD).wait(), range(2)))
    assert all(i.is_successful() for i in invocations)


def test_log_and_results_of_a_run_are_kept_and_the_oldest_forgotten(platform: Platform) -> None:
    runs = platform.settings.data_dir / "dbt" / "runs"
    for n in range(60):
        (runs / f"old_{n}").mkdir(parents=True)
        os.utime(runs / f"old_{n}", (n, n))
    run_id = platform.run().run_id
    kept = {p.name for p in runs.iterdir()}
    assert len(kept) == 50
    assert run_id in kept
    assert {"dbt.log", "run_results.json"} <= {p.name for p in (runs / run_id / "dbt_staged").iterdir()}
    assert "stg_readings" in (runs / run_id / "dbt_staged" / "dbt.log").read_text()


@pytest.fixture
def endless(own_project: Platform) -> Platform:
    """A platform whose second staged model never ends, and has a table from an earlier run."""
    own_project.execute("create schema staged", "create table staged.stg_sensors as select 7 as sensor")
    own_project.settings.dbt_project_dir.joinpath("models/staged/stg_sensors.sql").write_text(
        "-- depends_on: {{ ref('stg_readings') }}, {{ ref('kinds') }}\n"
        "select count(*)::integer as sensor, ''::varchar as label\n"
        "from range(10000000) as a (i) cross join range(10000000) as b (j)\n"
    )
    return own_project


def test_a_closed_stream_interrupts_the_query_and_rolls_it_back(endless: Platform) -> None:
    dbt = endless.dbt
    dbt.cli(["parse"]).wait()
    before = handles()
    stream = dbt.cli(
        ["run", "--select", "stg_readings", "stg_sensors"],
        manifest=endless.manifest,
        dagster_dbt_translator=LayerTranslator(endless.declarations, endless.settings, Clock()),
    ).stream()
    assert next(stream).asset_key.to_user_string() == "staged/stg_readings"
    time.sleep(1)
    assert "dbt" in {t.name for t in threading.enumerate()}
    started = time.monotonic()
    stream.close()
    assert time.monotonic() - started < 10
    assert handles() == before
    assert endless.rows("select sensor from staged.stg_sensors") == [(7,)]
    assert list(endless.settings.tmp_dir.glob("dbt-*")) == []
    dbt.cli(["run", "--select", "stg_readings"]).wait()


def run_a_day(data_dir: Path, dbt_project_dir: Path) -> None:
    Platform(Settings(data_dir=data_dir, dbt_project_dir=dbt_project_dir)).run()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_terminated_run_rolls_back_and_cleans_up(
    endless: Platform, tmp_path: Path, signum: signal.Signals
) -> None:
    settings = endless.settings
    folders = (settings.data_dir, settings.dbt_project_dir)
    process = Forked(run_a_day, *folders, environment=os.environ, output=tmp_path / "said")
    process.wait_for("START sql table model staged.stg_sensors")
    time.sleep(0.5)
    process.send(signum)
    process.end(30)
    assert "DagsterExecutionInterruptedError" in process.said
    assert list(settings.tmp_dir.glob("dbt-*")) == []
    assert [p for p in settings.dbt_project_dir.rglob("*") if p.name in ("target", "logs", ".user.yml")] == []
    assert endless.rows("select sensor from staged.stg_sensors") == [(7,)]
    endless.execute("create table raw.from_outside (i int)")
