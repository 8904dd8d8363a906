"""Reading SQL text: which tables it names, and which of its outputs may be shown."""

from collections.abc import Iterator

import duckdb
import pytest

from orchestration.quality.sql_text import SqlError, clear_outputs, parse, replace_tables

PLAIN = {"city", "fare"}
"""Of raw.trips (trip, rider, city, fare), where rider is classified and trip is not declared."""


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "outputs", "clear"),
    [
        ("select * from raw.trips", ["trip", "rider", "city", "fare"], {"city", "fare"}),
        (
            "select city, count(*) as copies from raw.trips group by all",
            ["city", "copies"],
            {"city", "copies"},
        ),
        ("select rider as city from raw.trips", ["city"], set()),
        ("select max(rider) from raw.trips", ["max(rider)"], set()),
        ("select upper(city) as c, city || rider as d from raw.trips", ["c", "d"], {"c"}),
        ("with a as (select rider as city from raw.trips) select city from a", ["city"], set()),
        ("with a as (select rider as r from raw.trips) select r as c from a", ["c"], set()),
        ("with a as (select city as c from raw.trips) select c from a", ["c"], {"c"}),
        ("with a(city) as (select rider from raw.trips) select city from a", ["city"], set()),
        ("select city from (select rider from raw.trips) as t(city)", ["city"], set()),
        ("select city from raw.trips union all select rider from raw.trips", ["city"], set()),
        ("select t as city from raw.trips as t", ["city"], set()),
        ("select to_json(t) as j from raw.trips as t", ["j"], set()),
        ("select (select rider from raw.trips limit 1) as fare from raw.trips", ["fare"], set()),
        ("select columns(*) as city from raw.trips", ["city"], set()),
        ("select struct_pack(city := rider) as s from raw.trips", ["s"], set()),
        ("select list_transform([1], x -> rider) as city from raw.trips", ["city"], set()),
        ("select city from raw.trips where rider = 'x'", ["city"], {"city"}),
        (
            "select city, exists (select 1 from raw.trips as t where t.rider = 'x') as e from raw.trips",
            ["e"],
            {"e"},
        ),
        ("from raw.trips select city", ["city"], {"city"}),
    ],
)
def test_only_outputs_of_plain_columns_are_clear(
    con: duckdb.DuckDBPyConnection, text: str, outputs: list[str], clear: set[str]
) -> None:
    assert clear_outputs(parse(con, text), outputs, PLAIN) == clear


def test_tables_are_found_wherever_they_stand_and_steps_are_none(con: duckdb.DuckDBPyConnection) -> None:
    text = """with a as (select 'Ærø — é' from raw.trips)
        select * from a join lake . "raw" . "my cities" as c on exists (select 1 from raw.trips as t)"""
    found = [(r.catalog, r.schema, r.name, r.has_alias) for r in parse(con, text).tables()]
    assert found == [
        ("", "raw", "trips", False),
        ("lake", "raw", "my cities", True),
        ("", "raw", "trips", True),
    ]


def test_tables_are_replaced_under_the_same_name(con: duckdb.DuckDBPyConnection) -> None:
    query = parse(con, "select 'é', trips.a, c.b from raw.trips, raw.cities as c")
    text = replace_tables(
        query, {ref: f"select * from lake.{ref.schema}.{ref.name} where x" for ref in query.tables()}
    )
    assert text == (
        "select 'é', trips.a, c.b from (select * from lake.raw.trips where x) as \"trips\", "
        "(select * from lake.raw.cities where x) as c"
    )


@pytest.mark.parametrize("text", ["selec 1", "select 1; select 2", "delete from x", "attach 'x'"])
def test_text_that_is_not_one_select_is_refused(con: duckdb.DuckDBPyConnection, text: str) -> None:
    with pytest.raises(SqlError, match="expected one"):
        parse(con, text)
