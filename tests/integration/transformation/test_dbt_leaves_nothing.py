"""An invocation of dbt ends clean: after success, failure, a closed stream and a killed run."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_DIR, Clock
from orchestration.transformation.translator import LayerTranslator
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


def write_from_another_process(platform: Platform) -> None:
    code = (
        "from orchestration.settings import Settings\n"
        "from orchestration.lakehouse import LakehouseResource\n"
        f"s = Settings(data_dir={str(platform.settings.data_dir)!r}, lake_lock_timeout_seconds=1)\n"
        "LakehouseResource.from_settings(s).write(lambda c: c.execute('create table raw.from_outside (i int)'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_DIR, timeout=60)


def test_invocations_leave_no_handle_thread_variable_file_or_lock(platform: Platform) -> None:
    dbt, files = platform.dbt, project_files(platform)
    dbt.cli(BUILD).wait()
    before = handles()
    for _ in range(2):
        dbt.cli(BUILD).wait()
    assert handles() == before
    assert project_files(platform) == files
    assert list(platform.settings.tmp_dir.glob("dbt-*")) == []
    write_from_another_process(platform)


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
        translator=LayerTranslator(endless.declarations, endless.settings, Clock()),
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


RUN_IN_A_PROCESS = """
import sys
from orchestration.settings import Settings
from tests.integration.transformation.tiny_platform import Platform
settings = Settings(data_dir=sys.argv[1], dbt_project_dir=sys.argv[2])
Platform(settings).run()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_terminated_run_rolls_back_and_cleans_up(endless: Platform, signum: signal.Signals) -> None:
    settings = endless.settings
    arguments = [str(settings.data_dir), str(settings.dbt_project_dir)]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_IN_A_PROCESS, *arguments],
        cwd=PROJECT_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "START sql table model staged.stg_sensors" in line:
                break
        time.sleep(0.5)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert "DagsterExecutionInterruptedError" in output
    assert list(settings.tmp_dir.glob("dbt-*")) == []
    assert [p for p in settings.dbt_project_dir.rglob("*") if p.name in ("target", "logs", ".user.yml")] == []
    assert endless.rows("select sensor from staged.stg_sensors") == [(7,)]
    endless.execute("create table raw.from_outside (i int)")
