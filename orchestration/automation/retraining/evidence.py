"""Where evidence comes from: the registry, the monitoring tables, the training set, and Dagster's runs.

What belongs here: reading it, as it stands at an instant of the platform's clock. What does not: what it
means (``signals``), or what follows (``policy``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from orchestration.automation.retraining import signals
from orchestration.automation.retraining.signals import DriftWindow, Performance, Signal
from orchestration.declarations import Retrain
from orchestration.lakehouse import table_exists
from orchestration.lakehouse.tables import relation
from orchestration.sql import identifier, literal

MONITORING = "monitoring"
ALL_ROWS = ""
"""The slice that holds every row."""
_LESS_IS_BETTER = frozenset({"log_loss", "brier", "ece"})


@dataclass(frozen=True)
class Learnt:
    """A version as the registry tells of it: when it was trained, and what it learnt from."""

    version: str
    trained_at: datetime
    labels_until: datetime
    dataset_version: str
    definition: Mapping[str, str] | None
    """A hash of each thing that defines it; None where it was trained without telling."""


@dataclass(frozen=True)
class Standing:
    """Who serves, and what was trained and judged last: the same version, or one that was not promoted."""

    champion: Learnt
    latest: Learnt


def standing(events: Sequence[Any], champion: Any | None) -> Standing | None:
    """What the registry's events tell of a model; None where nothing serves.

    Args:
        events: Those of the model, in order.
        champion: The event that made the champion serve.
    """
    if champion is None:
        return None
    registered = {e.version: e for e in events if e.kind == "registered"}
    # A challenger that was never judged has been given up on the way: it is trained again.
    judged = [e for e in events if e.kind == "judged"]
    serving = _learnt(registered[champion.version], champion.happened_at)
    if not judged or judged[-1].sequence < registered[champion.version].sequence:
        return Standing(serving, serving)
    return Standing(serving, _learnt(registered[judged[-1].version], judged[-1].happened_at))


def _learnt(registered: Any, at: datetime) -> Learnt:
    detail = registered.detail
    return Learnt(
        version=registered.version,
        trained_at=at,
        labels_until=datetime.fromisoformat(detail["labels_until"]),
        dataset_version=detail["dataset"],
        definition=detail["code"].get("definition") or None,
    )


def latest_performance(
    con: duckdb.DuckDBPyConnection, model: str, version: str, metric: str, labelled: float, now: datetime
) -> Performance | None:
    """How much worse than expected the primary metric was in the newest window with enough labels.

    Of the labels that are known first some outcomes are more frequent: a window counts once the share
    ``labelled`` of its predictions has one.
    """
    if not table_exists(con, MONITORING, "performance"):
        return None
    found = con.execute(
        f"select epoch_us(window_end), labelled, realised, realised_low, realised_high, expected "
        f"from {relation(MONITORING, 'performance')} where model = {literal(model)} "
        f"and model_version = {literal(version)} and slice = {literal(ALL_ROWS)} "
        f"and metric = {literal(metric)} and window_end <= {literal(now)} and labelled >= rows * {labelled} "
        "and realised_low is not null and realised_high is not null "
        "and expected is not null order by window_end desc limit 1"
    ).fetchall()
    if not found:
        return None
    end, rows, value, low, high, expected = found[0]
    less = metric in _LESS_IS_BETTER
    return Performance(
        id=f"{relation_name('performance')}:{_text(end)}",
        rows=rows,
        loss=value - expected if less else expected - value,
        least_loss=low - expected if less else expected - high,
    )


def drift_windows(
    con: duckdb.DuckDBPyConnection, model: str, version: str, count: int, now: datetime
) -> list[DriftWindow]:
    """The last evaluations of drift against a version's reference, oldest first."""
    if not table_exists(con, MONITORING, "drift"):
        return []
    found = con.execute(
        "select epoch_us(window_end), max(rows), "
        "list(column_name order by importance desc, column_name) "
        "filter (where alarm and role = 'feature'), "
        "list(importance order by importance desc, column_name) filter (where alarm and role = 'feature') "
        f"from {relation(MONITORING, 'drift')} where model = {literal(model)} "
        f"and model_version = {literal(version)} and window_end <= {literal(now)} "
        f"group by window_end order by window_end desc limit {count}"
    ).fetchall()
    return [
        DriftWindow(
            id=f"{relation_name('drift')}:{_text(end)}",
            rows=rows,
            drifted=tuple(zip(names or (), (share or 0.0 for share in shares or ()), strict=True)),
        )
        for end, rows, names, shares in reversed(found)
    ]


