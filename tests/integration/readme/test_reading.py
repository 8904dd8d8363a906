"""README's Python, SQL and commands on the shipped project, as printed, over one day of it."""

import ast
import json
import shlex
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.server.access import read_callers
from orchestration.feature_store.views import build_catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.attachment import link_extensions
from orchestration.learning.datasets.building import Told, build
from orchestration.learning.datasets.recipe import read_recipe
from orchestration.learning.datasets.store import DatasetStore
from orchestration.project import read_project
from orchestration.serve_command import make_server
from orchestration.settings import Settings
from orchestration.transformation import compile_models
from tests.integration.dbt_project.recorded_days import PARSED
from tests.integration.readme.printed import samples
from tests.once import made_once
from tests.unit.feature_store.server.counter_of_a_shop import call

LAKE, FEATURES, DATASETS = (
    "Read the lake while runs write",
    "Features for training and serving",
    "Dataset versions",
)
NOW = datetime(2013, 7, 11, 4, tzinfo=UTC)
"""The midnight at which the recorded day ends."""


def make(folder: Path, day: Settings) -> None:
    """The recorded day's lakehouse, an hour older, with online values and a version of its training set."""
    settings = the_settings(folder, day)
    shutil.copytree(day.data_dir / PARSED, settings.data_dir / PARSED)
    settings.lake_dir.mkdir()
    catalog = shutil.copy(day.lake_dir / "catalog.sqlite", settings.lake_dir)
    with sqlite3.connect(catalog) as con:
        con.execute(
            "update ducklake_snapshot set snapshot_time = datetime(substr(snapshot_time, 1, 19), '-1 hour') || '+00'"
        )
    project = read_project(settings)
    lakehouse, store = LakehouseResource.from_settings(settings), LmdbStore(settings.online_dir)
    for name in ("origin_congestion", "carrier_punctuality"):
        materialize(lakehouse, store, build_catalog(project.declarations).view(name), NOW)
    store.close()
    (table,) = project.declarations.training_sets

    def compiled(unique_ids: Sequence[str], cutoff: datetime) -> Mapping[str, str]:
        variables = {"training_cutoff": cutoff.isoformat()}
        return compile_models(settings, project.manifest, unique_ids, variables)

    told = Told("run", NOW, project.variables, (), lambda since: None, compiled)
    recipe = read_recipe(project.declarations, project.manifest, table)
    build(DatasetStore(settings.datasets_dir), lakehouse, recipe, told, settings)


def the_settings(folder: Path, day: Settings) -> Settings:
    files = f"{day.lake_dir}/files"
    return Settings(data_dir=folder / "data", lake_data_path=files, clock="replay", replay_at=NOW)


@pytest.fixture(scope="module")
def settings(recorded_day, tmp_path_factory):
    day = recorded_day.settings
    return the_settings(made_once(tmp_path_factory, "readme", partial(make, day=day)), day)


@pytest.fixture(autouse=True)
def environment(settings, monkeypatch):
    """In which a reader would copy the samples."""
    monkeypatch.setenv("GROUNDWORK_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("GROUNDWORK_LAKE_DATA_PATH", settings.lake_data_path)
    monkeypatch.setenv("GROUNDWORK_CLOCK", "replay")
    monkeypatch.setenv("GROUNDWORK_REPLAY_AT", NOW.isoformat())


def shown(sample: str, names: dict[str, Any]) -> list[Any]:
    """Run a sample; gives the values of its lines that are expressions."""
    values = []
    for statement in ast.parse(sample).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(compile(ast.Expression(statement.value), "README.md", "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), "README.md", "exec"), names)
    return values


def test_python_reads_the_lake(capsys):
    (sample,) = samples(LAKE, "python")
    shown(sample, {})
    assert capsys.readouterr().out.count("JFK") == 5


def test_sql_reads_the_lake_and_its_past(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(settings.data_dir.parent)
    (sample,) = samples(LAKE, "sql")
    extensions = str(link_extensions(tmp_path / "extensions"))
    with duckdb.connect(config={"extension_directory": extensions}) as con:
        con.execute("load ducklake")
        _, origins, past = [
            con.execute(statement.query).fetchall() for statement in con.extract_statements(sample)
        ]
    assert {name for name, _ in origins} == {"EWR", "JFK", "LGA"}
    assert past == [(sum(count for _, count in origins),)]


def test_python_reads_features_as_they_were_and_as_they_are():
    (sample,) = samples(FEATURES, "python")
    were, are = shown(sample, {})
    assert were["late_share_3h"].notna().all()
    assert were["mean_arrival_delay_6h"].notna().all()
    assert all(value is not None for (value,) in are.values())


def test_the_server_is_asked(settings, tmp_path):
    (sample,) = [s for s in samples(FEATURES, "") if s.startswith("curl ")]
    (printed,) = [s for s in samples(FEATURES, "") if s.startswith("{")]
    arguments = shlex.split(sample)
    shop = SimpleNamespace(server=make_server(settings, tmp_path / "counters"))
    got = call(shop, "POST", arguments[6].removeprefix("http://127.0.0.1:6567"), arguments[8].encode())
    assert arguments[:6] == ["curl", "-s", "-X", "POST", "-H", "content-type: application/json"]
    answer = json.loads(got.body)
    assert printed.startswith(json.dumps({"metadata": answer["metadata"]}, separators=(",", ":"))[:-1])
    for line, result in zip(printed.splitlines()[1:], answer["results"], strict=True):
        assert f'"statuses":{json.dumps(result["statuses"], separators=(",", ":"))}' in line


def test_a_keys_file_of_roles(tmp_path):
    (sample,) = samples(FEATURES, "yaml")
    (tmp_path / "keys.yml").write_text(sample.replace("5b1c...", "5b1c" * 16))
    ((caller, _),) = read_callers(
        tmp_path / "keys.yml", ["origin_congestion", "origin_weather"], ["orders"], None
    ).values()
    assert (caller.name, caller.limit) == ("checkout", 500)


def test_dataset_versions_are_listed_shown_verified_and_rebuilt():
    (sample,) = samples(DATASETS, "")
    for line in sample.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "groundwork"
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output


def test_python_reads_a_dataset_version_whole_and_in_batches():
    names: dict[str, Any] = {}
    reads, loads = samples(DATASETS, "python")
    shown(reads, names)
    assert names["train"].column_names == ["is_late", "distance_mi"]
    assert names["train"].num_rows > 100
    shown(loads, names)
    assert names["batch"].num_rows > 0
