"""A null in a key fails the model and names the row; if nulls match, such a row is like any other."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.transformation.changing_models import Model, Project

COLUMNS = {"k": "varchar", "at_": "timestamptz", "v": "integer"}
SQL = "select k, at_, v from lake.raw.rows"
MATCH = {"null_keys": "match"}
VIEW = {
    "meta": {"owner": "team:operators", "feature_view": {"entity": ["k"], "timestamp": "at_", "ttl": "1 day"}}
}
SPINE = {"meta": {"owner": "team:operators", "spine": {"key": ["k"], "partition_by": "at_"}}}
HISTORY = {"incremental_strategy": "history", "unique_key": ["k", "at_"]}
BY_VALUE = {"unique_key": "v"}


def rows_of(name: str, **config: Any) -> Model:
    return Model(name, SQL, COLUMNS, config)


REJECTING = {
    "window": {},
    "window_of_days": {"window_column": "at_"},
    "history": HISTORY,
    "merge": {"incremental_strategy": "merge"},
    "delete_insert": {"incremental_strategy": "delete+insert"},
    "table": {"materialized": "table"},
    "view": VIEW | BY_VALUE,
    "spine": SPINE | BY_VALUE,
    "said_so": {"null_keys": "reject"},
}
MATCHING = {
    "match_window": MATCH,
    "match_days": MATCH | {"window_column": "at_", "unique_key": ["k", "at_"]},
    "match_history": MATCH | HISTORY,
}


def raw(project: Project, *rows: str) -> None:
    project.execute(
        "create schema if not exists raw",
        "create or replace table raw.rows (k varchar, at_ timestamptz, v integer)",
        *(f"insert into raw.rows values {row}" for row in rows),
    )


NAMED, NULL = "('a', '2024-01-01 00:00:00+00', 1)", "(null, '2024-01-01 00:00:00+00', 2)"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("keys"))
    project.write(*(rows_of(name, **config) for name, config in (REJECTING | MATCHING).items()))
    return project


def test_a_null_key_fails_the_model_and_names_the_row(project: Project) -> None:
    raw(project, NAMED)
    first = project.run()
    assert not [o for o in first.values() if o.status != "success"]
    raw(project, NAMED, NULL)
    window = {"partition_start": "2024-01-01T00:00:00+00:00", "partition_end": "2024-01-02T00:00:00+00:00"}
    for found in (project.run(), project.run(**window), project.run("--full-refresh")):
        for name in REJECTING:
            assert found[name].status == "error", name
            assert f"models/staged/{name}.sql: models.{name}." in found[name].message
            assert "found 1 row(s) with null in k" in found[name].message
            assert "{'k': NULL, 'at_': '2024-01-01 00:00:00+00', 'v': 2}" in found[name].message
            assert project.rows(f"from staged.{name}") == project.rows("from raw.rows where k is not null")
        for name in MATCHING:
            assert found[name].status == "success", found[name].message
            assert project.rows(f"from staged.{name} order by v") == project.rows("from raw.rows order by v")


def test_a_new_table_accepts_no_null_key_either(tmp_path: Path) -> None:
    project = Project(tmp_path)
    raw(project, NULL)
    project.write(rows_of("fresh"), rows_of("secret", **BY_VALUE), rows_of("matching", **MATCH))
    found = project.run()
    assert "found 1 row(s) with null in k" in found["fresh"].message
    assert "set null_keys to match" in found["fresh"].message
    assert found["secret"].status == found["matching"].status == "success"
    tables = project.rows("select table_name from duckdb_tables() where schema_name = 'staged' order by 1")
    assert tables == [("matching",), ("secret",)]


KEYS = st.sampled_from(("a", "b", None))
DAYS = st.integers(0, 4)
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
CONTENT = st.dictionaries(st.tuples(KEYS, DAYS), st.integers(0, 2), max_size=8)


@pytest.fixture(scope="module")
def strategy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The statements of strategy ``window`` with matching nulls, for one window and for none."""
    project = Project(tmp_path_factory.mktemp("strategy"))
    raw(project)
    project.write(rows_of("m", **MATCHING["match_days"]))
    project.run()
    texts = []
    for window in ({"partition_start": "START", "partition_end": "END"}, {}):
        written = {name: f"{1901 if value == 'START' else 1902}-01-01" for name, value in window.items()}
        project.run(**written)
        text = (project.settings.data_dir / "target/run/changing/models/staged/m.sql").read_text()
        texts.append(re.sub(r'"m__dbt_tmp\w*"', "built", text).replace('"lake"."staged"."m"', "held_rows"))
    return texts[0], texts[1]


@given(
    held=CONTENT, surplus=st.integers(1, 3), built=CONTENT, days=st.tuples(DAYS, DAYS), whole=st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_a_run_leaves_each_row_that_the_model_gives_exactly_once(
    strategy: tuple[str, str],
    held: dict[tuple[str | None, int], int],
    surplus: int,
    built: dict[tuple[str | None, int], int],
    days: tuple[int, int],
    whole: bool,
) -> None:
    start, end = sorted(days)
    inside = [key for key in held if whole or start <= key[1] < end]
    expected = {key: v for key, v in held.items() if key not in inside} | built
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("set timezone = 'UTC'; create table held_rows (k varchar, at_ timestamptz, v integer)")
        con.execute("create table built as from held_rows")
        for table, content, times in (("held_rows", held, surplus), ("built", built, 1)):
            for (key, day), value in content.items():
                # Rows of the window may be held more than once, as two writers at a time can leave them.
                for _ in range(times if (key, day) in inside else 1):
                    con.execute(
                        f"insert into {table} values (?, ?, ?)", [key, FIRST + day * timedelta(days=1), value]
                    )
        text = strategy[1 if whole else 0]
        for year, day in (("1901", start), ("1902", end)):
            text = text.replace(f"{year}-01-01", (FIRST + day * timedelta(days=1)).isoformat())
        for _ in range(2):
            con.execute(text)
            rows = con.execute("select k, date_diff('day', ?, at_), v from held_rows", [FIRST]).fetchall()
            assert sorted(rows, key=str) == sorted(((k, d, v) for (k, d), v in expected.items()), key=str)


def test_a_row_without_an_event_time_is_not_added_again(tmp_path: Path) -> None:
    project = Project(tmp_path)
    raw(project, "('a', null, 1)")
    project.write(rows_of("m", window_column="at_"))
    project.run()
    for _ in range(2):
        project.run(partition_start="2024-01-01", partition_end="2024-01-02")
        assert project.rows("from staged.m") == [("a", None, 1)]
