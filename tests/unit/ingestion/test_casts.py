"""One cell as text or typed: its value, or a fault, and never a rounded or cut value."""

from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pytest

from orchestration.declarations import canonical
from orchestration.ingestion.casts import Cast
from orchestration.ingestion.nested_casts import from_text, from_typed

AT = datetime(2024, 1, 1, 12, tzinfo=UTC)


def evaluate(cast: Cast, cell: str) -> tuple[object, bool]:
    """Value and fault of a cell, given as SQL."""
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        return con.execute(f"select {cast.value}, {cast.is_bad} from (select {cell} as v)").fetchall()[0]


@pytest.mark.parametrize(
    ("data_type", "cell"),
    [
        ("integer", "1.5"), ("integer", "x"), ("integer", "3000000000"), ("integer", "nan"),
        ("integer", "0x10"), ("ubigint", "1.5"), ("bigint", "99999999999999999999"), ("bigint", "0x10"),
        ("bigint", "1.5"), ("double", "1e400"), ("double", "1.2.3"), ("decimal(5, 2)", "1.239"),
        ("decimal(5, 2)", "1234.5"), ("date", "2024-02-30"), ("date", "2024-01-01 10:00:00"),
        ("timestamptz", "2024-02-30T00:00:00Z"), ("timestamp", "2024-01-01 10:00:00+02"),
        ("boolean", "maybe"), ("time", "25:00:00"),
    ],
)  # fmt: skip
def test_text_that_a_type_cannot_hold_whole_is_a_fault(data_type: str, cell: str) -> None:
    assert evaluate(from_text("v", data_type), f"'{cell}'")[1] is True


@pytest.mark.parametrize(
    ("data_type", "cell", "value"),
    [
        ("integer", " 7 ", 7), ("integer", "-0", 0), ("integer", "+5", 5), ("bigint", "-9223372036854775808", -(2**63)),
        ("double", "1e3", 1000.0), ("decimal(5, 2)", "1.50", Decimal("1.50")), ("date", "2024-01-01", date(2024, 1, 1)),
        ("timestamptz", "2024-01-01T14:00:00+02:00", AT), ("timestamptz", "2024-01-01 12:00:00", AT),
        ("timestamp", "2024-01-01T12:00:00Z", AT.replace(tzinfo=None)),
    ],
)  # fmt: skip
def test_text_that_a_type_holds_becomes_a_value(data_type: str, cell: str, value: object) -> None:
    assert evaluate(from_text("v", data_type), f"'{cell}'") == (value, False)


@pytest.mark.parametrize(
    "data_type", ["varchar", "integer", "bigint", "ubigint", "double", "decimal(9,2)", "date", "timestamp", "time",
                  "timestamptz", "boolean", "uuid", "json"],
)  # fmt: skip
def test_nothing_is_no_fault_in_any_type(data_type: str) -> None:
    assert evaluate(from_text("v", data_type), "null::varchar") == (None, False)


@pytest.mark.parametrize(
    ("found", "declared", "cell", "expected"),
    [
        ("INTEGER", "bigint", "7", (7, False)),
        ("BIGINT", "integer", "3000000000", (None, True)),
        ("DECIMAL(9,3)", "decimal(9,2)", "1.239", (Decimal("1.24"), True)),
        ("DECIMAL(9,3)", "decimal(9,2)", "1.230", (Decimal("1.23"), False)),
        ("TIMESTAMP_NS", "timestamp", "'2024-01-01 00:00:00.000000001'", (datetime(2024, 1, 1), True)),
        ("BIGINT", "integer", "null", (None, False)),
    ],
)
def test_typed_cells_are_converted_only_without_loss(
    found: str, declared: str, cell: str, expected: tuple[object, bool]
) -> None:
    cast = from_typed("v", found, declared)
    assert cast is not None
    assert evaluate(cast, f"{cell}::{found}") == expected


@pytest.mark.parametrize(
    ("found", "declared"),
    [("VARCHAR", "integer"), ("DOUBLE", "integer"), ("DOUBLE", "decimal(9,2)"), ("INTEGER", "varchar"),
     ("DATE", "timestamp"), ("BOOLEAN", "integer")],
)  # fmt: skip
def test_a_type_of_another_kind_is_not_converted(found: str, declared: str) -> None:
    assert from_typed("v", found, declared) is None


@pytest.mark.parametrize(
    ("alias", "name"),
    [("INT", "integer"), ("text", "varchar"), ("varchar(20)", "varchar"), ("numeric", "decimal(18,3)"),
     ("decimal(9)", "decimal(9,0)"), ("Decimal(9, 2)", "decimal(9,2)"), ("timestamp with time zone", "timestamptz")],
)  # fmt: skip
def test_aliases_of_a_type_are_one_type(alias: str, name: str) -> None:
    assert canonical(alias) == name
