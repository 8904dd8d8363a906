"""An independent record of what each table was built from and which blocking checks hold for it.

It follows the events of runs and the rows of tables, and decides with its own SQL whether a check holds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import dagster as dg
from dagster import DagsterEventType

from tests.integration.publishing.driver import Driver, RecordedEvent, days_between

WHOLE = "whole table"
UNCHECKED, PASSED, FAILED = "not evaluated", "passed", "failed"
DAYS = tuple(days_between("2024-01-01", "2024-01-10"))
BUILT = DAYS[:8]
"""The days that the template has built and checked."""
TRUTHS: Mapping[tuple[str, str], str] = {
    ("raw/readings", "valid_pump"): "pump not in (select pump from raw.pumps)",
    ("staged/stg_readings", "valid_pressure"): "pressure not between 0 and 16",
    ("features/pump_pressure", "valid_mean_pressure_6h"): "mean_pressure_6h not between 2 and 6",
    ("training/low_pressure_training_set", "no_tall_mean"): "pump_pressure__mean_pressure_6h > 5.2",
}
"""A condition by check: the rows that fail it. Other checks, except ``row_count``, never fail in these tests."""
TABLES = {
    "raw/readings": "read_at",
    "staged/stg_readings": "event_at",
    "features/pump_pressure": "known_at",
    "training/low_pressure_spine": "reading_at",
    "training/low_pressure_training_set": "label_known_at",
}
"""Partitioned tables, each with the column that its days come from."""


@dataclass
class Table:
    """The state of a table by day: of each blocking check, and whether it was built on checked inputs."""

    checks: dict[str, dict[str, str]]
    sound: dict[str, bool] = field(default_factory=dict)

    def faults(self, days: frozenset[str] | None = None) -> list[str]:
        """Every check that does not hold for a day."""
        return [
            f"{name} {state} on {day}"
            for name, by_day in sorted(self.checks.items())
            for day, state in sorted(by_day.items())
            if state != PASSED and (days is None or day in days)
        ]


class Ledger:
    """The tables of a platform, followed event by event."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.violations: list[str] = []
        """Checks that passed on rows that fail them."""
        self._contents: dict[str, object] = {}
        self._truths: dict[tuple[str, str, tuple[str, ...]], bool] = {}
        blocking: dict[str, list[str]] = {}
        for key in driver.graph.asset_check_keys:
            if driver.graph.get(key).blocking:
                blocking.setdefault(key.asset_key.to_user_string(), []).append(key.name)
        self.tables: dict[str, Table] = {}
        for name, checks in blocking.items():
            days = BUILT if name in TABLES else (WHOLE,)
            self.tables[name] = Table(
                {check: dict.fromkeys(days, PASSED) for check in checks}, dict.fromkeys(days, True)
            )
        self._read_contents()

    def faults(self, name: str) -> list[str]:
        """Why a table must not be published; empty if every check holds for it and for its inputs."""
        table = self.tables[name]
        unsound = [f"built on unchecked inputs on {day}" for day, sound in table.sound.items() if not sound]
        return [f"{name}: {fault}" for fault in [*table.faults(), *unsound]]

    def holds(self, name: str) -> bool:
        """Whether every blocking check of a table and of its inputs holds."""
        return name not in self.tables or not self.faults(name)

    def follow(self, found: RecordedEvent) -> None:
        """Record an event of a run."""
        event = found.entry.get_dagster_event() if found.entry.is_dagster_event else None
        if event is None:
            return
        if event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
            name = event.asset_key.to_user_string()
            if name in self.tables:
                self._built(name, self._days(name, found), found)
        elif event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            name, check = evaluation.asset_key.to_user_string(), evaluation.check_name
            if name in self.tables and check in self.tables[name].checks:
                self._evaluated(name, check, self._days(name, found), evaluation)

    def end_run(self, found: RecordedEvent) -> None:
        """Record what a killed run has written without an event."""
        before = dict(self._contents)
        self._read_contents()
        for name in TABLES:
            if self._contents[name] != before[name]:
                self._built(name, self._days(name, found), found)

    def _days(self, name: str, found: RecordedEvent) -> tuple[str, ...]:
        if name not in TABLES:
            return (WHOLE,)
        return DAYS if found.days is None else tuple(days_between(*found.days))

    def _built(self, name: str, days: tuple[str, ...], found: RecordedEvent) -> None:
        table = self.tables[name]
        op = f"dbt_{name.split('/')[0]}"
        is_override = found.config.get("ops", {}).get(op, {}).get("config", {}).get("ignore_failed_checks")
        sound = bool(is_override) or all(self.holds(parent) for parent in self._parents(name))
        for day in days:
            table.sound[day] = sound
            for by_day in table.checks.values():
                by_day[day] = UNCHECKED
        self._truths = {key: value for key, value in self._truths.items() if key[0] != name}
        self._contents[name] = self._content(name) if name in TABLES else None

    def _evaluated(
        self, name: str, check: str, days: tuple[str, ...], evaluation: dg.AssetCheckEvaluation
    ) -> None:
        holds = self._truth(name, check, days)
        if evaluation.passed and not holds:
            self.violations.append(f"{name}: {check} passed on rows that fail it on {days}")
        known = self.tables[name].checks[check]
        for day in days:
            if day in self.tables[name].sound:
                known[day] = PASSED if holds else FAILED

    def _truth(self, name: str, check: str, days: tuple[str, ...]) -> bool:
        if name not in TABLES or (check != "row_count" and (name, check) not in TRUTHS):
            return True
        key = name, check, days
        if key not in self._truths:
            count = "count(*) = 0" if check == "row_count" else f"count(*) filter ({TRUTHS[name, check]}) > 0"
            column = TABLES[name]
            ((fails,),) = self._driver.rows(
                f"select {count} from {name.replace('/', '.')} "
                f"where {column} >= timestamptz '{days[0]} 00:00:00+00' "
                f"and {column} < timestamptz '{days[-1]} 00:00:00+00' + interval 1 day"
            )
            self._truths[key] = not fails
        return self._truths[key]

    def _parents(self, name: str) -> Iterator[str]:
        for key in self._driver.graph.get(dg.AssetKey(name.split("/"))).parent_keys:
            yield key.to_user_string()

    def _read_contents(self) -> None:
        with self._driver.lakehouse.reader() as con:
            for name in TABLES:
                query = f"select count(*), sum(hash(t)::hugeint) from {name.replace('/', '.')} as t"
                self._contents[name] = con.execute(query).fetchall()

    def _content(self, name: str) -> object:
        return self._driver.rows(f"select count(*), sum(hash(t)::hugeint) from {name.replace('/', '.')} as t")
