"""What feature views mean, in plain Python and by brute force.

Written from the definitions and the columns' descriptions, not from the SQL: for one instant it looks
at every event there is. What belongs here: meaning. What does not: events, or how a view is built.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Row = Mapping[str, Any]
Entity = tuple[Any, ...]
Features = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """Something that happened to an entity, and from when it was known that it had."""

    entity: Entity
    happened: datetime
    known: datetime
    kind: str
    facts: Row

    @property
    def visible(self) -> datetime:
        """From when it may count: once it has happened, and is known."""
        return max(self.happened, self.known)


@dataclass(frozen=True)
class View:
    """A feature view: its events, and its features at an instant by what is visible then.

    Attributes:
        events: What of the source's rows is an event of the view.
        features: The features at an instant by what had happened and was known; None if they tell nothing.
        lengths: Durations that matter to it.
        ends: Whether an event's part in the features ends these durations after it happened.
    """

    name: str
    entity: Sequence[str]
    source: str
    events: Callable[[Iterable[Row]], list[Event]]
    features: Callable[[Sequence[Event], datetime], Features | None]
    lengths: Sequence[timedelta]
    ends: bool = False

    def at(self, events: Iterable[Event], entity: Entity, instant: datetime) -> Features | None:
        """The entity's features at an instant; None if there is nothing to tell."""
        mine = [e for e in events if e.entity == entity and e.happened <= instant and e.known <= instant]
        return self.features(mine, instant)

    def counts(self, event: Event) -> bool:
        """Whether it ever has a part in the features: it is not known only when that has ended."""
        longest = event.happened + max(self.lengths)
        return event.visible < longest if self.ends else event.visible <= longest

    def edges(self, events: Iterable[Event]) -> dict[Entity, set[datetime]]:
        """The only instants at which an entity's features may change."""
        found: dict[Entity, set[datetime]] = {}
        for event in events:
            edges = found.setdefault(event.entity, set())
            edges.add(event.visible)
            if self.ends:
                edges.update(event.happened + length for length in self.lengths)
        return found


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _share(flags: Sequence[bool]) -> float | None:
    return flags.count(True) / len(flags) if flags else None


def _in_last(length: timedelta, events: Iterable[Event], instant: datetime) -> list[Event]:
    return [e for e in events if instant - length < e.happened <= instant]


def _entity(row: Row, columns: Sequence[str]) -> Entity:
    return tuple(row[c] for c in columns)


def _departures_and_cancellations(rows: Iterable[Row]) -> list[Event]:
    found = []
    for row in rows:
        if row["status"] == "cancelled":
            happened, known, kind = row["scheduled_departure_at"], row["known_at"], "cancelled"
        else:
            happened, known, kind = row["departed_at"], row["departure_known_at"], "departed"
        found.append(Event((row["origin"],), happened, known, kind, row))
    return found


def _outcomes_of(*entity: str) -> Callable[[Iterable[Row]], list[Event]]:
    def outcomes(rows: Iterable[Row]) -> list[Event]:
        return [Event(_entity(r, entity), r["outcome_at"], r["known_at"], r["status"], r) for r in rows]

    return outcomes


def _congestion(events: Sequence[Event], instant: datetime) -> Features:
    features: Features = {}
    for hours in (1, 3, 24):
        recent = _in_last(timedelta(hours=hours), events, instant)
        delays = [e.facts["departure_delay_min"] for e in recent if e.kind == "departed"]
        features |= {
            f"departures_{hours}h": len(delays),
            f"mean_departure_delay_{hours}h": _mean(delays),
            f"late_share_{hours}h": _share([delay >= 15 for delay in delays]),
            f"cancellations_{hours}h": sum(e.kind == "cancelled" for e in recent),
        }
    return features


def _punctuality(
    windows: Mapping[str, timedelta], *, air_time: bool = False
) -> Callable[[Sequence[Event], datetime], Features]:
    def punctuality(events: Sequence[Event], instant: datetime) -> Features:
        features: Features = {}
        for name, length in windows.items():
            recent = _in_last(length, events, instant)
            arrived = [e.facts for e in recent if e.kind == "completed"]
            features |= {
                f"flights_{name}": len(recent),
                f"mean_arrival_delay_{name}": _mean([f["arrival_delay_min"] for f in arrived]),
                f"late_share_{name}": _share([f["arrival_delay_min"] >= 15 for f in arrived]),
                f"cancelled_share_{name}": _share([e.kind == "cancelled" for e in recent]),
            }
            if air_time:
                features[f"mean_air_time_{name}"] = _mean([f["air_time_min"] for f in arrived])
        return features

    return punctuality


