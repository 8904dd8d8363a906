"""The predictions of a window, and the labels that are known of them, as SQL.

What belongs here: which rows are watched, and which windows are due. What does not: what is counted of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import duckdb

from orchestration.lakehouse.tables import relation, table_exists
from orchestration.learning.predictions.outcomes import OUTCOMES
from orchestration.learning.predictions.table import PREDICTIONS
from orchestration.learning.spec import ModelSpec
from orchestration.monitoring.counting import day_sql
from orchestration.partitions import Window
from orchestration.sql import identifier, literal

PREDICTION_AT = "prediction_at"
IDENTITY = ("prediction_id", "mode", "model_version")
"""What tells a prediction from all others."""
_JOINED = f"using ({', '.join(IDENTITY)})"


@dataclass(frozen=True)
class Source:
    """Where the predictions of a model and their outcomes are, and which instant says when each counts."""

    model: str
    instant: str
    timezone: str

    @classmethod
    def of(cls, spec: ModelSpec) -> "Source":
        """Of a declared model: by the instant that parts its days, where every prediction has it."""
        spine, instant = spec.spine, PREDICTION_AT
        if spine is not None and spine.partition_by in spec.service.declared.request:
            instant = spine.partition_by
        return cls(spec.name, instant, str(spec.timezone))

    @property
    def day(self) -> str:
        """SQL of the day of a prediction."""
        return day_sql(self.instant, self.timezone)

    def is_there(self, con: duckdb.DuckDBPyConnection) -> bool:
        """Whether anything was predicted ever."""
        return table_exists(con, PREDICTIONS, self.model)

    def rows(self, window: Window, *more: str) -> str:
        """A relation with the table's columns: the predictions of a window, but for those of a shadow."""
        instant = identifier(self.instant)
        inside = [
            f"{instant} >= {literal(window.start)}",
            f"{instant} < {literal(window.end)}",
            "mode <> 'shadow'",
            *more,
        ]
        return f"(select * from {relation(PREDICTIONS, self.model)} where {' and '.join(inside)})"

    def of_version(self, window: Window, version: str) -> str:
        """The same of one version."""
        return self.rows(window, f"model_version = {literal(version)}")

    def labels(self, con: duckdb.DuckDBPyConnection, known_by: datetime, rows: str) -> str:
        """A relation of what tells a prediction and of its ``label``, as it was known by an instant.

        Args:
            con: A connection.
            known_by: The instant.
            rows: The predictions: others have no need to be read.
        """
        named = ", ".join(IDENTITY)
        if not table_exists(con, OUTCOMES, self.model):
            nothing = ", ".join(f"null::varchar as {name}" for name in IDENTITY)
            return f"(select {nothing}, null::boolean as label where false)"
        first, last = con.execute(
            f"select min({PREDICTION_AT}), max({PREDICTION_AT}) from {rows}"
        ).fetchall()[0]
        between = "false" if first is None else (
            f"{PREDICTION_AT} between {literal(first)} and {literal(last)}"
        )  # fmt: skip
        return (
            f"(select {named}, label from {relation(OUTCOMES, self.model)} where {between} "
            f"and label is not null and label_known_at <= {literal(known_by)})"
        )

    def with_labels(self, rows: str, labels: str) -> str:
        """A relation of those rows whose label is known, with their ``label``."""
        return f"(select * from {rows} join {labels} {_JOINED})"

    def day_counts(
        self, con: duckdb.DuckDBPyConnection, window: Window, known_by: datetime
    ) -> dict[date, dict[str, tuple[int, int]]]:
        """Rows, and rows with a label, of each version on each day; without predictions empty."""
        if not self.is_there(con):
            return {}
        rows = self.rows(window)
        found: dict[date, dict[str, tuple[int, int]]] = {}
        for day, version, count, labelled in con.execute(
            f"select {self.day} as day, model_version, count(*), count(label) from {rows} "
            f"left join {self.labels(con, known_by, rows)} {_JOINED} group by all "
            f"order by day, max({PREDICTION_AT}), model_version"
        ).fetchall():
            found.setdefault(day, {})[str(version)] = (int(count), int(labelled))
        return found


def window_of(day: date, length: timedelta, zone: ZoneInfo) -> Window:
    """The window of a length that ends with a day, on the clock of a place."""
    end = datetime.combine(day + timedelta(days=1), time.min, zone)
    return Window((end - length).astimezone(UTC), end.astimezone(UTC))


def last_day(now: datetime, zone: ZoneInfo) -> date:
    """The last day that is over."""
    return now.astimezone(zone).date() - timedelta(days=1)


def within(
    counts: Mapping[date, Mapping[str, tuple[int, int]]], day: date, length: timedelta
) -> dict[str, tuple[int, int]]:
    """Rows and labelled rows of each version in the window that ends with a day, the newest version last."""
    first = day - length + timedelta(days=1)
    found: dict[str, tuple[int, int]] = {}
    for at in sorted(counts):
        if first <= at <= day:
            for version, (rows, labelled) in counts[at].items():
                before = found.pop(version, (0, 0))
                found[version] = (before[0] + rows, before[1] + labelled)
    return found
