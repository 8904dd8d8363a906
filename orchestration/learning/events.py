"""Events of the registry: how they are chained by their hashes, and how the lakehouse keeps them.

What belongs here: one event, the table of all, the faults of a chain, and who is champion by it. What does
not: which events there may be (``registry``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import duckdb

from orchestration.lakehouse import LAKE, table_exists
from orchestration.learning.artifact import canonical_json, digest
from orchestration.sql import literal

SCHEMA = "registry"
EVENTS, HEAD = f"{LAKE}.{SCHEMA}.events", f"{LAKE}.{SCHEMA}.head"
GENESIS = "0" * 64
"""What the first event holds for the hash of the one before it."""

Kind = Literal["registered", "judged", "promoted", "rolled_back"]

_COLUMNS = {
    "sequence": "bigint",
    "kind": "varchar",
    "model": "varchar",
    "version": "varchar",
    "before": "varchar",
    "happened_at": "timestamptz",
    "recorded_at": "timestamptz",
    "actor": "varchar",
    "run_id": "varchar",
    "reason": "varchar",
    "detail": "varchar",
    "previous_hash": "varchar",
    "hash": "varchar",
}
_SELECT = ", ".join(
    f"epoch_us({name}) as {name}" if kind == "timestamptz" else name for name, kind in _COLUMNS.items()
)
_VIEWS = {
    "model_versions": "select model, version, happened_at as registered_at, actor, run_id, reason, "
    "json_extract_string(detail, '$.training_set') as training_set, "
    "json_extract_string(detail, '$.dataset') as dataset_version, "
    "json_extract_string(detail, '$.algorithm') as algorithm, "
    "json_extract_string(detail, '$.schema_hash') as schema_hash, "
    "json_extract_string(detail, '$.sha256') as sha256, sequence "
    "from {events} where kind = 'registered'",
    "promotions": "select model, kind, before, version as after, happened_at, recorded_at, actor, run_id, "
    "reason, detail as evidence, sequence from {events} where kind in ('promoted', 'rolled_back')",
    "champions": "select model, arg_max(version, sequence) as version, arg_max(happened_at, sequence) "
    "as since, max(sequence) as sequence from {events} where kind in ('promoted', 'rolled_back') "
    "group by model",
}


class RegistryError(ValueError):
    """What is asked for cannot be done; the message says why."""


@dataclass(frozen=True)
class Who:
    """Who does something, in which run, and why."""

    actor: str
    reason: str
    run_id: str | None = None


@dataclass(frozen=True)
class Event:
    """One line of the registry. It happened on the platform's clock and was recorded on the wall clock."""

    sequence: int
    kind: Kind
    model: str
    version: str
    before: str | None
    happened_at: datetime
    recorded_at: datetime
    actor: str
    run_id: str | None
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    previous_hash: str = GENESIS
    hash: str = ""

    def computed_hash(self) -> str:
        """The hash of everything that the event says, and of the event before it."""
        said = asdict(self)
        del said["hash"]
        said |= {name: said[name].astimezone(UTC).isoformat() for name in ("happened_at", "recorded_at")}
        return digest(canonical_json(said))

    @property
    def changes_champion(self) -> bool:
        """Whether another version serves from then on."""
        return self.kind in {"promoted", "rolled_back"}


def champion_of(events: Sequence[Event], model: str, moment: datetime | None = None) -> Event | None:
    """The event that made the version champion which serves, or did at a moment."""
    found = [
        e
        for e in events
        if e.model == model and e.changes_champion and (moment is None or e.happened_at <= moment)
    ]
    return found[-1] if found else None


def serving_stack(events: Sequence[Event], model: str) -> list[str]:
    """Champions under one another: a promotion puts one on top, a rollback takes off down to its own."""
    stack: list[str] = []
    for event in events:
        if event.model != model or not event.changes_champion:
            continue
        if event.kind == "rolled_back" and event.version in stack:
            del stack[stack.index(event.version) :]
        stack.append(event.version)
    return stack


def plain(event: Event) -> dict[str, Any]:
    """Its values by column."""
    return {name: getattr(event, name) for name in _COLUMNS}


def create_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Make tables and views where there are none."""
    if table_exists(con, SCHEMA, "events"):
        return
    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    con.execute(f"create schema if not exists {LAKE}.{SCHEMA}")
    con.execute(f"create table {EVENTS} ({columns})")
    con.execute(f"create table {HEAD} (sequence bigint, hash varchar)")
    con.execute(f"insert into {HEAD} values (0, {literal(GENESIS)})")
    for name, query in _VIEWS.items():
        con.execute(f"create view {LAKE}.{SCHEMA}.{name} as {query.format(events=EVENTS)}")


def read_head(con: duckdb.DuckDBPyConnection) -> tuple[int, str]:
    """Number and hash of the newest event.

    Raises:
        RegistryError: The lakehouse tells of none or of several.
    """
    if not table_exists(con, SCHEMA, "head"):
        return 0, GENESIS
    rows = con.execute(f"select sequence, hash from {HEAD}").fetchall()
    if len(rows) != 1:
        raise RegistryError(f"{HEAD}: found {len(rows)} rows, expected 1")
    return int(rows[0][0]), str(rows[0][1])


def insert_event(con: duckdb.DuckDBPyConnection, event: Event) -> None:
    """Add an event and make it the newest, inside the caller's transaction."""
    values = {**plain(event), "detail": canonical_json(event.detail)}
    con.execute(f"insert into {EVENTS} values ({', '.join(literal(values[name]) for name in _COLUMNS)})")
    con.execute(f"delete from {HEAD}")
    con.execute(f"insert into {HEAD} values ({event.sequence}, {literal(event.hash)})")


def _instant(micros: int) -> datetime:
    # Not fromtimestamp: a float has not enough digits.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def read_events(con: duckdb.DuckDBPyConnection, model: str | None) -> list[Event]:
    """Every event in order, of one model or of all."""
    if not table_exists(con, SCHEMA, "events"):
        return []
    where = "" if model is None else f"where model = {literal(model)}"
    rows = con.execute(f"select {_SELECT} from {EVENTS} {where} order by sequence").fetchall()
    found = []
    for row in rows:
        values = dict(zip(_COLUMNS, row, strict=True))
        values |= {name: _instant(values[name]) for name in ("happened_at", "recorded_at")}
        values["detail"] = json.loads(values["detail"])
        found.append(Event(**values))
    return found


def chain_faults(events: Sequence[Event], head: tuple[int, str]) -> Iterator[str]:
    """Whatever shows that an event is not as it was written, a line each."""
    previous, champions = GENESIS, dict[str, str]()
    for place, event in enumerate(events, start=1):
        name = f"event {event.sequence} ({event.kind} {event.model} {event.version})"
        if event.sequence != place:
            yield f"{name}: found sequence {event.sequence}, expected {place}: an event is missing or doubled"
        if event.previous_hash != previous:
            yield f"{name}: found {event.previous_hash} as the hash before it, expected {previous}"
        if event.computed_hash() != event.hash:
            yield f"{name}: found content of hash {event.computed_hash()}, expected {event.hash}"
        if event.changes_champion:
            if event.before != champions.get(event.model):
                yield f"{name}: found {event.before} before it, expected {champions.get(event.model)}"
            champions[event.model] = event.version
        previous = event.hash
    if head != (len(events), previous):
        yield (
            f"{HEAD}: found event {head[0]} of hash {head[1]}, expected event {len(events)} of hash "
            f"{previous}: the newest events are missing, or were added by other means"
        )
