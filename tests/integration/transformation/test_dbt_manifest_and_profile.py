"""When the project is parsed, and how dbt reaches the lakehouse with and without the platform."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_DIR, Settings
from orchestration.transformation import DbtParseError, dbt_environment, load_manifest
from orchestration.transformation.engine import Engine
from orchestration.transformation.invocation import DbtRunError
from orchestration.transformation.manifest import executable_manifest, project_args
from tests.integration.transformation.tiny_platform import Platform
from tests.integration.transformation.tiny_project import write_project

LOAD = """
import json, sys
from orchestration.settings import Clock, Settings
from orchestration.declarations import load_declarations
from orchestration.transformation import build_layer_assets, load_manifest
settings = Settings(data_dir=sys.argv[1], dbt_project_dir=sys.argv[2])
manifest = load_manifest(settings)
declarations = load_declarations(manifest)
layers = [build_layer_assets(l, declarations, manifest, settings, Clock()) for l in ("staged", "features")]
heavy = [m for m in ("dbt", "dagster_dbt", "sqlglot", "agate") if m in sys.modules]
print(json.dumps({"assets": sum(len(l.keys) for l in layers), "heavy": heavy}))
"""


def test_definitions_load_from_a_warm_cache_without_importing_dbt(platform: Platform) -> None:
    arguments = [str(platform.settings.data_dir), str(platform.settings.dbt_project_dir)]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], check=True, cwd=PROJECT_DIR, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == {"assets": 4, "heavy": []}


def test_a_changed_file_is_parsed_again_and_the_unchanged_are_not_touched(own_project: Platform) -> None:
    before = load_manifest(own_project.settings)
    cache = own_project.settings.data_dir / "dbt" / "manifest"
    cached = {p: p.stat().st_mtime_ns for p in cache.glob("manifest-*.json")}
    assert load_manifest(own_project.settings) == before
    assert {p: p.stat().st_mtime_ns for p in cache.glob("manifest-*.json")} == cached
    own_project.replace("models/staged/stg_readings.yml", "One row a reading.", "Each reading once.")
    after = load_manifest(own_project.settings)
    assert after["nodes"]["model.tiny.stg_readings"]["description"] == "Each reading once."
    assert len(list(cache.glob("manifest-*.json"))) == 2
    assert list(own_project.settings.tmp_dir.glob("dbt-*")) == []


def test_a_file_put_back_with_its_time_of_then_is_read_again(own_project: Platform) -> None:
    file, node = (
        own_project.settings.dbt_project_dir / "models/staged/stg_readings.yml",
        "model.tiny.stg_readings",
    )
    text, stat = file.read_text(), file.stat()
    said = []
    for description in ("One row a reading.", "Each reading once.", "One row a reading."):
        file.write_text(text.replace("One row a reading.", description))
        if description in text:
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        said.append(executable_manifest(own_project.settings).nodes[node].description)
    assert said == ["One row a reading.", "Each reading once.", "One row a reading."]


def test_a_project_that_cannot_be_parsed_says_why(own_project: Platform, tmp_path: Path) -> None:
    own_project.replace("models/staged/stg_sensors.sql", "ref('kinds')", "ref('sorts')")
    with pytest.raises(DbtParseError, match=r"stg_sensors.*depends on a node named 'sorts'"):
        load_manifest(own_project.settings)
    with pytest.raises(DbtParseError, match=r"no dbt_project\.yml"):
        load_manifest(Settings(dbt_project_dir=tmp_path / "nowhere", data_dir=tmp_path / "data"))


def test_unit_tests_run_when_asked_for(platform: Platform) -> None:
    invocation = platform.dbt.cli(["build", "--select", "kinds", "stg_readings", "stg_sensors"]).wait()
    ran = {r["unique_id"] for r in invocation.get_artifact("run_results.json")["results"]}
    assert "unit_test.tiny.stg_sensors.labels_come_from_the_seed" in ran


def test_an_unknown_target_raises(platform: Platform, tmp_path: Path) -> None:
    environment = {**dbt_environment(platform.settings), "GROUNDWORK_DBT_TARGET": "nonesuch"}
    with Engine(
        ["--log-level", "none", "parse", *project_args(platform.settings, tmp_path)], environment
    ) as engine:
        assert list(engine.events())
    assert not engine.succeeded
    assert "does not have a target named 'nonesuch'" in str(engine.error)


def test_the_password_of_a_catalog_stays_out_of_messages_and_logs(platform: Platform) -> None:
    settings = Settings(
        dbt_project_dir=platform.settings.dbt_project_dir,
        data_dir=platform.settings.data_dir,
        lake_catalog_postgres="host=127.0.0.1 port=9 password=hunter2",
        lake_lock_timeout_seconds=0.1,
    )
    invocation = Platform(settings).dbt.cli(["run", "--select", "stg_readings"])
    with pytest.raises(DbtRunError) as raised:
        invocation.wait()
    assert "hunter2" not in str(raised.value)
    assert "*****" in str(raised.value)
    assert "hunter2" not in (invocation.target_path / "dbt.log").read_text()


def test_a_bare_dbt_build_reaches_the_same_lakehouse(platform: Platform, tmp_path: Path) -> None:
    """As a developer runs it: in the project's folder, the lakehouse beside it under ``data``."""
    project = write_project(tmp_path / "project")
    shutil.rmtree(tmp_path / "data" / "dbt")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GROUNDWORK", "DBT"))}
    subprocess.run(
        [Path(sys.executable).with_name("dbt"), "build", "--select", "kinds", "stg_sensors", "stg_readings"],
        cwd=project,
        env={
            **environment,
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_TARGET_PATH": str(tmp_path / "target"),
        },
        check=True,
        capture_output=True,
    )
    assert platform.rows("select label from staged.stg_sensors order by sensor") == [("heat",), ("damp",)]
