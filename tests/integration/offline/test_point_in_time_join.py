"""The macro that dbt calls, as dbt puts it into one statement, held to an oracle that looks at every pair."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import jinja2
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.feature_store.point_in_time import MACRO
from orchestration.settings import PROJECT_DIR
from tests.integration.offline.histories import histories
from tests.integration.offline.oracle import OracleView, join

MACROS: Any = (
    jinja2.Environment(undefined=jinja2.StrictUndefined)
    .from_string((PROJECT_DIR / "dbt_project" / MACRO).read_text())
    .module
)
INSTANT = pa.timestamp("us", "UTC")
SCHEMAS = {
    "spine": {
        "id": pa.int64(),
        "pump": pa.string(),
        "twin": pa.string(),
        "site": pa.int32(),
        "asked_at": INSTANT,
    },
    "composite": {
        "pump": pa.string(),
        "site": pa.int32(),
        "known_at": INSTANT,
        "level": pa.int64(),
        "note": pa.string(),
    },
    "single": {"pump": pa.string(), "known_at": INSTANT, "share": pa.float64()},
}


def view(
    name: str,
    relation: str,
    entity: dict[str, str],
    ttl: timedelta,
    *columns: str,
    null_keys: str = "reject",
) -> dict[str, Any]:
    return {
        "name": name,
        "relation": relation,
        "entity": entity,
        "timestamp": "known_at",
        "ttl_seconds": int(ttl.total_seconds()),
        "features": {f"{name}__{column}": column for column in columns},
        "order": list(columns),
        "timestamp_as": f"{name}__known_at",
        "null_keys": null_keys,
    }


def oracle_view(rows: list[dict[str, Any]], made: dict[str, Any]) -> OracleView:
    ttl = timedelta(seconds=made["ttl_seconds"])
    return OracleView(rows, made["entity"], ttl, tuple(made["order"]), made["null_keys"] == "match")


@pytest.fixture(scope="module", params=["sorting", "looping"])
def con(request):
    """Once for each of DuckDB's two ways to join: for few rows it tries every pair."""
    with duckdb.connect(config={"threads": 2}) as con:
        # A zone with daylight saving: a ttl is a length of time, whatever clocks on walls do.
        con.execute("set timezone = 'America/New_York'")
        con.execute(f"set asof_loop_join_threshold = {0 if request.param == 'sorting' else 1_000_000}")
        yield con


def run(
    con: duckdb.DuckDBPyConnection,
    tables: dict[str, list[dict[str, Any]]],
    views: list[dict[str, Any]],
    on_demand: dict[str, dict[str, str]] | None = None,
) -> list[dict[str, Any]]:
    for name, rows in tables.items():
        con.register(name, pa.Table.from_pylist(rows, schema=pa.schema(SCHEMAS[name])))
    join_ctes = MACROS.point_in_time_join("given", "asked_at", views, on_demand or {})
    table = con.execute(f"with given as (select * from spine), {join_ctes} select * from joined")
    return table.to_arrow_table().to_pylist()


def as_bag(rows: list[dict[str, Any]]) -> list[str]:
    utc = [{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in r.items()} for r in rows]
    return sorted(str(sorted(row.items())) for row in utc)


@given(history=histories(), null_keys=st.sampled_from(["reject", "match"]))
@settings(max_examples=150, deadline=None)
def test_each_row_gets_what_was_known_at_its_instant(con, history, null_keys) -> None:
    ttl = history["ttl"]
    keys = {"pump": "pump", "site": "site"}
    views = [
        view("tank", "composite", keys, ttl, "level", "note", null_keys=null_keys),
        view("own", "single", {"pump": "pump"}, ttl, "share"),
        view("other", "single", {"pump": "twin"}, timedelta(hours=1), "share"),
    ]
    tables = {name: history[name] for name in SCHEMAS}
    rows = {"tank": history["composite"], "own": history["single"], "other": history["single"]}
    expected = join(history["spine"], "asked_at", {v["name"]: oracle_view(rows[v["name"]], v) for v in views})
    assert as_bag(run(con, tables, views)) == as_bag(expected)


NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)


def test_on_demand_features_are_computed_over_the_join(con) -> None:
    tables = {
        "spine": [{"id": 1, "pump": "alder", "twin": None, "site": None, "asked_at": NOON}],
        "single": [{"pump": "alder", "known_at": NOON - timedelta(minutes=5), "share": 0.5}],
    }
    on_demand = {
        "age": {"expression": "date_diff('minute', own__known_at, asked_at)", "data_type": "integer"}
    }
    (row,) = run(
        con, tables, [view("own", "single", {"pump": "pump"}, timedelta(days=1), "share")], on_demand
    )
    assert row["age"] == 5


def test_of_equals_the_greatest_counts_whatever_is_asked_for(con) -> None:
    """Ties are broken by all columns of the view, not only by those asked for."""
    tables = {
        "spine": [{"id": 1, "pump": "alder", "twin": None, "site": 1, "asked_at": NOON}],
        "composite": [
            {"pump": "alder", "site": 1, "known_at": NOON, "level": 1, "note": "z"},
            {"pump": "alder", "site": 1, "known_at": NOON, "level": 2, "note": "a"},
            {"pump": "alder", "site": 1, "known_at": NOON, "level": None, "note": "zz"},
        ],
    }
    tank = view("tank", "composite", {"pump": "pump", "site": "site"}, timedelta(days=1), "level", "note")
    tank["features"] = {"tank__note": "note"}
    (row,) = run(con, tables, [tank])
    assert row["tank__note"] == "a"
