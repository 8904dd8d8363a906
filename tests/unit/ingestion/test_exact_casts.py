"""A text cast to a declared type gives the value of an independent parser, or a fault."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.ingestion.casts import Zone
from orchestration.ingestion.nested_casts import from_text
from tests.unit.ingestion.exact_oracle import BAD, expected, may_be_refused, nested
from tests.unit.ingestion.number_texts import MOMENTS, NUMBERS, clocks, moments, numbers

ZONES = ["UTC", None, "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        yield con


def read(con: duckdb.DuckDBPyConnection, cells: list[str], data_type: str, zone: str | None) -> list[Any]:
    """The value or ``BAD`` of each cell; all cells are in one chunk, as those of a file are."""
    cast = from_text("v", data_type, Zone(zone))
    value = cast.value
    if data_type == "timestamp_ns":
        value = f"[({value})::timestamp::varchar, ((epoch_ns({value}) % 1000000000 + 1000000000) % 1000000000)::varchar]"
    con.execute(
        "create or replace temp table t as select unnest($1::varchar[]) as v, unnest(range(len($1))) as i",
        [cells],
    )
    rows = con.execute(f"select {value}, {cast.is_bad} from t order by i").fetchall()
    return [BAD if is_bad else found for found, is_bad in rows]


def is_same(found: Any, value: Any) -> bool:
    return bool(found == value) or (found != found and value != value)


def is_alike(found: Any, value: Any) -> bool:
    """The same, part by part: a NaN equals a NaN, and a time equals itself whatever names its zone."""
    if isinstance(value, dict) and isinstance(found, dict):
        return found.keys() == value.keys() and all(is_alike(found[key], value[key]) for key in value)
    if isinstance(value, list) and isinstance(found, list):
        return len(found) == len(value) and all(map(is_alike, found, value))
    return is_same(found, value) or str(found) == str(value)


@settings(max_examples=30, deadline=None)
@given(st.lists(numbers, min_size=30, max_size=30))
def test_numbers_are_exact_or_faults(con: duckdb.DuckDBPyConnection, cells: list[str]) -> None:
    for data_type in NUMBERS:
        for cell, found in zip(cells, read(con, cells, data_type, "UTC"), strict=True):
            if not (found is BAD and may_be_refused(cell, data_type)):
                assert is_same(found, expected(cell, data_type)), (data_type, cell, found)


def test_an_exponent_makes_no_decimal_longer_than_its_width(con: duckdb.DuckDBPyConnection) -> None:
    assert read(con, ["1.0e18", "-10.0e17"], "decimal(18,0)", "UTC") == [BAD, BAD]
    assert read(con, ["1.0e38"], "decimal(38,0)", "UTC") == [BAD]
    assert read(con, ["9.9e17"], "decimal(18,0)", "UTC") == [Decimal("990000000000000000")]


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=12, deadline=None)
@given(st.lists(moments, min_size=30, max_size=30), st.lists(clocks, min_size=10, max_size=10))
def test_timestamps_are_read_independently_of_other_cells(
    con: duckdb.DuckDBPyConnection, zone: str | None, cells: list[str], times: list[str]
) -> None:
    for data_type in MOMENTS:
        for cell, found in zip(cells, read(con, cells, data_type, zone), strict=True):
            value = expected(cell, data_type, zone)
            if data_type == "timestamp_ns":
                assert (found is BAD) == (value is BAD), (cell, zone)
                assert value is BAD or int(found[1]) == value[1]
            elif not (data_type == "date" and "24:" in cell):
                assert is_same(found, value), (data_type, cell, zone, found)
    for cell, found in zip(times, read(con, times, "time", zone), strict=True):
        assert is_same(found, expected(cell, "time")), (cell, found)


SHAPES = {
    "struct(a bigint, b decimal(9,2), c varchar)": {"a": "bigint", "b": "decimal(9,2)", "c": "varchar"},
    "integer[]": ["integer"],
    "struct(x timestamptz, y double[])[]": [{"x": "timestamptz", "y": ["double"]}],
}
_texts = st.text(max_size=6) | st.sampled_from(["it's", "\x01x", 'a"b\\n', "1.10", "1e2"])


def values(shape: Any) -> st.SearchStrategy[Any]:
    """JSON-like values that fit a shape, or almost do."""
    if isinstance(shape, list):
        return st.none() | st.lists(values(shape[0]), max_size=3)
    if isinstance(shape, dict):
        fields = {name: values(kind) for name, kind in shape.items()}
        return st.none() | st.fixed_dictionaries({}, optional=fields) | st.just({"other": "1"})
    kinds = {"timestamptz": moments, "varchar": _texts}
    return st.none() | kinds.get(shape, numbers)


@pytest.mark.parametrize("data_type", SHAPES)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nested_values_follow_the_rule_of_their_parts(
    con: duckdb.DuckDBPyConnection, data_type: str, data: st.DataObject
) -> None:
    value = data.draw(values(SHAPES[data_type]))
    if value is None:
        return
    (found,) = read(con, [json.dumps(value)], data_type, "UTC")
    wanted = nested(value, SHAPES[data_type])
    # U+0001 marks the text of numbers: a value that holds it is never cut, and goes to quarantine.
    assert (found is BAD) == (wanted is BAD or "\\u0001" in json.dumps(value)), value
    assert found is BAD or is_alike(found, wanted)


@pytest.mark.parametrize("number", ["12345678901234567.89", "1.10", "1e2", "-0", "9007199254740993.0"])
def test_a_number_in_json_keeps_its_digits(con: duckdb.DuckDBPyConnection, number: str) -> None:
    assert read(con, [f'{{"a": [{number}]}}'], "struct(a varchar[])", "UTC") == [{"a": [number]}]
    assert read(con, [f"[{number}]"], "decimal(20,2)[]", "UTC") == [[expected(number, "decimal(20,2)")]]
