"""A type is wider if it holds every value of another; DuckLake alters a column to it unchanged."""

from fractions import Fraction
from itertools import product

import pytest

from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings
from tests.unit.transformation.macros import is_wider

INTEGERS = {
    f"{sign}{name}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for name, bits in (("TINYINT", 8), ("SMALLINT", 16), ("INTEGER", 32), ("BIGINT", 64), ("HUGEINT", 128))
    for sign in ("", "U")
}
DECIMALS = [(1, 0), (4, 1), (5, 0), (6, 2), (7, 4), (8, 2), (12, 2), (18, 3), (20, 0), (38, 0), (38, 10)]
# Bits of the significand: integers of at most that many bits are exact.
FLOATS = {"FLOAT": 24, "DOUBLE": 53}
OTHERS = ["VARCHAR", "DATE", "BOOLEAN", "TIMESTAMP", "STRUCT(a INTEGER)", "INTEGER[]", "BIGINT[]"]
TYPES = [*INTEGERS, *(f"DECIMAL({width},{scale})" for width, scale in DECIMALS), *FLOATS, *OTHERS]


def _shape(data_type: str) -> tuple[Fraction, Fraction, Fraction] | None:
    """Least value, greatest value and the step between values of a type with equal steps."""
    if data_type in INTEGERS:
        low, high = INTEGERS[data_type]
        return Fraction(low), Fraction(high), Fraction(1)
    if data_type.startswith("DECIMAL"):
        width, scale = map(int, data_type[8:-1].split(","))
        step = Fraction(1, 10**scale)
        return -(10**width - 1) * step, (10**width - 1) * step, step
    return None


def _holds(stored: str, given: str) -> bool:
    """Whether each value of one type is a value of another."""
    if stored in FLOATS or given in FLOATS:
        # Not FLOAT in DOUBLE, though it holds each value: DuckLake skips files by the text of their extremes.
        return (
            stored in INTEGERS and given in FLOATS and max(map(abs, INTEGERS[stored])) <= 2 ** FLOATS[given]
        )
    old, new = _shape(stored), _shape(given)
    if given in {"HUGEINT", "UHUGEINT"}:
        return False  # Parquet stores them as doubles; the lakehouse refuses them.
    if old is None or new is None or (given in INTEGERS and stored not in INTEGERS):
        return False
    return new[0] <= old[0] and old[1] <= new[1] and (old[2] / new[2]).denominator == 1


PAIRS = [(a, b) for a, b in product(TYPES, TYPES) if a != b and _holds(a, b)]


def test_a_type_is_wider_if_it_holds_each_value() -> None:
    found = {(a, b) for a, b in product(TYPES, TYPES) if a != b and is_wider(a, b)}
    assert found == set(PAIRS)


@pytest.fixture(scope="module")
def lakehouse(tmp_path_factory: pytest.TempPathFactory) -> LakehouseResource:
    return LakehouseResource.from_settings(Settings(data_dir=tmp_path_factory.mktemp("wider")))


def test_a_wider_column_reads_as_it_was_written(lakehouse: LakehouseResource) -> None:
    """More rows than DuckLake keeps in its catalog, so that the old type stands in a Parquet file."""
    columns = {f"c{n}": pair for n, pair in enumerate(PAIRS)}
    extremes = {}
    for name, (stored, _) in columns.items():
        shape = _shape(stored)
        low, high = (
            ("-0.1", "1e30") if shape is None else (_text(shape[0], shape[2]), _text(shape[1], shape[2]))
        )
        extremes[name] = [f"cast('{low}' as {stored})", f"cast('{high}' as {stored})", f"null::{stored}"]
    with lakehouse.get_connection() as con:
        con.execute("create schema lake.s")
        body = ", ".join(f"{name} {stored}" for name, (stored, _) in columns.items())
        con.execute(f"create table lake.s.t (row_number integer, {body})")
        for row in range(3):
            values = ", ".join(texts[row] for texts in extremes.values())
            con.execute(
                f"insert into lake.s.t select i, {values} from range({row * 20}, {row * 20 + 20}) as r (i)"
            )
        before = {
            name: con.execute(f"select {name}::{given}::varchar from lake.s.t order by row_number").fetchall()
            for name, (_, given) in columns.items()
        }
        con.execute("begin")
        for name, (_, given) in columns.items():
            con.execute(f"alter table lake.s.t alter column {name} set data type {given}")
        con.execute("commit")
    # DuckLake keeps extremes of the old type in memory: a DuckDB that has read the table before the change
    # raises an internal error for a filter on it until something is inserted.
    with lakehouse.get_connection() as con:
        for name, (stored, given) in columns.items():
            rows = con.execute(f"select {name}::varchar from lake.s.t order by row_number").fetchall()
            assert rows == before[name], (stored, given)
            for text in extremes[name][:2]:
                query = f"select count(*) from lake.s.t where {name} = {text}::{given}"
                assert con.execute(query).fetchall() == [(20,)], (stored, given, text)
            assert con.execute(f"select count(*) from lake.s.t where {name} is null").fetchall() == [(20,)]


def _text(value: Fraction, step: Fraction) -> str:
    scale = len(str(step.denominator)) - 1
    digits = str(abs(value.numerator * 10**scale // value.denominator)).rjust(scale + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"
