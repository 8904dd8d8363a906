"""Feature views tell, at every instant, what was known at that instant; each is held against an oracle."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.point_in_time.histories import ANCHORS, HOUR, SECOND, flights, property_test, weather
from tests.integration.point_in_time.lake import Lake, Row
from tests.integration.point_in_time.oracle import LAST_LEG, LAST_REPORT, ROLLING, Entity, Features, View

VIEWS = [*ROLLING, LAST_LEG, LAST_REPORT]
Timeline = dict[Entity, dict[datetime, Features]]

each_view = pytest.mark.parametrize("view", VIEWS, ids=[view.name for view in VIEWS])


def histories(view: View) -> st.SearchStrategy[list[Row]]:
    return weather() if view.source == "stg_weather" else flights(view.lengths)


def timeline(view: View, rows: Iterable[Row]) -> Timeline:
    """Features by entity and instant; an instant of an entity has one row."""
    found: Timeline = defaultdict(dict)
    for row in rows:
        entity, instant = tuple(row[c] for c in view.entity), row["known_at"]
        assert instant not in found[entity], f"two rows of {entity} at {instant}"
        found[entity][instant] = {k: v for k, v in row.items() if k not in (*view.entity, "known_at")}
    return found


def built(lake: Lake, view: View, history: Sequence[Row]) -> Timeline:
    lake.fill(view.source, history)
    return timeline(view, lake.build(view.name))


def as_of(rows: dict[datetime, Features], instant: datetime) -> Features | None:
    """What a reader finds: the newest row known by then."""
    known = [at for at in rows if at <= instant]
    return rows[max(known)] if known else None


def last_known(view: View, history: Sequence[Row]) -> datetime | None:
    """The instant with which a build of the whole of history ends: nothing that counts was known later."""
    return max((e.visible for e in view.events(history) if view.counts(e)), default=None)


def is_nothing(features: Features | None) -> bool:
    return features is None or not any(features.values())


def hold_against_oracle(view: View, history: Sequence[Row], rows: Timeline, until: datetime) -> None:
    """Whoever reads the rows at whatever instant up to the last finds what the oracle says."""
    events = view.events(history)
    edges = view.edges(events)
    assert set(rows) <= set(edges)
    for entity, instants in edges.items():
        mine = rows.get(entity, {})
        assert set(mine) <= instants
        for instant in sorted({at for edge in instants for at in (edge - SECOND, edge)}):
            if instant <= until:
                found, expected = as_of(mine, instant), view.at(events, entity, instant)
                assert found == expected or (found is None and is_nothing(expected)), (entity, instant)


@each_view
@property_test(60)
@given(data=st.data())
def test_whoever_reads_a_view_as_of_an_instant_finds_what_was_known_then(
    lake: Lake, view: View, data: Any
) -> None:
    history = data.draw(histories(view))
    rows, end = built(lake, view, history), last_known(view, history)
    if end is None:
        assert not rows
    else:
        hold_against_oracle(view, history, rows, until=end)


@each_view
@property_test(25)
@given(data=st.data())
def test_a_row_is_the_same_whatever_becomes_known_later(lake: Lake, view: View, data: Any) -> None:
    history = data.draw(histories(view))
    now = data.draw(st.sampled_from(sorted({e.known for e in view.events(history)}) or ANCHORS))
    other = [otherwise for row in history if (otherwise := with_another_future(view, row, now))]
    ends = [now, *(last_known(view, h) or now for h in (history, other))]
    found, expected = (until(min(ends), built(lake, view, h)) for h in (other, history))
    assert found == expected


def with_another_future(view: View, row: Row, now: datetime) -> Row | None:
    """The row had everything gone otherwise that is not known now; None if it is not known at all."""
    known = {event.kind for event in view.events([row]) if event.known <= now}
    unknown = {event.kind for event in view.events([row]) if event.known > now}
    if not known:
        return None
    if unknown == {"departed"}:
        return row | {"departure_known_at": row["departure_known_at"] + HOUR}
    if unknown:
        return row | {
            "status": "diverted" if row["status"] == "completed" else "completed",
            "arrival_delay_min": 33,
            "outcome_at": row["outcome_at"] + HOUR,
            "known_at": row["known_at"] + HOUR,
        }
    return row


@each_view
@property_test(25)
@given(data=st.data())
def test_window_by_window_gives_the_same_rows_as_all_at_once(lake: Lake, view: View, data: Any) -> None:
    history = data.draw(histories(view))
    end = last_known(view, history)
    edges = sorted(set().union(*view.edges(view.events(history)).values()) or ANCHORS)
    cuts = data.draw(st.lists(st.sampled_from(edges), max_size=4, unique=True))
    bounds = [edges[0] - HOUR, *sorted(cuts), edges[-1] + HOUR]
    windows = list(itertools.pairwise(bounds))
    whole = built(lake, view, history)

    lake.fill(view.name, [])
    for window in windows:
        # Only what is known by its end is there when a window's run comes.
        lake.fill(view.source, [row for row in history if is_delivered(view, row, window[1])])
        lake.run_window(view.name, *window)
        assert all(row["known_at"] < window[1] for row in lake.rows(view.name))
    rows = timeline(view, lake.rows(view.name))
    hold_against_oracle(view, history, rows, until=bounds[-1])
    assert end is not None or not rows
    assert until(end, rows) == until(end, whole)

    # A window that is run again, when more is known, stays as it is.
    lake.run_window(view.name, *data.draw(st.sampled_from(windows)))
    assert timeline(view, lake.rows(view.name)) == rows


def is_delivered(view: View, row: Row, end: datetime) -> bool:
    """Whether the source has a row by then: once the first event of it is known."""
    return any(event.known < end for event in view.events([row]))


def until(end: datetime | None, rows: Timeline) -> dict[tuple[Entity, datetime], Features]:
    """The rows up to an instant, of all entities."""
    return {
        (entity, at): row
        for entity, mine in rows.items()
        for at, row in mine.items()
        if end is not None and at <= end
    }


def test_a_report_that_is_known_at_the_start_of_a_window_has_its_change_of_pressure(lake: Lake) -> None:
    """Six hours late, the most there is, its earlier report is nine hours older than the window."""
    start = ANCHORS[0]
    lake.fill(LAST_REPORT.name, [])
    lake.fill(
        LAST_REPORT.source,
        [
            {
                "origin": "JFK",
                "event_at": start - 9 * HOUR,
                "known_at": start - 8 * HOUR,
                "pressure_hpa": 1000,
            },
            {"origin": "JFK", "event_at": start - 6 * HOUR, "known_at": start, "pressure_hpa": 1002},
        ],
    )
    lake.run_window(LAST_REPORT.name, start, start + HOUR)
    assert [(row["known_at"], row["pressure_change_3h"]) for row in lake.rows(LAST_REPORT.name)] == [
        (start, 2)
    ]
