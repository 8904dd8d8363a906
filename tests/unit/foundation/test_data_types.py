"""The rule about casts that may change a value, compared with casts of real values."""

from itertools import product

import duckdb
import pytest

from orchestration.declarations import cast_loses_digits

VALUES = {
    "tinyint": ["-128", "3"],
    "integer": ["16777217", "-5"],
    "bigint": ["9007199254740993", "7"],
    "ubigint": ["18446744073709551615"],
    "decimal(4, 1)": ["1.5", "-2.0"],
    "decimal(18, 6)": ["0.000001", "12.500000"],
    "decimal(38, 0)": ["123456789012345678901234567890"],
    "float": ["0.1", "1.5"],
    "double": ["0.1", "1.5", "123456789.25"],
    "timestamp_s": ["2024-01-01 12:00:01"],
    "timestamp_ms": ["2024-01-01 12:00:01.001"],
    "timestamp": ["2024-01-01 12:00:01.000001"],
    "timestamp_ns": ["2024-01-01 12:00:01.000000001"],
    "date": ["2024-01-01"],
    "boolean": ["true", "false"],
    "varchar": ["1.5", "1.005", "2024-01-01 23:00:00.0000005", "0.1", "x"],
}
PAIRS = [p for p in product(VALUES, VALUES) if p[1] != "double"]


@pytest.mark.parametrize(("found", "declared"), PAIRS, ids=" to ".join)
def test_a_cast_that_loses_no_digits_gives_each_value_back(found: str, declared: str) -> None:
    """The rule names every pair of types whose cast changes a value."""
    with duckdb.connect() as con:
        for value in VALUES[found]:
            there = f"try_cast(cast('{value}' as {found}) as {declared})"
            try:
                is_kept = con.execute(
                    f"select {there} is null or cast({there} as {found}) is not distinct from '{value}'::{found}"
                ).fetchall()[0][0]
            except duckdb.Error:
                continue  # No such cast.
            assert is_kept or cast_loses_digits(found, declared), value


def test_double_takes_the_nearest_value_and_nested_types_go_by_their_parts() -> None:
    assert not cast_loses_digits("decimal(38, 10)", "double")
    assert cast_loses_digits("double[]", "integer[]")
    assert cast_loses_digits("struct(a integer, b double)", "struct(a integer, b bigint)")
    assert not cast_loses_digits("struct(a integer)", "struct(a bigint)")
