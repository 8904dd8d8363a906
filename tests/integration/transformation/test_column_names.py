"""Columns of any name in each strategy: keywords, spaces, apostrophes, and names whose case changes."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.transformation.changing_models import Model, Outcome, Project

NAMES = {"k": "order", "at_": "Known When", "v": "group", "w": "it's"}
TYPES = {"k": "integer", "at_": "timestamptz", "v": "integer", "w": "varchar"}
CONFIGS: dict[str, dict[str, Any]] = {
    "window": {"unique_key": "k"},
    "days": {"unique_key": ["k", "at_"], "window_column": "at_"},
    "matching": {"unique_key": "k", "null_keys": "match"},
    "history": {"incremental_strategy": "history", "unique_key": ["k", "at_"]},
    "table": {"materialized": "table", "unique_key": "k"},
    "view": {
        "unique_key": ["k"],
        "meta": {
            "owner": "team:operators",
            "feature_view": {"entity": ["k"], "timestamp": "at_", "ttl": "1 day"},
        },
    },
}
DAY = {"partition_start": "2024-01-01T00:00:00+00:00", "partition_end": "2024-01-02T00:00:00+00:00"}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def _model(name: str, config: dict[str, Any], names: dict[str, str], key: str, value: int) -> Model:
    at = "timestamptz '2024-01-01 05:00:00+00'"
    values = dict(zip(TYPES, (key, at, str(value), "'x'"), strict=True))
    columns = ", ".join(f'cast({values[c]} as {TYPES[c]}) as "{n}"' for c, n in names.items())
    return Model(name, f"select {columns}", {n: TYPES[c] for c, n in names.items()}, _renamed(config, names))


class Quoted(Project):
    """A project whose YAML quotes each column, as dbt needs for such names."""

    def write(self, *models: Model) -> None:
        super().write(*models)
        for path in (self.settings.dbt_project_dir / "models").rglob("*.yml"):
            path.write_text(path.read_text().replace("description: It.", "description: It.\n    quote: true"))


def _run(project: Project, names: dict[str, str], key: str, value: int) -> dict[str, Outcome]:
    project.write(*(_model(n, config, names, key, value) for n, config in CONFIGS.items()))
    return project.run(**DAY)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Quoted(tmp_path_factory.mktemp("names"))


def test_each_strategy_writes_columns_of_any_name(project: Project) -> None:
    for value in (1, 2):
        outcomes = _run(project, NAMES, "7", value)
        assert not [o.message for o in outcomes.values() if o.status != "success"]
        found = {
            name: project.rows(f'select "order", "group", "it\'s" from staged.{name}') for name in CONFIGS
        }
        assert found == {name: [(7, value, "x")] for name in CONFIGS}
    outcomes = _run(project, NAMES, "null", 3)
    for name, outcome in outcomes.items():
        if name == "matching":
            assert outcome.status == "success", outcome.message
        else:
            assert outcome.status == "error"
            assert "found 1 row(s) with null in order, such as" in outcome.message
            assert r"'it\'s': x" in outcome.message


def test_a_name_whose_case_changes_is_the_same_column(tmp_path: Path) -> None:
    project = Quoted(tmp_path)
    changed = {"w": "W", "at_": "AT_", "v": "v", "k": "K"}  # In another order, too.
    for names in ({name: name for name in TYPES}, changed):
        outcomes = _run(project, names, "7", 1)
        assert not [o.message for o in outcomes.values() if o.status != "success"]
    for name in CONFIGS:
        assert set(project.types(f"staged.{name}")) == set(changed.values())
        assert project.rows(f"select k, v, w from staged.{name}") == [(7, 1, "x")]


def test_types_are_compared_if_columns_are_synchronized(tmp_path: Path) -> None:
    project = Project(tmp_path)
    config = {"on_schema_change": "sync_all_columns", "contract": {"enforced": False}}
    for name in ("ignore", "sync_all_columns"):
        config = {**config, "on_schema_change": name}
        for data_type in ("integer", "decimal(6,2)"):
            sql = f"select 1 as k, cast(4.43 as {data_type}) as v"
            project.write(Model(name, sql, {"k": "integer", "v": data_type}, config))
            outcome = project.run()[name]
        assert "v: found integer in the table, and decimal(6,2)" in outcome.message
        assert project.rows(f"select v from staged.{name}") == [(4,)]