def _legs(rows: Iterable[Row]) -> list[Event]:
    found = []
    for row in rows:
        tailnum, status = row["tailnum"], row["status"]
        if tailnum is None:
            continue
        if status != "cancelled":
            found.append(Event((tailnum,), row["departed_at"], row["departure_known_at"], "departed", row))
        outcome = "arrived" if status == "completed" else status
        found.append(Event((tailnum,), row["outcome_at"], row["known_at"], outcome, row))
    return found


def _told_within(length: timedelta, events: Iterable[Event]) -> list[Event]:
    """Without those that were known only when whoever asks had stopped to care."""
    return [e for e in events if e.visible - e.happened <= length]


def _last_leg(events: Sequence[Event], instant: datetime) -> Features | None:
    told = _told_within(timedelta(days=7), events)
    if not told:
        return None
    # Of simultaneous events, that of the greater key.
    last = max(told, key=lambda e: (e.happened, e.facts["flight_id"], e.kind))
    return {
        "last_status": last.kind,
        "last_origin": last.facts["origin"],
        "last_dest": last.facts["dest"],
        "last_scheduled_departure_at": last.facts["scheduled_departure_at"],
        "last_scheduled_arrival_at": last.facts["scheduled_arrival_at"],
        "last_event_at": last.happened,
        "last_departure_delay_min": last.facts.get("departure_delay_min"),
        "last_arrival_delay_min": last.facts["arrival_delay_min"] if last.kind == "arrived" else None,
    }


def _reports(rows: Iterable[Row]) -> list[Event]:
    return [Event((r["origin"],), r["event_at"], r["known_at"], "report", r) for r in rows]


def _last_report(events: Sequence[Event], instant: datetime) -> Features | None:
    told = _told_within(timedelta(hours=6), events)
    if not told:
        return None
    last = max(told, key=lambda e: e.happened)
    facts = last.facts
    # The change of pressure is told with the report, by what was known then.
    before = [
        e.facts["pressure_hpa"]
        for e in events
        if e.happened == last.happened - timedelta(hours=3) and e.known <= last.known
    ]
    return {
        "observed_at": last.happened,
        "temperature_f": facts["temperature_f"],
        "dew_point_spread_f": _difference(facts["temperature_f"], facts["dew_point_f"]),
        "relative_humidity_pct": facts["relative_humidity_pct"],
        "wind_speed_kt": facts["wind_speed_kt"],
        "strongest_wind_kt": facts["wind_speed_kt"]
        if facts["wind_gust_kt"] is None
        else facts["wind_gust_kt"],
        "is_gusty": facts["wind_gust_kt"] is not None,
        "precipitation_in": facts["precipitation_in"],
        "is_freezing_precipitation": _all_known(
            _known(facts["precipitation_in"], lambda inches: inches > 0),
            _known(facts["temperature_f"], lambda degrees: degrees <= 34),
        ),
        "visibility_mi": facts["visibility_mi"],
        "is_low_visibility": _known(facts["visibility_mi"], lambda miles: miles < 3),
        "pressure_hpa": facts["pressure_hpa"],
        "pressure_change_3h": _difference(facts["pressure_hpa"], before[0]) if before else None,
    }


def _difference(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one - other


def _known(value: Any, condition: Callable[[Any], bool]) -> bool | None:
    return None if value is None else condition(value)


def _all_known(*conditions: bool | None) -> bool | None:
    """Whether all hold: no as soon as one does not, unknown if one of the others is."""
    if False in conditions:
        return False
    return None if None in conditions else True


def _rolling(
    name: str, entity: Sequence[str], windows: Mapping[str, timedelta], *, air_time: bool = False
) -> View:
    features = _punctuality(windows, air_time=air_time)
    lengths = list(windows.values())
    return View(name, entity, "stg_flights", _outcomes_of(*entity), features, lengths, ends=True)


ROLLING = [
    View(
        name="origin_congestion",
        entity=["origin"],
        source="stg_flights",
        events=_departures_and_cancellations,
        features=_congestion,
        lengths=[timedelta(hours=hours) for hours in (1, 3, 24)],
        ends=True,
    ),
    _rolling("carrier_punctuality", ["carrier"], {"6h": timedelta(hours=6), "7d": timedelta(days=7)}),
    _rolling("route_punctuality", ["origin", "dest"], {"28d": timedelta(days=28)}, air_time=True),
    _rolling(
        "scheduled_flight_history",
        ["carrier", "origin", "dest", "scheduled_hour"],
        {"60d": timedelta(days=60)},
    ),
]
LAST_LEG = View("aircraft_rotation", ["tailnum"], "stg_flights", _legs, _last_leg, [timedelta(days=7)])
LAST_REPORT = View(
    "origin_weather",
    ["origin"],
    "stg_weather",
    _reports,
    _last_report,
    [timedelta(hours=6), timedelta(hours=3)],
)
