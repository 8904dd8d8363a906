"""The log of decisions: ``registry.decisions``, one row for each evaluation that said anything new.

Rows are only added. ``registry.retrain_requests`` holds what people asked for by hand. What belongs here:
both tables, and deciding inside the transaction that writes, so that two sensors cannot both fire. What does
not: the policy.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from orchestration.automation.retraining.policy import Decision, is_news
from orchestration.automation.retraining.signals import Signal
from orchestration.lakehouse import LAKE, LakehouseResource, table_exists
from orchestration.settings import Clock
from orchestration.sql import literal

SCHEMA = "registry"
DECISIONS = f"{LAKE}.{SCHEMA}.decisions"
REQUESTS = f"{LAKE}.{SCHEMA}.retrain_requests"
HEAD = f"{LAKE}.{SCHEMA}.decision_head"

_COLUMNS = {
    "id": "varchar",
    "sequence": "bigint",
    "model": "varchar",
    "champion": "varchar",
    "decided_at": "timestamptz",
    "recorded_at": "timestamptz",
    "outcome": "varchar",
    "holds": "varchar[]",
    "triggers": "varchar[]",
    "reason": "varchar",
    "signals": "varchar",
    "evidence": "varchar[]",
    "evaluation": "varchar",
}


@dataclass(frozen=True)
class Request:
    """A training that somebody asked for by hand."""

    id: str
    model: str
    requested_at: datetime
    actor: str
    reason: str


class DecisionLog:
    """The decisions on all models in a lakehouse."""

    def __init__(self, lakehouse: LakehouseResource, clock: Clock) -> None:
        self._lakehouse = lakehouse
        self._clock = clock

    def decisions(self, model: str) -> list[Decision]:
        """The decisions on a model, oldest first."""
        with self._lakehouse.get_connection() as con:
            return read_decisions(con, model)

    def requests(self, model: str) -> list[Request]:
        """What was asked for by hand, oldest first."""
        with self._lakehouse.get_connection() as con:
            return read_requests(con, model)

    def ask(self, model: str, actor: str, reason: str) -> Request:
        """Write down that somebody wants a model trained; the sensor sees it at its next tick."""
        made = Request(uuid.uuid4().hex[:16], model, self._clock.now(), actor, reason)

        def work(con: duckdb.DuckDBPyConnection) -> None:
            create_tables(con)
            con.execute(
                f"insert into {REQUESTS} values ({literal(made.id)}, {literal(model)}, "
                f"{literal(made.requested_at)}, {literal(actor)}, {literal(reason)})"
            )

        self._lakehouse.write(work)
        return made

    def evaluate(self, model: str, decide: Callable[[Sequence[Decision]], Decision]) -> tuple[Decision, bool]:
        """Write down what is decided on the decisions so far, unless it says nothing new.

        Args:
            model: Whose.
            decide: Called again, on what there is by then, when another writer came in between.

        Returns:
            The decision, and whether it was written.
        """
        with self._lakehouse.get_connection() as con:
            past = read_decisions(con, model)
        made = decide(past)
        if not is_news(made, past):
            return past[-1], False

        def work(con: duckdb.DuckDBPyConnection) -> tuple[Decision, bool]:
            create_tables(con)
            past = read_decisions(con, model)
            made = decide(past)
            if not is_news(made, past):
                return past[-1], False
            _insert(con, made, datetime.now(UTC))
            return made, True

        return self._lakehouse.write(work)


def create_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Make the tables where there are none."""
    if table_exists(con, SCHEMA, "decision_head"):
        return
    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    con.execute(f"create schema if not exists {LAKE}.{SCHEMA}")
    con.execute(f"create table {DECISIONS} ({columns})")
    con.execute(
        f"create table {REQUESTS} (id varchar, model varchar, requested_at timestamptz, actor varchar, "
        "reason varchar)"
    )
    # Of two transactions that replace its one row one fails: appending alone would let both commit.
    con.execute(f"create table {HEAD} (id varchar)")
    con.execute(f"insert into {HEAD} values ('')")


def _insert(con: duckdb.DuckDBPyConnection, decision: Decision, recorded_at: datetime) -> None:
    values: Mapping[str, Any] = {
        "id": decision.id,
        "sequence": decision.sequence,
        "model": decision.model,
        "champion": decision.champion,
        "decided_at": decision.decided_at,
        "recorded_at": recorded_at,
        "outcome": decision.outcome,
        "holds": decision.holds,
        "triggers": decision.triggers,
        "reason": decision.reason,
        "signals": json.dumps([signal.as_json() for signal in decision.signals]),
        "evidence": decision.evidence,
        "evaluation": decision.evaluation,
    }
    con.execute(f"insert into {DECISIONS} values ({', '.join(_written(values[n]) for n in _COLUMNS)})")
    con.execute(f"delete from {HEAD}")
    con.execute(f"insert into {HEAD} values ({literal(decision.id)})")


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(literal(v) for v in value)}]::varchar[]"
    return literal(value)


def _instant(micros: int) -> datetime:
    # Not fromtimestamp: a float has not enough digits.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def read_decisions(con: duckdb.DuckDBPyConnection, model: str) -> list[Decision]:
    """The decisions on a model, oldest first."""
    if not table_exists(con, SCHEMA, "decisions"):
        return []
    rows = con.execute(
        "select id, sequence, champion, epoch_us(decided_at), outcome, holds, triggers, reason, signals, "
        f"evidence, evaluation from {DECISIONS} where model = {literal(model)} order by sequence"
    ).fetchall()
    return [
        Decision(
            id=key,
            sequence=sequence,
            model=model,
            champion=champion,
            decided_at=_instant(decided_at),
            outcome=outcome,
            holds=tuple(holds),
            triggers=tuple(triggers),
            reason=reason,
            signals=tuple(
                Signal(**{**told, "evidence": tuple(told["evidence"])}) for told in json.loads(signals)
            ),
            evidence=tuple(evidence),
            evaluation=evaluation,
        )
        for key, sequence, champion, decided_at, outcome, holds, triggers, reason, signals, evidence,
            evaluation in rows
    ]  # fmt: skip


def read_requests(con: duckdb.DuckDBPyConnection, model: str) -> list[Request]:
    """What was asked for by hand, oldest first."""
    if not table_exists(con, SCHEMA, "retrain_requests"):
        return []
    rows = con.execute(
        f"select id, epoch_us(requested_at), actor, reason from {REQUESTS} "
        f"where model = {literal(model)} order by requested_at, id"
    ).fetchall()
    return [Request(key, model, _instant(at), actor, reason) for key, at, actor, reason in rows]


def pending(requests: Sequence[Request], past: Sequence[Decision]) -> list[Request]:
    """The requests that no training has followed yet."""
    answered = {
        request
        for decision in past
        if decision.outcome == "fired"
        for signal in decision.signals
        if signal.trigger == "manual"
        for request in signal.evidence
    }
    return [request for request in requests if request.id not in answered]
