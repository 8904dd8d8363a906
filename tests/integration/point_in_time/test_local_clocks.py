"""Staging gives back the instants of true flights that were written down on local clocks."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.point_in_time.histories import DAY, HOUR, MINUTE, property_test
from tests.integration.point_in_time.lake import Lake, Row

ZONES = {
    "JFK": "America/New_York",
    "ORD": "America/Chicago",
    "DEN": "America/Denver",
    "PHX": "America/Phoenix",
    "LAX": "America/Los_Angeles",
    "ANC": "America/Anchorage",
    "HNL": "Pacific/Honolulu",
    "SJU": "America/Puerto_Rico",
    "LHR": "Europe/London",
}
PUBLICATION_DELAY = 10 * MINUTE
LANDED = datetime(2026, 1, 1, tzinfo=UTC)
# Clocks change somewhere in the hours after; and an ordinary day.
NIGHTS = [
    datetime(2013, *day, tzinfo=UTC) for day in [(3, 10), (11, 3), (11, 3), (3, 31), (10, 27), (12, 31)]
]


@dataclass(frozen=True)
class Flight:
    """What truly happened, as instants."""

    origin: str
    dest: str
    scheduled_departure: datetime
    scheduled_arrival: datetime
    departed: datetime | None
    arrived: datetime | None
    is_diverted: bool
    late_at: datetime | None


def reading(instant: datetime, airport: str) -> datetime:
    """What the clock on the airport's wall reads."""
    return instant.astimezone(ZoneInfo(ZONES[airport])).replace(tzinfo=None)


def hhmm(instant: datetime | None, airport: str) -> int | None:
    if instant is None:
        return None
    local = reading(instant, airport)
    return (local.hour * 100 + local.minute) or 2400


def first_at(clock: int | None, airport: str, after: datetime) -> datetime:
    """The first instant after another one at which the airport's clock shows this, found by looking on."""
    instant = after + MINUTE
    while hhmm(instant, airport) != clock:
        instant += MINUTE
    return instant


def elapsed(start: datetime, end: datetime, airport: str) -> int:
    """A delay as the minutes that passed."""
    return (end - start) // MINUTE


def on_the_clock(start: datetime, end: datetime, airport: str) -> int:
    """A delay as the difference of two readings, which is another one when the clock has changed."""
    return (reading(end, airport) - reading(start, airport)) // MINUTE


def is_read_once(instant: datetime, airport: str) -> bool:
    """Whether no other instant has its reading."""
    local = reading(instant, airport)
    return all(reading(instant + shift, airport) != local for shift in (-HOUR, HOUR))


Delay = Callable[[datetime, datetime, str], int]


@st.composite
def flights(draw: st.DrawFn) -> Flight:
    def minutes(low: int, high: int) -> timedelta:
        return draw(st.integers(low, high)) * MINUTE

    origin, dest = draw(st.sampled_from(["JFK", "JFK", "LAX", "LHR"])), draw(st.sampled_from(sorted(ZONES)))
    night = draw(st.sampled_from(NIGHTS))

    def around(scheduled: datetime) -> datetime:
        """An instant that was scheduled, in truth: a little or a lot beside, or in the night of the change."""
        change = night + minutes(0, 12 * 60)
        if scheduled - HOUR <= change <= scheduled + 20 * HOUR and draw(st.booleans()):
            return change
        return scheduled + draw(st.sampled_from([0, -12, 15, 60]) | st.integers(-60, 1300)) * MINUTE

    scheduled_departure = night + minutes(-12 * 60, 24 * 60)
    scheduled_arrival = scheduled_departure + draw(
        st.just(2 * HOUR) | st.integers(20, 1439).map(lambda m: m * MINUTE)
    )
    fate = draw(st.sampled_from(["arrived", "arrived", "arrived", "cancelled", "diverted", "never came"]))
    departed = arrived = None
    if fate != "cancelled":
        departed = around(scheduled_departure)
        if fate == "arrived":
            arrived = around(scheduled_arrival)
        elif fate == "diverted":
            arrived = departed + minutes(20, 1439)
    return Flight(
        origin,
        dest,
        scheduled_departure,
        scheduled_arrival,
        departed,
        arrived,
        is_diverted=fate in ("diverted", "never came"),
        late_at=draw(st.none() | st.just(scheduled_departure + 9 * DAY)),
    )


def written_down(flight: Flight, number: int, delay: Delay) -> Row:
    """The file's row."""
    local = reading(flight.scheduled_departure, flight.origin)
    row: Row = {
        "year": local.year,
        "month": local.month,
        "day": local.day,
        "carrier": "AA",
        "flight": number,
        "origin": flight.origin,
        "dest": flight.dest,
        "time_hour": flight.scheduled_departure.replace(minute=0),
        "sched_dep_time": local.hour * 100 + local.minute,
        "sched_arr_time": hhmm(flight.scheduled_arrival, flight.dest),
        "dep_time": hhmm(flight.departed, flight.origin),
        "arr_time": hhmm(flight.arrived, flight.dest),
        "_ingested_at": LANDED,
        "_late_at": flight.late_at,
    }
    if flight.departed is not None:
        row["dep_delay"] = delay(flight.scheduled_departure, flight.departed, flight.origin)
    if flight.arrived is not None and not flight.is_diverted:
        row["arr_delay"] = delay(flight.scheduled_arrival, flight.arrived, flight.dest)
    return row


