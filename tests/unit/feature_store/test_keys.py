"""An entity has one key, from Python and from SQL, and no other entity has it."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.feature_store.online.encoding import UnsupportedTypeError
from orchestration.feature_store.online.keys import (
    MAX_KEY_BYTES,
    NO_ENTITY,
    EntityKeys,
    EntityTypeError,
    shortened,
)
from tests.unit.feature_store.test_encoding import INSTANTS, TEXTS, decimals, integers
from tests.unit.feature_store.views import make_view, typed_literal

TYPES = {
    "boolean": st.booleans(),
    "tinyint": integers(8),
    "bigint": integers(64),
    "uhugeint": integers(128, signed=False),
    "decimal(12,3)": decimals(12, 3),
    "decimal(4,0)": decimals(4, 0),
    "varchar": TEXTS,
    "date": st.dates(),
    "timestamp": INSTANTS,
    "timestamptz": INSTANTS.map(lambda t: t.replace(tzinfo=UTC)),
    "uuid": st.uuids(),
}
NEAR = st.text(st.sampled_from("\0\1\2=#a"), max_size=4)


def keys_of(types, null_keys="reject"):
    return EntityKeys(
        make_view({"x": "integer"}, {f"k{n}": t for n, t in enumerate(types)}, null_keys=null_keys)
    )


@settings(max_examples=30, deadline=None)
@given(st.tuples(*TYPES.values()), st.permutations(range(len(TYPES))))
def test_python_and_sql_make_the_same_key(duck, values, order):
    types, values = [list(TYPES)[n] for n in order], [values[n] for n in order]
    keys = keys_of(types)
    columns = ", ".join(
        f"{typed_literal(v, t)} as k{n}" for n, (v, t) in enumerate(zip(values, types, strict=True))
    )
    ((text,),) = duck.execute(f"select {keys.sql()} from (select {columns})").fetchall()
    assert keys.encode([[v] for v in values]) == [shortened(text.encode())]


@settings(max_examples=200, deadline=None)
@given(*[st.lists(st.none() | NEAR, min_size=3, max_size=3)] * 2)
def test_where_nulls_match_an_entity_with_nulls_has_a_key_too(duck, one, other):
    keys = keys_of(["varchar"] * 3, "match")
    ((first,), (second,)) = (keys.encode([[v] for v in values]) for values in (one, other))
    assert (first == second) == (one == other)
    columns = ", ".join(
        f"{'null' if v is None else typed_literal(v, 'varchar')}::varchar as k{n}" for n, v in enumerate(one)
    )
    ((text,),) = duck.execute(f"select {keys.sql()} from (select {columns})").fetchall()
    assert first == shortened(text.encode())
    if None not in one:
        assert first == keys_of(["varchar"] * 3).encode([[v] for v in one])[0]


@settings(max_examples=200, deadline=None)
@given(st.lists(NEAR, min_size=3, max_size=3), st.lists(NEAR, min_size=3, max_size=3))
def test_two_entities_never_share_a_key(one, other):
    keys = keys_of(["varchar"] * 3)
    ((first,), (second,)) = (keys.encode([[v] for v in values]) for values in (one, other))
    assert (first == second) == (one == other)


def test_equal_numbers_have_one_key_however_they_are_written():
    keys = keys_of(["decimal(6,2)"])
    written = [Decimal("1.5"), Decimal("1.50"), "1.5", "01.500", Decimal("15e-1")]
    assert set(keys.encode([written])) == {b"=1.50"}
    assert keys.encode([[0, Decimal("-0.00")]]) == [b"=0.00", b"=0.00"]


def test_an_instant_has_one_key_in_any_zone():
    keys = keys_of(["timestamptz"])
    written = [datetime(2024, 1, 1, 12, tzinfo=UTC), "2024-01-01T13:00:00+01:00", "2024-01-01T12:00:00Z"]
    assert len(set(keys.encode([written]))) == 1
    assert keys_of(["date"]).encode([[date(1970, 1, 2), "1970-01-02"]]) == [b"=1", b"=1"]
    assert (
        keys_of(["uuid"]).encode([[UUID(int=1), str(UUID(int=1)).upper()]])
        == [f"={UUID(int=1)}".encode()] * 2
    )


def test_a_long_key_is_shortened_to_what_a_store_takes():
    keys = keys_of(["varchar"])
    longest, longer = "a" * (MAX_KEY_BYTES - 1), "a" * MAX_KEY_BYTES
    first, second, third = keys.encode([[longest, longer, longer + "b"]])
    assert first == b"=" + longest.encode()
    assert second[:1] == third[:1] == b"#"
    assert len(second) == 33
    assert second != third


def test_an_entity_with_a_null_in_its_key_is_none():
    assert keys_of(["varchar"]).encode([["a", None]]) == [b"=a", NO_ENTITY]
    assert keys_of(["varchar", "integer"]).encode([["a", "a"], [None, 1]]) == [NO_ENTITY, b"=a\0\x011"]


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        ("varchar", 3),
        ("varchar", b"x"),
        ("varchar", "\ud800"),
        ("integer", "3"),
        ("integer", True),
        ("integer", 3.5),
        ("integer", float("nan")),
        ("bigint", 2.0**60),
        ("integer", 2**31),
        ("utinyint", -1),
        ("boolean", 1),
        ("decimal(4,1)", 1.5),
        ("decimal(4,1)", "1.55"),
        ("decimal(4,1)", "1000"),
        ("decimal(4,1)", "nan"),
        ("date", datetime(2024, 1, 1)),
        ("date", "yesterday"),
        ("timestamptz", datetime(2024, 1, 1)),
        ("timestamptz", "2024-01-01"),
        ("timestamp", datetime(2024, 1, 1, tzinfo=UTC)),
        ("uuid", "7"),
        ("varchar", ["a"]),
        ("integer", {}),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_shown(data_type, value):
    with pytest.raises(EntityTypeError, match=r"entity key k0 of readings: found .* expected a") as refused:
        keys_of([data_type]).encode([[value]])
    assert "yesterday" not in str(refused.value)


@pytest.mark.parametrize("data_type", ["double", "float", "blob", "interval", "varchar[]"])
def test_a_type_that_cannot_be_a_key_is_named(data_type):
    with pytest.raises(UnsupportedTypeError, match=r"columns\.k0\.data_type: found"):
        keys_of([data_type])
