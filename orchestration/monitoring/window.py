"""The predictions of a window, and the labels that are known of them, as SQL.

What belongs here: which rows are watched. What does not: what is counted of them.
"""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from orchestration.lakehouse.tables import relation, table_exists
from orchestration.sql import literal

PREDICTIONS, OUTCOMES = "predictions", "outcomes"
PREDICTION_ID, PREDICTION_AT, VERSION, MODE = "prediction_id", "prediction_at", "model_version", "mode"
SHADOW, ONLINE = "shadow", "online"


@dataclass(frozen=True)
class Watched:
    """The predictions of a model whose time lies in ``[start, end)``, but for those of a shadow."""

    model: str
    start: datetime
    end: datetime

    def where(self, *more: str) -> str:
        """The condition."""
        inside = [
            f"{PREDICTION_AT} >= {literal(self.start)}",
            f"{PREDICTION_AT} < {literal(self.end)}",
            f"{MODE} <> {literal(SHADOW)}",
            *more,
        ]
        return " and ".join(inside)

    def rows(self, version: str | None = None) -> str:
        """A relation with the columns of the table, of all versions or of one."""
        more = () if version is None else (f"{VERSION} = {literal(version)}",)
        return f"(select * from {relation(PREDICTIONS, self.model)} where {self.where(*more)})"

    def versions(self, con: duckdb.DuckDBPyConnection) -> dict[str, int]:
        """The rows of each version that predicted, the one that did last being the last; empty without any."""
        if not table_exists(con, PREDICTIONS, self.model):
            return {}
        found = con.execute(
            f"select {VERSION}, count(*) from {relation(PREDICTIONS, self.model)} where {self.where()} "
            f"group by {VERSION} order by max({PREDICTION_AT}), {VERSION}"
        ).fetchall()
        return {str(version): int(rows) for version, rows in found}

    def labels(self, con: duckdb.DuckDBPyConnection, known_by: datetime) -> str:
        """A relation of ``prediction_id`` and ``label``, of labels known by an instant."""
        if not table_exists(con, OUTCOMES, self.model):
            return f"(select null::varchar as {PREDICTION_ID}, null::boolean as label where false)"
        return (
            f"(select {PREDICTION_ID}, label from {relation(OUTCOMES, self.model)} "
            f"where label is not null and label_known_at <= {literal(known_by)})"
        )