def stage(lake: Lake, rows: list[Row]) -> dict[int, Row]:
    lake.fill("stg_airports", [{"airport": code, "time_zone": zone} for code, zone in ZONES.items()])
    lake.fill("flights", rows)
    return {row["flight_number"]: row for row in lake.build("stg_flights")}


@pytest.mark.parametrize("delay", [elapsed, on_the_clock], ids=["minutes passed", "difference of clocks"])
@property_test(30)
@given(truth=st.lists(flights(), min_size=5, max_size=25))
def test_staging_gives_the_true_instants_back(lake: Lake, delay: Delay, truth: list[Flight]) -> None:
    """Wherever the file determines them.

    It does not where a scheduled arrival, or the arrival of a diverted flight, is not the first instant
    after the departure with its reading; nor where a clock read the same twice and the delay, being a
    difference of clocks, does not tell which.
    """
    staged = stage(lake, [written_down(flight, number, delay) for number, flight in enumerate(truth)])
    assert len(staged) == len(truth)
    for number, flight in enumerate(truth):
        row = staged[number]
        assert row["scheduled_departure_at"] == row["event_at"] == flight.scheduled_departure
        assert row["scheduled_hour"] == reading(flight.scheduled_departure, flight.origin).hour
        sure = delay is elapsed or (flight.departed and is_read_once(flight.departed, flight.origin))
        if sure or flight.departed is None:
            assert row["departed_at"] == flight.departed
        clock = hhmm(flight.scheduled_arrival, flight.dest)
        first = first_at(clock, flight.dest, flight.scheduled_departure)
        assert row["scheduled_arrival_at"] == first
        if flight.arrived is None:
            assert row["arrived_at"] is None
        elif flight.is_diverted:
            assert row["arrived_at"] == first_at(
                hhmm(flight.arrived, flight.dest), flight.dest, row["departed_at"]
            )
        elif first == flight.scheduled_arrival and (
            delay is elapsed or is_read_once(flight.arrived, flight.dest)
        ):
            assert row["arrived_at"] == flight.arrived


@pytest.mark.parametrize(
    "night", [datetime(2013, 3, 10, tzinfo=UTC), datetime(2013, 11, 3, tzinfo=UTC)], ids=["forward", "back"]
)
def test_every_minute_of_a_night_of_change_is_told_apart_by_the_minutes_passed(
    lake: Lake, night: datetime
) -> None:
    """Departures and arrivals at each airport, an hour and a half late each."""
    late = 90 * MINUTE
    truth = [
        Flight(
            airport,
            airport,
            instant - late,
            instant + 3 * HOUR - late,
            instant,
            instant + 3 * HOUR,
            False,
            None,
        )
        for airport in ZONES
        for instant in (night + minute * MINUTE for minute in range(0, 14 * 60, 7))
    ]
    staged = stage(lake, [written_down(flight, number, elapsed) for number, flight in enumerate(truth)])
    for number, flight in enumerate(truth):
        assert staged[number]["departed_at"] == flight.departed
        if (
            first_at(hhmm(flight.scheduled_arrival, flight.dest), flight.dest, flight.scheduled_departure)
            == flight.scheduled_arrival
        ):
            assert staged[number]["arrived_at"] == flight.arrived


@property_test(20)
@given(truth=st.lists(flights(), min_size=5, max_size=25))
def test_no_flight_is_known_before_it_happened_was_published_and_delivered(
    lake: Lake, truth: list[Flight]
) -> None:
    staged = stage(lake, [written_down(flight, number, elapsed) for number, flight in enumerate(truth)])
    for number, flight in enumerate(truth):
        row = staged[number]
        happened = {
            "departure_known_at": row["departed_at"],
            "known_at": row["arrived_at"] or row["departed_at"] or row["event_at"],
        }
        for column, instant in happened.items():
            if instant is None:
                assert row[column] is None
                continue
            seen = max(instant, row["event_at"])
            if column == "known_at" and row["status"] == "diverted" and row["arrived_at"] is None:
                seen = row["departed_at"] + (row["scheduled_arrival_at"] - row["event_at"]) + 3 * HOUR
                seen = max(seen, row["event_at"])
            expected = seen + PUBLICATION_DELAY
            assert row[column] == max(expected, flight.late_at or expected)
            assert row[column] >= row["event_at"]


@property_test(40)
@given(night=st.sampled_from(NIGHTS), airport=st.sampled_from(sorted(ZONES)), minutes=st.integers(0, 59))
def test_a_clock_not_yet_put_forward_is_an_hour_behind(
    lake: Lake, night: datetime, airport: str, minutes: int
) -> None:
    """An arrival in the first hour of summer time, read on a clock that still shows winter time."""
    hours = [night + hour * HOUR for hour in range(24)]
    forward = next((h for h in hours if reading(h, airport) - reading(h - HOUR, airport) == 2 * HOUR), None)
    if forward is None:
        return
    arrived = forward + minutes * MINUTE
    flight = Flight(
        "JFK", airport, forward - 5 * HOUR, forward - HOUR, forward - 4 * HOUR, arrived, False, None
    )
    row = written_down(flight, 1, elapsed)
    unchanged = reading(arrived, airport) - HOUR
    row["arr_time"] = unchanged.hour * 100 + unchanged.minute
    assert stage(lake, [row])[1]["arrived_at"] == arrived
