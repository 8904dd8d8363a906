"""Rolling sums keep every digit: measures of each exact type, compared with Python's ``Decimal``."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.transformation.macros import rolling_sums

ROLLING_SUMS = rolling_sums()
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOWS = {"1h": HOUR, "3h": 3 * HOUR}
LENGTHS = {"1h": "1 hour", "3h": "3 hours"}
BITS = {"tinyint": 8, "smallint": 16, "integer": 32, "bigint": 64, "hugeint": 128}
SHAPES = [(1, 0), (4, 1), (4, 4), (9, 2), (18, 3), (18, 18), (36, 2), (36, 20)]


def _values(data_type: str) -> st.SearchStrategy[Any]:
    """Values of a type, including its extremes; a few of them add up without an overflow of the sum's type."""
    if data_type == "boolean":
        return st.booleans()
    if data_type.startswith("decimal"):
        width, scale = map(int, data_type[8:-1].split(","))
        limit = 10**width - 1
        return (st.sampled_from((-limit, limit, 1, -1)) | st.integers(-limit, limit)).map(
            lambda n: Decimal((n < 0, Decimal(abs(n)).as_tuple().digits, -scale))  # scaleb() would round.
        )
    bits = BITS[data_type.removeprefix("u")] - (data_type in {"bigint", "hugeint", "ubigint"}) * 4
    low, high = (0, 2**bits - 1) if data_type.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.sampled_from((low, high)) | st.integers(low, high)


def _sum_type(data_type: str) -> str:
    if data_type.startswith("decimal"):
        return f"DECIMAL(38,{data_type[8:-1].split(',')[1]})"
    return "HUGEINT" if data_type in {"hugeint", "ubigint"} else "BIGINT"


TYPES = [
    "boolean",
    *BITS,
    *(f"u{name}" for name in BITS if name != "hugeint"),
    *(f"decimal({width},{scale})" for width, scale in SHAPES),
]
ODD_NAMES = ("e", "order", "two words", "O'Brien", "entered_at", "Event")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(0, 12),  # half hours after noon, when it happened
        st.none() | st.integers(-1, 8),  # half hours after that, when it was known, if it was
        st.integers(0, 2**30),  # picks the value
        st.booleans(),  # whether it was taken back later
    ),
    min_size=1,
    max_size=6,
)


def _expected(events: list[tuple[Any, ...]], entity: str, instant: datetime, length: timedelta) -> Decimal:
    with localcontext(prec=80):
        return sum(
            (
                Decimal(value)
                for of, event_at, known_at, value in events
                if of == entity and value is not None and known_at is not None
                if instant - length < event_at <= instant >= known_at
            ),
            Decimal(0),
        )


def _query(
    con: duckdb.DuckDBPyConnection,
    data_type: str,
    events: list[tuple[Any, ...]],
    *,
    windows: tuple[str, ...] = ("1h", "3h"),
    entity: str = "e",
    measure: str = "m",
) -> Any:
    con.execute(
        f'create or replace table events ("{entity}" varchar, event_at timestamptz, known_at timestamptz, '
        f'"{measure}" {data_type})'
    )
    if events:
        con.executemany("insert into events values (?, ?, ?, ?)", events)
    ctes = ROLLING_SUMS("events", [entity], [measure], {name: LENGTHS[name] for name in windows})
    one, three = f'"{measure}_1h"', f'"{measure}_3h"'
    return con.execute(f'with {ctes} select "{entity}", known_at, {one}, {three}, typeof({three}) from swept')


@pytest.fixture(scope="module")
def con() -> Any:
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("set timezone = 'UTC'")
        yield con


@pytest.mark.parametrize("data_type", TYPES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_sum_has_every_digit(con: duckdb.DuckDBPyConnection, data_type: str, data: st.DataObject) -> None:
    strategy = st.none() | _values(data_type)
    events = []
    for entity, half_hours, delay, _, is_taken_back in data.draw(EVENTS):
        event_at = NOON + half_hours * HOUR / 2
        known_at, value = None if delay is None else event_at + delay * HOUR / 2, data.draw(strategy)
        events.append((entity, event_at, known_at, value))
        # A retraction: the same event with the opposite value, known later.
        is_known = known_at is not None and value is not None
        if is_taken_back and is_known and data_type in {"integer", "decimal(9,2)", "decimal(18,3)"}:
            opposite = -value if value != -(2**31) else value
            events.append((entity, event_at, known_at + HOUR, opposite))
    windows = data.draw(st.permutations(("1h", "3h")))
    names = {"entity": data.draw(st.sampled_from(ODD_NAMES)), "measure": data.draw(st.sampled_from("mn"))}
    if data.draw(st.booleans()):
        names = {"entity": names["measure"], "measure": names["entity"]}
    rows = _query(con, data_type, events, windows=tuple(windows), **names).fetchall()
    for entity, instant, one, three, kind in rows:
        assert kind == _sum_type(data_type)
        assert Decimal(one) == _expected(events, entity, instant, WINDOWS["1h"])
        assert Decimal(three) == _expected(events, entity, instant, WINDOWS["3h"])
    known_events = [(e, at, max(at, known)) for e, at, known, _ in events if known is not None]
    entering = {(e, entered) for e, at, entered in known_events if entered < at + WINDOWS["3h"]}
    assert entering <= {(entity, instant) for entity, instant, *_ in rows}


def test_twenty_four_times_four_tenths_is_nine_and_six_tenths(con: duckdb.DuckDBPyConnection) -> None:
    events = [("a", NOON, NOON, Decimal("0.4"))] * 24
    ((*_, three, kind), *_) = _query(con, "decimal(4,1)", events).fetchall()
    assert (three, kind) == (Decimal("9.6"), "DECIMAL(38,1)")


@pytest.mark.parametrize(("data_type", "value"), [("bigint", 2**63 - 1), ("hugeint", 2**127 - 1)])
def test_a_sum_that_its_type_cannot_hold_fails(
    con: duckdb.DuckDBPyConnection, data_type: str, value: int
) -> None:
    with pytest.raises(duckdb.Error, match=r"out of range|Out of Range|[Oo]verflow"):
        _query(con, data_type, [("a", NOON, NOON, value)] * 3).fetchall()


@pytest.mark.parametrize("data_type", ["float", "double", "uhugeint"])
@pytest.mark.parametrize("events", [[], [("a", NOON, NOON, 1)]], ids=["no rows", "a row"])
def test_a_measure_whose_sums_would_round_is_an_error(
    con: duckdb.DuckDBPyConnection, data_type: str, events: list[tuple[Any, ...]]
) -> None:
    ctes = ROLLING_SUMS("events", ["e"], ["m"], LENGTHS)
    message = rf"m\.sql: rolling_sums\.measures\.m: found {data_type}, .* cast\(m as decimal\(18, 6\)\) as m"
    with pytest.raises(duckdb.Error, match=message):
        _query(con, data_type, events).fetchall()
        con.execute(f"with {ctes.split('/* exact_measures ends */')[0]} from exact_measures").fetchall()
