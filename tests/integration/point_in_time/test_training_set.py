"""The shipped training set: what it knows of a flight, which flights it has, and what they are for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.point_in_time.lake import Lake

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
HOUR, SECOND, DAY = timedelta(hours=1), timedelta(seconds=1), timedelta(days=1)
FLIGHT = {
    "flight_id": "a",
    "carrier": "AA",
    "origin": "JFK",
    "dest": "LAX",
    "tailnum": "N1",
    "scheduled_hour": 10,
    "scheduled_departure_at": NOON + 2 * HOUR,
    "scheduled_arrival_at": NOON + 8 * HOUR,
    "is_late": True,
    "known_at": NOON + 9 * HOUR,
}
KEYS = {
    "origin_congestion": {"origin": "JFK"},
    "carrier_punctuality": {"carrier": "AA"},
    "route_punctuality": {"origin": "JFK", "dest": "LAX"},
    "scheduled_flight_history": {"carrier": "AA", "origin": "JFK", "dest": "LAX", "scheduled_hour": 10},
    "aircraft_rotation": {"tailnum": "N1"},
    "origin_weather": {"origin": "JFK"},
    "aircraft_attributes": {"tailnum": "N1"},
    "airport_attributes": {"airport": "LAX"},
}
TTLS = {
    "origin_congestion": DAY,
    "carrier_punctuality": 7 * DAY,
    "route_punctuality": 28 * DAY,
    "scheduled_flight_history": 60 * DAY,
    "aircraft_rotation": 7 * DAY,
    "origin_weather": 6 * HOUR,
    "aircraft_attributes": 7000 * DAY,
    "airport_attributes": 7000 * DAY,
}


def role_of(view: str) -> str:
    return "dest_airport" if view == "airport_attributes" else view


def build(lake: Lake, *flights: dict[str, Any], **views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lake.fill("stg_flights", flights)
    for view in KEYS:
        lake.fill(view, views.get(view, []))
    return sorted(lake.build("flight_delay_training_set"), key=lambda row: row["flight_id"])


@pytest.mark.parametrize("view", KEYS)
def test_a_view_is_read_two_hours_before_departure_and_no_longer_than_its_ttl(lake: Lake, view: str) -> None:
    for known_at, expected in (
        (NOON, NOON),
        (NOON + SECOND, None),
        (NOON - TTLS[view], NOON - TTLS[view]),
        (NOON - TTLS[view] - SECOND, None),
    ):
        (row,) = build(lake, FLIGHT, **{view: [KEYS[view] | {"known_at": known_at}]})
        assert row["prediction_at"] == NOON
        found = {name: value for name, value in row.items() if name.endswith("__known_at")}
        assert found == {f"{role_of(v)}__known_at": expected if v == view else None for v in KEYS}


@pytest.mark.parametrize("view", KEYS)
def test_an_entity_is_all_of_its_keys_and_one_that_is_unknown_is_none(lake: Lake, view: str) -> None:
    other = {"carrier": "UA", "origin": "LGA", "dest": "BOS", "tailnum": None, "scheduled_hour": 11}
    for key in KEYS[view]:
        column = {"airport": "dest"}.get(key, key)
        for value in (other[column], None):
            rows = [{**KEYS[view], key: value, "known_at": NOON}]
            (row,) = build(lake, {**FLIGHT, column: None} if value is None else FLIGHT, **{view: rows})
            assert row[f"{role_of(view)}__known_at"] is None


def test_on_demand_features_are_of_the_moment_of_prediction(lake: Lake) -> None:
    (row,) = build(
        lake,
        FLIGHT,
        aircraft_rotation=[{"tailnum": "N1", "known_at": NOON - HOUR, "last_event_at": NOON - 3 * HOUR}],
        aircraft_attributes=[{"tailnum": "N1", "known_at": NOON - DAY, "manufactured_year": 2000}],
        airport_attributes=[{"airport": "LAX", "known_at": NOON - DAY, "altitude_ft": 126}],
    )
    assert (row["minutes_since_last_event"], row["aircraft_age_years"]) == (180, 13)
    assert (row["scheduled_duration_min"], row["dest_airport__altitude_ft"]) == (360, 126)


def test_a_flight_is_there_once_its_label_is_known(lake: Lake) -> None:
    clock = datetime(2014, 1, 1, 5, tzinfo=UTC)
    rows = build(
        lake,
        FLIGHT,
        {**FLIGHT, "flight_id": "b", "known_at": clock},
        {**FLIGHT, "flight_id": "c", "known_at": clock + SECOND},
        {**FLIGHT, "flight_id": "diverted", "is_late": None},
        {**FLIGHT, "flight_id": "e", "is_late": False},
    )
    assert [(r["flight_id"], r["is_late"]) for r in rows] == [("a", True), ("b", True), ("e", False)]


def test_a_run_makes_the_rows_whose_label_became_known_in_its_window_wherever_they_were(lake: Lake) -> None:
    start, end = NOON, NOON + DAY
    name = "flight_delay_training_set"
    known = {"a": start - SECOND, "b": start, "c": end - SECOND, "d": end}
    build(lake, *({**FLIGHT, "flight_id": n, "known_at": at} for n, at in known.items()))
    lake.fill(name, [])
    lake.run_window(name, start, end)
    assert {r["flight_id"] for r in lake.rows(name)} == {"b", "c"}
    # A correction: the label of b is now known a day later.
    lake.fill("stg_flights", [{**FLIGHT, "flight_id": "b", "known_at": end + HOUR, "is_late": False}])
    lake.run_window(name, end, end + DAY)
    assert {(r["flight_id"], r["is_late"]) for r in lake.rows(name)} == {("b", False), ("c", True)}


def test_splits_are_by_time_with_an_embargo_in_between(lake: Lake) -> None:
    train_until, validation_until = (datetime(2013, month, 1, 4, tzinfo=UTC) for month in (9, 11))
    embargo = 2 * DAY
    asked = {
        "a": (train_until - SECOND, train_until + embargo, "train"),
        "b": (train_until - SECOND, train_until + embargo + SECOND, "embargo"),
        "c": (train_until, train_until + HOUR, "embargo"),
        "d": (train_until + embargo - SECOND, train_until + embargo, "embargo"),
        "e": (train_until + embargo, validation_until, "validation"),
        "f": (validation_until - SECOND, validation_until + embargo, "validation"),
        "g": (validation_until - SECOND, validation_until + embargo + SECOND, "embargo"),
        "h": (validation_until, validation_until + HOUR, "embargo"),
        "i": (validation_until + embargo, validation_until + 9 * DAY, "test"),
    }
    rows = build(
        lake,
        *(
            {**FLIGHT, "flight_id": name, "scheduled_departure_at": at + 2 * HOUR, "known_at": known_at}
            for name, (at, known_at, _) in asked.items()
        ),
    )
    assert {r["flight_id"]: r["split"] for r in rows} == {name: split for name, (*_, split) in asked.items()}
