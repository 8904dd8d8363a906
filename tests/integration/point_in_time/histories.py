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
    return st.tuples(steps, st.just(NOTHING_DELAYED) | steps, _JITTER).map(lambda d: anchor + d[0] + d[1] + d[2])


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
    return [row | {"flight_id": f"flight-{number:02d}"} for number, row in enumerate(draw(st.permutations(rows)))]


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


@st.composite
def weather(draw: st.DrawFn, max_size: int = 12) -> list[Row]:
    """Staged weather reports of two airports, one an hour at most, some of them hours late."""
    anchor = draw(st.sampled_from(ANCHORS))
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(["JFK", "EWR"]), st.integers(-4, 10)), max_size=max_size, unique=True
        )
    )
    ordinary = st.just(66 * MINUTE)
    late = st.sampled_from([6 * HOUR - SECOND, 6 * HOUR, 6 * HOUR + SECOND, 3 * HOUR + 66 * MINUTE])
    very_late = st.integers(66, 15 * 60).map(lambda m: m * MINUTE)
    return [
        {
            "origin": origin,
            "event_at": anchor + hour * HOUR,
            "known_at": anchor + hour * HOUR + draw(ordinary | ordinary | late | very_late),
            "temperature_f": draw(decimals(3380, 3420)),
            "dew_point_f": draw(decimals(3000, 3420)),
            "relative_humidity_pct": draw(decimals(0, 10000)),
            "wind_speed_kt": draw(st.none() | st.integers(0, 60)),
            "wind_gust_kt": draw(st.none() | st.integers(15, 90)),
            "precipitation_in": draw(decimals(0, 2)),
            "visibility_mi": draw(decimals(295, 305)),
            "pressure_hpa": draw(decimals(9900, 10400, places=1)),
        }
        for origin, hour in keys
    ]


def decimals(smallest: int, greatest: int, places: int = 2) -> st.SearchStrategy[Any]:
    """Decimals of so many places, given in units of the last one; or null."""
    return st.none() | st.integers(smallest, greatest).map(lambda units: Decimal(units).scaleb(-places))
