"""What is packed is what is read: every type, null, NaN and nothing told apart, no schema mistaken for another."""

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.feature_store.online.encoding import (
    NOT_STORED,
    Layout,
    SchemaMismatchError,
    UnsupportedTypeError,
    from_micros,
    micros,
)
from orchestration.feature_store.online.packing import Packer
from tests.unit.feature_store.views import make_view, typed_literal

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def integers(bits, *, signed=True):
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def decimals(width, scale):
    return st.integers(-(10**width) + 1, 10**width - 1).map(lambda n: Decimal(f"{n}e-{scale}"))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
INSTANTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
VALUES = {
    "boolean": st.booleans(),
    "tinyint": integers(8),
    "smallint": integers(16),
    "integer": integers(32),
    "bigint": integers(64),
    "hugeint": integers(128),
    "utinyint": integers(8, signed=False),
    "usmallint": integers(16, signed=False),
    "uinteger": integers(32, signed=False),
    "ubigint": integers(64, signed=False),
    "uhugeint": integers(128, signed=False),
    "float": st.floats(width=32),
    "double": st.floats(),
    "decimal(9,2)": decimals(9, 2),
    "decimal(18,18)": decimals(18, 18),
    "decimal(38,5)": decimals(38, 5),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": INSTANTS,
    "timestamp_s": INSTANTS.map(lambda t: t.replace(microsecond=0)),
    "timestamptz": INSTANTS.map(lambda t: t.replace(tzinfo=UTC)),
    "varchar": TEXTS,
    "blob": st.binary(max_size=30),
    "uuid": st.uuids(),
}
ROWS = st.lists(st.tuples(*(st.none() | values for values in VALUES.values())), min_size=1, max_size=4)
ALL = make_view({f"f{n}": data_type for n, data_type in enumerate(VALUES)})


def pack(con, view, rows, *, at=NOON):
    """The keys and values of rows of the view's features, of entities 0, 1, ..."""
    types = [c.data_type for c in view.features]
    tuples = ", ".join(
        "(" + ", ".join([f"'{n}'", typed_literal(at, "timestamptz"), *map(typed_literal, row, types)]) + ")"
        for n, row in enumerate(rows)
    )
    names = ", ".join(["pump", "known_at", *(c.name for c in view.features)])
    packer = Packer(view)
    batches = packer.batches(con, f"(values {tuples}) t({names}) order by pump")
    return [pair for batch in batches for pair in batch]


def unpack(view, pairs):
    decoded = Layout(view).decode([value for _, value in pairs], range(len(view.features)))
    return list(zip(*decoded.columns, strict=True))