def relation_name(table: str) -> str:
    """How evidence names a monitoring table."""
    return f"{MONITORING}.{table}"


def _text(micros: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).isoformat()


@dataclass(frozen=True)
class Labels:
    """A training set: where it is, and since when each row's label is known."""

    schema: str
    table: str
    label_known_at: str

    def count(self, con: duckdb.DuckDBPyConnection, after: datetime | None, until: datetime) -> int:
        """Rows whose label became known after one instant, up to another."""
        if not table_exists(con, self.schema, self.table):
            return 0
        column = identifier(self.label_known_at)
        since = "" if after is None else f"{column} > {literal(after)} and "
        return int(
            con.execute(
                f"select count(*) from {relation(self.schema, self.table)} "
                f"where {since}{column} <= {literal(until)}"
            ).fetchall()[0][0]
        )


@dataclass(frozen=True)
class Watched:
    """One model as its triggers see it.

    ``labelled`` is the share of a window's predictions that must have a label. ``definition`` gives each part
    of what defines the model now, in the form of a recorded definition; ``restated`` the partitions of a
    dataset version that are not as they were, with their rows, or None where that is unknown.
    """

    model: str
    metric: str
    policy: Retrain
    labels: Labels
    labelled: float
    definition: Callable[[Mapping[str, str] | None], dict[str, str]]
    restated: Callable[[duckdb.DuckDBPyConnection, Learnt], Sequence[tuple[str, int]] | None]


@dataclass(frozen=True)
class Evidence:
    """All that a decision rests on but what was decided and asked for before."""

    champion: str
    signals: tuple[Signal, ...]
    nothing_new: bool


def gather(con: duckdb.DuckDBPyConnection, watched: Watched, held: Standing, now: datetime) -> Evidence:
    """The signal of each declared trigger, as things stand at an instant.

    Args:
        con: A connection to the lakehouse.
        watched: The model.
        held: Who serves and what was trained last.
        now: The platform's present instant.
    """
    policy, champion, latest = watched.policy, held.champion, held.latest
    new_rows = watched.labels.count(con, latest.labels_until, now)
    found: list[Signal] = []
    if policy.definition:
        current = watched.definition(champion.definition)
        found.append(signals.definition(champion.definition, current))
    if policy.restated:
        found.append(signals.restated(champion.dataset_version, watched.restated(con, champion)))
    if policy.performance is not None:
        measured = latest_performance(
            con, watched.model, champion.version, watched.metric, watched.labelled, now
        )
        found.append(signals.performance(policy.performance, champion.version, measured))
    if policy.drift is not None:
        windows = drift_windows(con, watched.model, champion.version, policy.drift.of, now)
        found.append(signals.drift(policy.drift, champion.version, windows))
    if policy.new_labels is not None:
        known_rows = max(1, watched.labels.count(con, None, champion.labels_until))
        found.append(signals.new_labels(policy.new_labels, latest.version, known_rows, new_rows))
    if policy.age is not None:
        found.append(signals.age(policy.age, latest.version, latest.trained_at, now))
    other = any(s.trigger == "restated" and s.state == "alarm" for s in found) or (
        signals.definition(latest.definition, watched.definition(latest.definition)).state == "alarm"
    )
    return Evidence(champion.version, tuple(found), new_rows == 0 and not other)
