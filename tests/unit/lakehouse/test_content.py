"""The content hash tells any two contents apart, and does not see how one is laid out."""

from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.lakehouse.content import content_of, content_of_batches
from orchestration.lakehouse.tables import Column

COLUMNS = [
    Column("number", "BIGINT"),
    Column("ratio", "DOUBLE"),
    Column("word", "VARCHAR"),
    Column("flag", "BOOLEAN"),
    Column("price", "DECIMAL(9,2)"),
    Column("at", "TIMESTAMP WITH TIME ZONE"),
]
SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("ratio", pa.float64()),
        ("word", pa.string()),
        ("flag", pa.bool_()),
        ("price", pa.decimal128(9, 2)),
        ("at", pa.timestamp("us", "UTC")),
    ]
)
ROW = st.tuples(
    st.none() | st.integers(-3, 3),
    st.none() | st.sampled_from([0.0, -0.0, 1.5, float("inf"), float("nan")]),
    st.none() | st.sampled_from(["", "a", "ab", "b", "é", "a\x00"]),
    st.none() | st.booleans(),
    st.none() | st.sampled_from([Decimal("0.00"), Decimal("1.50")]),
    st.none() | st.sampled_from([datetime(1970, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]),
)


def table(rows):
    return pa.table(
        [
            pa.array(list(column), field.type)
            for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
        ]
        if rows
        else [pa.array([], field.type) for field in SCHEMA],
        schema=SCHEMA,
    )


def hashed(rows, *cuts):
    whole, at, batches = table(rows), 0, []
    for cut in [*sorted(cuts), len(rows)]:
        batches += whole.slice(at, cut - at).to_batches()
        at = cut
    return content_of_batches(iter(batches), COLUMNS)[0]


def told_apart(row):
    """A row as text that tells values apart as the hash should: one NaN, two zeros."""
    return tuple(repr(value) for value in row)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=6), st.lists(ROW, max_size=6), st.lists(st.integers(0, 6), max_size=3))
def test_equal_contents_and_no_others_have_one_hash(one, other, cuts):
    same = [told_apart(row) for row in one] == [told_apart(row) for row in other]
    assert (hashed(one) == hashed(other)) == same
    assert hashed(one, *(min(cut, len(one)) for cut in cuts)) == hashed(one)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=6), st.data())
def test_a_change_of_one_value_changes_the_hash(rows, data):
    place = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(COLUMNS) - 1))
    value = data.draw(ROW)[column]
    changed = [list(row) for row in rows]
    changed[place][column] = value
    same = told_apart(rows[place]) == told_apart(changed[place])
    assert (hashed(rows) == hashed([tuple(row) for row in changed])) == same


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("INTEGER[]", "[1, null]", "[1]"),
        ("STRUCT(a INTEGER, b VARCHAR)", "{'a': 1, 'b': null}", "{'a': 1, 'b': ''}"),
        ("HUGEINT", "9007199254740993", "9007199254740992"),
        ("UUID", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
        ("INTERVAL", "interval '1 month'", "interval '30 days'"),
        ("BLOB", "'\\x00'::blob", "''::blob"),
        ("DATE", "'2024-01-01'", "'2024-01-02'"),
        ("REAL", "0.1", "0.2"),
        ("UTINYINT", "0", "null"),
    ],
)
def test_values_of_every_type_are_told_apart(kind, one, other):
    with duckdb.connect() as con:
        column = [Column("v", "FLOAT" if kind == "REAL" else kind)]
        hashes = [content_of(con, f"(select {v}::{kind} as v)", column)[0] for v in (one, other, one)]
    assert hashes[0] == hashes[2] != hashes[1]


def test_names_and_types_are_part_of_the_content():
    with duckdb.connect() as con:
        found = {
            content_of(con, f"(select 1::{kind} as {name})", [Column(name, kind)])[0]
            for name, kind in (("a", "INTEGER"), ("b", "INTEGER"), ("a", "BIGINT"))
        }
    assert len(found) == 3
