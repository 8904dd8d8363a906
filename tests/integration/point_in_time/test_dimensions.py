"""Attributes that change slowly: every version stays, and holds from when it was delivered."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.point_in_time.histories import DAY, property_test
from tests.integration.point_in_time.lake import Lake, Row

FIRST = datetime(2013, 1, 1, 5, tzinfo=UTC)
Version = tuple[Any, ...]

AIRCRAFT = ("aircraft_attributes", "stg_planes", "tailnum", "manufacturer", "aircraft_type")
AIRPORTS = ("airport_attributes", "stg_airports", "airport", "time_zone", "is_corrected")


@st.composite
def _deliveries(draw: st.DrawFn) -> list[dict[str, tuple[Any, bool]]]:
    """Registers, one after another: of each entity an attribute, and a column that is no attribute."""
    entry = st.tuples(st.sampled_from(["a", "b", None]), st.booleans())
    return draw(
        st.lists(st.dictionaries(st.sampled_from(["one", "two", "three"]), entry), min_size=1, max_size=5)
    )


@pytest.mark.parametrize("dimension", [AIRCRAFT, AIRPORTS], ids=["aircraft", "airports"])
@property_test(40)
@given(deliveries=_deliveries(), data=st.data())
def test_a_dimension_tells_what_was_delivered_by_an_instant(
    lake: Lake, dimension: tuple[str, ...], deliveries: list[dict[str, tuple[Any, bool]]], data: Any
) -> None:
    view, source, entity, attribute, beside = dimension
    lake.fill(view, [])
    register: dict[str, tuple[Any, datetime]] = {}
    told: dict[str, dict[datetime, Any]] = {}
    for number, delivery in enumerate(deliveries):
        delivered = FIRST + number * DAY
        # An entry that has not changed keeps the instant of its delivery.
        register = {
            key: register[key] if key in register and register[key][0] == entry else (entry, delivered)
            for key, entry in delivery.items()
        }
        if not data.draw(st.booleans(), label="a run comes"):
            continue
        before = lake.rows(view)
        lake.fill(
            source, [_staged(entity, attribute, beside, key, *entry) for key, entry in register.items()]
        )
        lake.run_window(view, FIRST, FIRST + DAY)
        lake.run_window(view, FIRST, FIRST + DAY)
        rows = lake.rows(view)
        assert all(row in rows for row in before)

        for key, (entry, since) in register.items():
            versions = told.setdefault(key, {})
            if not versions or versions[max(versions)] != entry[0]:
                versions[since] = entry[0]
        found: dict[str, dict[datetime, Any]] = {}
        for row in rows:
            found.setdefault(row[entity], {})[row["known_at"]] = row[attribute]
        assert found == told
        assert len(rows) == sum(map(len, told.values()))


def _staged(
    entity: str, attribute: str, beside: str, key: str, entry: tuple[Any, bool], delivered: datetime
) -> Row:
    return {entity: key, attribute: entry[0], beside: entry[1], "event_at": delivered, "known_at": delivered}


@pytest.mark.parametrize("dimension", [AIRCRAFT, AIRPORTS], ids=["aircraft", "airports"])
@pytest.mark.parametrize("version", [0, 1], ids=["an older version", "the newest version"])
def test_a_version_that_is_computed_otherwise_now_is_replaced(
    lake: Lake, dimension: tuple[str, ...], version: int
) -> None:
    view, source, entity, attribute, beside = dimension
    instants = [FIRST, FIRST + DAY]
    lake.fill(
        view,
        [{entity: "one", attribute: value, "known_at": at} for value, at in zip("ab", instants, strict=True)],
    )
    lake.fill(source, [_staged(entity, attribute, beside, "one", ("mended", True), instants[version])])
    lake.run_window(view, FIRST, FIRST + DAY)
    rows = {row["known_at"]: row[attribute] for row in lake.rows(view)}
    assert rows == dict(zip(instants, "ab", strict=True)) | {instants[version]: "mended"}
