"""Made-up histories: staged rows whose instants sit on and beside the edges that matter.

What belongs here: what may happen, and when it becomes known. What does not: what follows from it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests.integration.point_in_time.lake import Row

SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
# New York's clocks go forward, go back, and stay.
ANCHORS = (
    datetime(2013, 3, 10, 7, tzinfo=UTC),
    datetime(2013, 11, 3, 6, tzinfo=UTC),
    datetime(2013, 7, 1, 4, tzinfo=UTC),
)
NOTHING_DELAYED = timedelta(0)
_JITTER = st.sampled_from([NOTHING_DELAYED, -SECOND, SECOND]) | st.integers(-5400, 5400).map(
    lambda s: timedelta(seconds=s)
)


def property_test(max_examples: int) -> hypothesis.settings:
    """The same examples in every run; nothing is written beside the tests."""
    return hypothesis.settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )


def instants(anchor: datetime, lengths: Sequence[timedelta]) -> st.SearchStrategy[datetime]:
    """Instants some lengths from the anchor, to the second or up to 90 minutes beside."""
    steps = st.tuples(st.sampled_from(lengths), st.integers(-1, 2)).map(lambda t: t[0] * t[1])
    return st.tuples(steps, st.just(NOTHING_DELAYED) | steps, _JITTER).map(
        lambda d: anchor + d[0] + d[1] + d[2]
    )


def lateness(lengths: Sequence[timedelta]) -> st.SearchStrategy[timedelta]:
    """How long after it happened a thing becomes known: at once, usually, up to and past each length; or before."""
    edges = [edge for length in lengths for edge in (length - SECOND, length, length + SECOND)]
    usual = st.sampled_from([10 * MINUTE, 10 * MINUTE, NOTHING_DELAYED, -10 * MINUTE])
    far = st.integers(0, int(2 * max(lengths).total_seconds())).map(lambda s: timedelta(seconds=s))
    return usual | st.sampled_from(edges) | far


@st.composite
def flights(draw: st.DrawFn, lengths: Sequence[timedelta], max_size: int = 10) -> list[Row]:
    """Staged flights of few carriers, airports and aircraft, in any order; some twice but for their key."""
    anchor = draw(st.sampled_from(ANCHORS))
    rows = [draw(_flight(anchor, lengths)) for _ in range(draw(st.integers(0, max_size)))]
    rows += [dict(row) for row in rows if draw(st.integers(0, 5)) == 0]
    return [
        row | {"flight_id": f"flight-{number:02d}"} for number, row in enumerate(draw(st.permutations(rows)))
    ]


@st.composite
def _flight(draw: st.DrawFn, anchor: datetime, lengths: Sequence[timedelta]) -> Row:
    status = draw(st.sampled_from(["completed", "completed", "completed", "cancelled", "diverted"]))
    scheduled = draw(instants(anchor, lengths))
    row: dict[str, Any] = {
        "carrier": draw(st.sampled_from(["AA", "UA"])),
        "origin": draw(st.sampled_from(["JFK", "EWR"])),
        "dest": draw(st.sampled_from(["LAX", "SJU"])),
        "scheduled_hour": draw(st.sampled_from([1, 9])),
        "tailnum": draw(st.sampled_from(["N1", "N1", "N2", None])),
        "status": status,
        "scheduled_departure_at": scheduled,
        "scheduled_arrival_at": scheduled + 2 * HOUR,
        "event_at": scheduled,
        "outcome_at": scheduled,
        "is_late": True if status == "cancelled" else None,
    }
    if status != "cancelled":
        delay = draw(st.sampled_from([-7, 0, 14, 15, 16, 95]))
        departed = scheduled + delay * MINUTE
        row |= {
            "departure_delay_min": delay,
            "departed_at": departed,
            "departure_known_at": departed + draw(lateness(lengths)),
            "outcome_at": departed + draw(st.sampled_from([MINUTE, HOUR, HOUR + SECOND, 6 * HOUR])),
        }
    if status == "completed":
        delay = draw(st.sampled_from([-20, 0, 14, 15, 16, 200]))
        row |= {
            "arrival_delay_min": delay,
            "is_late": delay >= 15,
            "air_time_min": draw(st.integers(20, 700)),
            "arrived_at": row["outcome_at"],
        }
    row["known_at"] = row["outcome_at"] + draw(lateness(lengths))
    return row


_REPORT_COLUMNS = (
    "temperature_f",
    "dew_point_f",
    "relative_humidity_pct",
    "wind_speed_kt",
    "wind_gust_kt",
    "precipitation_in",
    "visibility_mi",
)
_REPORTS = [
    dict(zip(_REPORT_COLUMNS, values, strict=True))
    for values in [
        (Decimal("34.00"), Decimal("30.50"), Decimal("86.71"), 12, None, Decimal("0.01"), Decimal("2.99")),
        (Decimal("34.01"), Decimal("34.01"), Decimal("100.00"), 12, 25, Decimal("0.01"), Decimal("3.00")),
        (Decimal("33.98"), None, None, None, None, Decimal("0.00"), Decimal("10.00")),
        (None, Decimal("-9.94"), None, 0, None, Decimal("0.02"), None),
        (Decimal("71.06"), Decimal("61.00"), Decimal("70.55"), None, 18, None, Decimal("0.12")),
        (None, None, None, None, None, Decimal("0.00"), Decimal("7.50")),
    ]
]
_PRESSURES = [Decimal("1012.0"), Decimal("1012.1"), Decimal("998.7"), Decimal("1030.4"), None]
# Up to six hours late and more, by which time a report is no longer news.
_REPORT_LATENESS = [
    66 * MINUTE,
    66 * MINUTE,
    4 * HOUR + 6 * MINUTE,
    5 * HOUR + 30 * MINUTE,
    6 * HOUR - SECOND,
    6 * HOUR,
    6 * HOUR + SECOND,
    15 * HOUR,
    15 * HOUR,
]


@st.composite
def weather(draw: st.DrawFn) -> list[Row]:
    """Staged weather reports of two airports, one an hour at most, in any order, some of them hours late."""
    anchor = draw(st.sampled_from(ANCHORS))
    hours = draw(st.lists(st.integers(0, 9), max_size=10, unique=True))
    keys = [("JFK", hour) for hour in hours] + [("EWR", hour) for hour in hours if hour < 3]
    return [
        draw(st.sampled_from(_REPORTS))
        | {
            "origin": origin,
            "event_at": anchor + hour * HOUR,
            "known_at": anchor + hour * HOUR + draw(st.sampled_from(_REPORT_LATENESS)),
            "pressure_hpa": draw(st.sampled_from(_PRESSURES)),
        }
        for origin, hour in keys
    ]
