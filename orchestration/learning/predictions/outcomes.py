"""What became of predictions: ``outcomes.<model>``, a row for each, with its label once that is known.

A label is joined by the key of the prediction's row, from the training set, when it is known on the
platform's clock. ``state`` says where it stands:

- ``pending``: not known yet;
- ``known``;
- ``late``: known, but first known longer after the prediction than ``predict.late_after``;
- ``never``: not known ``predict.never_after`` after the prediction. Should it come all the same, it is
  ``late``.

A label that is revised replaces what was known: ``label`` is the newest, ``first_label`` what was known
first, ``revisions`` how often it changed; one that is withdrawn leaves ``label`` null. What belongs here:
that join. What does not: how good the predictions were (``orchestration.monitoring``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from orchestration.lakehouse import LakehouseResource, table_exists
from orchestration.lakehouse.tables import relation
from orchestration.learning.predictions.table import PREDICTIONS, ensure_table
from orchestration.learning.spec import ModelSpec
from orchestration.sql import identifier, literal

OUTCOMES = "outcomes"
"""Schema of the tables, and first part of the assets' keys."""

OUTCOME_COLUMNS: Mapping[str, str] = {
    "prediction_id": "varchar",
    "mode": "varchar",
    "model_version": "varchar",
    "prediction_at": "timestamptz",
    "score": "double",
    "decision": "boolean",
    "state": "varchar",
    "label": "boolean",
    "label_known_at": "timestamptz",
    "first_label": "boolean",
    "first_known_at": "timestamptz",
    "revisions": "integer",
    "recorded_at": "timestamptz",
}
STATES = ("pending", "known", "late", "never")

_KEY = ("prediction_id", "mode", "model_version")
_TOLD = ("prediction_at", "score", "decision", "state", "label", "label_known_at")


@dataclass(frozen=True)
class Outcomes:
    """How many predictions stand where, and how long labels took.

    Hours are from prediction to when the label was first known; None where none is.
    """

    states: Mapping[str, int]
    changed: int
    removed: int
    revised: int
    hours_median: float | None
    hours_most: float | None
    """Of 95 labels in 100."""

    @property
    def rows(self) -> int:
        """Predictions."""
        return sum(self.states.values())

    @property
    def completeness(self) -> float | None:
        """The share with a label, of those whose label is there or is not waited for any longer."""
        come = self.states["known"] + self.states["late"]
        settled = come + self.states["never"]
        return come / settled if settled else None

    @property
    def late_share(self) -> float | None:
        """The share of labels that were late."""
        come = self.states["known"] + self.states["late"]
        return self.states["late"] / come if come else None


def record_outcomes(lakehouse: LakehouseResource, spec: ModelSpec, now: datetime) -> Outcomes:
    """Take in the labels that have become known, changed or gone, in one transaction.

    Args:
        lakehouse: Where predictions and the training set are.
        spec: The model.
        now: The platform's present instant; labels known later do not count.
    """
    table = relation(OUTCOMES, spec.name)
    columns = ", ".join(OUTCOME_COLUMNS)
    same = " and ".join(f"held.{name} = found.{name}" for name in _KEY)
    differs = " or ".join(f"held.{name} is distinct from found.{name}" for name in _TOLD)

    def work(con: duckdb.DuckDBPyConnection) -> Outcomes:
        ensure_table(con, OUTCOMES, spec.name, OUTCOME_COLUMNS)
        if not table_exists(con, PREDICTIONS, spec.name):
            return _counted(con, table, 0, 0)
        con.execute(f"create or replace temp table _found as {_found(spec, table, now)}")
        con.execute(
            f"create or replace temp table _changed as select found.*, {literal(now)} as recorded_at "
            f"from _found as found left join {table} as held on {same} "
            f"where held.prediction_id is null or {differs}"
        )
        ((gone,),) = con.execute(
            f"delete from {table} as held where not exists (select 1 from _found as found where {same})"
        ).fetchall()
        con.execute(f"delete from {table} as held using _changed as found where {same}")
        ((changed,),) = con.execute(
            f"insert into {table} ({columns}) select {columns} from _changed "
            "order by prediction_at, prediction_id"
        ).fetchall()
        told = _counted(con, table, int(changed), int(gone))
        for name in ("_found", "_changed"):
            con.execute(f"drop table {name}")
        return told

    return lakehouse.write(work)


def _found(spec: ModelSpec, table: str, now: datetime) -> str:
    """SQL of each prediction with its label as it is known now, and what the table holds of earlier ones."""
    training_set, declared = spec.training_set, spec.predicted.declared
    label = f"labels.{identifier(training_set.label)}"
    known_at = f"labels.{identifier(training_set.label_known_at)}"
    on = " and ".join(f"made.{identifier(name)} = labels.{identifier(name)}" for name in spec.predicted.key)
    same = " and ".join(f"held.{name} = made.{name}" for name in _KEY)

    def past(instant: str, limit: timedelta) -> str:
        return f"{instant} > prediction_at + interval '{int(limit.total_seconds())} seconds'"

    late = past("first_known_at", declared.late_after or declared.never_after)
    return f"""
        select
            prediction_id, mode, model_version, prediction_at, score, decision, label, label_known_at,
            case when held_at is null then label else held_label end as first_label,
            first_known_at,
            held_revisions + cast(held_at is not null and last_label is distinct from label as integer)
                as revisions,
            case
                when label is not null then case when {late} then 'late' else 'known' end
                when {past(literal(now), declared.never_after)} then 'never'
                else 'pending'
            end as state
        from (
            select
                made.prediction_id, made.mode, made.model_version, made.prediction_at, made.score,
                made.decision, {label} as label, {known_at} as label_known_at,
                held.first_known_at as held_at, held.first_label as held_label, held.label as last_label,
                coalesce(held.revisions, 0) as held_revisions,
                coalesce(held.first_known_at, {known_at}) as first_known_at
            from {relation(PREDICTIONS, spec.name)} as made
            left join {relation(spec.table.schema, spec.table.name)} as labels
                on {on} and {known_at} <= {literal(now)} and {label} is not null
            left join {table} as held on {same}
        )
    """


def _counted(con: duckdb.DuckDBPyConnection, table: str, changed: int, removed: int) -> Outcomes:
    found = dict(con.execute(f"select state, count(*) from {table} group by state").fetchall())
    hours = "date_diff('second', prediction_at, first_known_at) / 3600"
    ((revised, median, most),) = con.execute(
        f"select count(*) filter (where revisions > 0), median({hours}), quantile_cont({hours}, 0.95) "
        f"from {table}"
    ).fetchall()
    states = {state: int(found.get(state, 0)) for state in STATES}
    return Outcomes(states, changed, removed, int(revised), median, most)