def same(one, other):
    """Equal, of one type, NaN equal to itself and zeros told apart by sign."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (
            math.isnan(one) and math.isnan(other)
        )
    return one == other


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(ROWS)
def test_every_value_of_every_type_comes_back(duck, rows):
    back = unpack(ALL, pack(duck, ALL, rows))
    assert len(back) == len(rows)
    for given_row, read_row in zip(rows, back, strict=True):
        for (data_type, value), read in zip(zip(VALUES, given_row, strict=True), read_row, strict=True):
            assert same(value, read), (data_type, value, read)


def lists(values, size=None):
    return st.lists(st.none() | values, min_size=size or 0, max_size=3 if size is None else size)


LISTS = {f"{data_type}[]": lists(values) for data_type, values in VALUES.items()} | {
    "float[3]": lists(VALUES["float"], 3),
    "double[][]": lists(lists(VALUES["double"])),
    "varchar[][]": lists(lists(TEXTS)),
    "decimal(38,5)[2][]": lists(lists(VALUES["decimal(38,5)"], 2)),
}
ALL_LISTS = make_view({f"f{n}": data_type for n, data_type in enumerate(LISTS)})


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.lists(st.tuples(*(st.none() | values for values in LISTS.values())), min_size=1, max_size=4))
def test_every_list_of_every_type_comes_back(duck, rows):
    back = unpack(ALL_LISTS, pack(duck, ALL_LISTS, rows))
    for given_row, read_row in zip(rows, back, strict=True):
        for data_type, value, read in zip(LISTS, given_row, read_row, strict=True):
            assert same(value, read), (data_type, value, read)


def test_no_list_an_empty_one_and_one_of_a_null_are_three_things(duck):
    view = make_view({"a": "integer[]", "b": "varchar[]", "c": "integer[][]", "d": "double"})
    rows = [(None, None, None, 1.5), ([], [], [], None), ([None], [None, ""], [[], None, [1, None]], 0.0)]
    assert unpack(view, pack(duck, view, rows)) == rows


def test_values_read_are_those_that_duckdb_gives(duck):
    types = {"a": "timestamp", "b": "date", "c": "decimal(4,1)", "d": "float", "e": "time", "f": "hugeint"}
    row = ["infinity", "-infinity", "3", "0.1", "23:59:59.999999", "-5"]
    view = make_view(types)
    expected = duck.execute("select " + ", ".join(map(typed_literal, row, types.values()))).fetchall()
    assert unpack(view, pack(duck, view, [row])) == expected


def test_null_nan_zero_and_empty_are_four_things(duck):
    view = make_view({"x": "double", "t": "varchar", "b": "blob"})
    rows = [(None, None, None), (math.nan, "", b""), (0.0, "\0", b"\0")]
    back = unpack(view, pack(duck, view, rows))
    assert back[0] == (None, None, None)
    assert math.isnan(back[1][0])
    assert back[1][1:] == ("", b"")
    assert back[2] == rows[2]


@pytest.mark.parametrize("count", [1, 8, 9, 16, 17, 32, 33, 64, 65, 200])
def test_any_number_of_features_has_a_null_bit_each(duck, count):
    view = make_view({f"f{n}": ("integer", "varchar")[n % 2] for n in range(count)})
    rows = [
        tuple(None if n == null else (n, f"t{n}")[n % 2] for n in range(count))
        for null in {0, count // 2, count - 1}
    ]
    assert unpack(view, pack(duck, view, rows)) == rows


def test_some_features_can_be_read_in_any_order(duck):
    view = make_view({"a": "varchar", "b": "integer", "c": "varchar", "d": "varchar"})
    pairs = pack(duck, view, [("one", 2, None, "four"), ("", None, "three", "")])
    layout = Layout(view)
    wanted = [layout.position(name) for name in ("d", "b", "c")]
    assert layout.decode([v for _, v in pairs], wanted).columns == [["four", ""], [2, None], [None, "three"]]


def test_the_timestamp_is_kept_to_the_microsecond(duck):
    view = make_view({"x": "integer"})
    at = datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    (pair,) = pack(duck, view, [(1,)], at=at)
    assert list(map(from_micros, Layout(view).decode([pair[1]], [0]).timestamps)) == [at]
    assert micros(at) == -1


def test_the_same_row_always_has_the_same_bytes(duck):
    duck.execute(
        "create or replace table held as select 'p' as pump, now() as known_at, i as x, "
        "'t' || i as t from range(3000) r(i)"
    )
    duck.execute("update held set x = null, t = null where x % 7 = 0")
    view = make_view({"x": "bigint", "t": "varchar"})
    packer = Packer(view)
    whole = sorted(p[1] for batch in packer.batches(duck, "held") for p in batch)
    single = sorted(
        p[1]
        for n in range(0, 3000, 500)
        for batch in packer.batches(duck, f"(from held order by rowid limit 500 offset {n})")
        for p in batch
    )
    assert whole == single


def test_an_entity_that_is_not_stored_decodes_to_nothing():
    layout = Layout(ALL)
    decoded = layout.decode([layout.blank], range(len(ALL.features)))
    assert list(decoded.timestamps) == [NOT_STORED]


@pytest.mark.parametrize(
    "other",
    [
        {"a": "integer", "b": "integer"},  # a feature more
        {"a": "bigint"},  # another type
        {"b": "integer"},  # another name
        {"a": "varchar"},
        {f"f{n}": "double" for n in range(100)},
    ],
)
def test_a_reader_with_another_schema_gets_an_error_and_no_value(duck, other):
    pairs = pack(duck, make_view({"a": "integer"}), [(1,), (2,)])
    reader = make_view(other)
    with pytest.raises(
        SchemaMismatchError, match=rf"readings: found values .* expected {reader.schema_hash}"
    ):
        unpack(reader, pairs)
    mine = pack(duck, reader, [[None] * len(other)])
    with pytest.raises(SchemaMismatchError):
        unpack(reader, [*mine, pairs[0]])


@pytest.mark.parametrize(
    "data_type",
    [
        "interval",
        "interval[]",
        "struct(a integer)",
        "struct(a integer)[]",
        "timestamp_ns",
        "time with time zone",
    ],
)
def test_a_type_that_cannot_be_stored_is_named(data_type):
    with pytest.raises(UnsupportedTypeError, match=r"columns\.x\.data_type: found .* expected one that"):
        Layout(make_view({"x": data_type}))


def test_python_types_are_those_of_duckdb(duck):
    view = make_view({"a": "boolean", "b": "decimal(4,1)", "c": "uuid", "d": "time", "e": "date"})
    row = (True, Decimal("2.5"), UUID(int=7), time(1, 2, 3), date(2024, 2, 29))
    (back,) = unpack(view, pack(duck, view, [row]))
    assert list(map(type, back)) == [bool, Decimal, UUID, time, date]
    assert back == row


def test_an_instant_beyond_pythons_years_is_the_last():
    assert from_micros(2**63 - 1) == datetime.max.replace(tzinfo=UTC)
    assert from_micros(-(2**63)) == datetime.min.replace(tzinfo=UTC)
    assert from_micros(0) + timedelta(days=1) == datetime(1970, 1, 2, tzinfo=UTC)
