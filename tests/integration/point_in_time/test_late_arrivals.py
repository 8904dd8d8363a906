"""Staging day by day loses no row, whenever it arrives and whichever day's run comes next."""

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.integration.point_in_time.histories import ANCHORS, DAY, HOUR, MINUTE, property_test
from tests.integration.point_in_time.lake import Lake, Row
from tests.integration.point_in_time.test_local_clocks import LANDED, ZONES

START, END = ANCHORS[0] - DAY, ANCHORS[0] + 3 * DAY


@st.composite
def _deliveries(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """What each delivery brings: an hour, and a value that tells one version of a row from another."""
    hours = st.integers(0, (END - START) // HOUR - 1)
    row = st.tuples(hours, st.integers(0, 99))
    first, *others = draw(
        st.lists(st.lists(row, max_size=6, unique_by=lambda r: r[0]), min_size=1, max_size=4)
    )
    return [[(0, 0), *(r for r in first if r[0])], *others]


def _weather(hour: int, value: int) -> Row:
    return {"origin": "JFK", "time_hour": START + hour * HOUR, "temp": float(value)}


def _flight(hour: int, value: int) -> Row:
    time_hour = START + hour * HOUR
    day = time_hour - 5 * HOUR
    clock = {"sched_dep_time": day.hour * 100, "sched_arr_time": 1200, "dep_time": None}
    key = {
        "year": day.year,
        "month": day.month,
        "day": day.day,
        "carrier": "AA",
        "flight": hour,
        "origin": "SJU",
    }
    return key | clock | {"dest": "SJU", "time_hour": time_hour, "distance": value}


@property_test(15)
@given(deliveries=_deliveries(), data=st.data())
def test_rows_of_any_day_are_staged_by_the_next_run(
    lake: Lake, deliveries: list[list[tuple[int, int]]], data: Any
) -> None:
    sources = {"weather": ("stg_weather", _weather), "flights": ("stg_flights", _flight)}
    lake.fill("stg_airports", [{"airport": code, "time_zone": zone} for code, zone in ZONES.items()])
    landed: dict[str, dict[int, Row]] = {source: {} for source in sources}
    for model, _ in sources.values():
        lake.fill(model, [])
    for number, delivery in enumerate(deliveries):
        stamps = {"_ingested_at": LANDED + number * MINUTE, "_late_at": _late_at(number)}
        window = data.draw(_windows()) if number else (START, END)
        for source, (model, written) in sources.items():
            landed[source] |= {hour: written(hour, value) | stamps for hour, value in delivery}
            lake.fill(source, landed[source].values())
            lake.run_window(model, *window)
            found, expected = (sorted(map(repr, rows)) for rows in (lake.rows(model), lake.build(model)))
            assert found == expected


def _late_at(number: int) -> datetime | None:
    return END + number * DAY if number else None


def _windows() -> st.SearchStrategy[tuple[datetime, datetime]]:
    hours = st.integers(0, (END - START) // HOUR)
    ends = st.tuples(hours, hours).map(lambda t: (min(t), max(t)))
    return ends.map(lambda t: (START + t[0] * HOUR, START + t[1] * HOUR))


@property_test(40)
@given(
    delivery=st.lists(
        st.tuples(st.integers(0, 95), st.none() | st.integers(-9, 99)), unique_by=lambda r: r[0]
    )
)
def test_no_weather_report_is_known_before_its_hour_is_over_and_it_is_delivered(
    lake: Lake, delivery: list[tuple[int, int | None]]
) -> None:
    late = {START + hour * HOUR: None if days is None else START + days * DAY for hour, days in delivery}
    lake.fill(
        "weather", [_weather(hour, 0) | {"_late_at": late[START + hour * HOUR]} for hour, _ in delivery]
    )
    known = {row["event_at"]: row["known_at"] for row in lake.build("stg_weather")}
    expected = {at: at + 66 * MINUTE for at in late}
    assert known == {at: max(expected[at], late[at] or expected[at]) for at in late}
