"""From the lakehouse to the online store: the latest known row of each entity, kept up by what changed.

A materialization reads one snapshot of the lakehouse, up to one instant of the platform's clock. The next one
takes the rows that the change feed names between the two snapshots and those that have become known between
the two instants, so it costs what changed. Entities whose newest row may have been deleted, or stands beside
another of the same instant, are looked up in the history; all others are decided by timestamps. What belongs
here: which rows. What does not: bytes (``packing``) and where they go (``store``).
"""

import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Literal

import duckdb
import pyarrow as pa

from orchestration.declarations import innermost
from orchestration.feature_store.online.encoding import from_micros, micros
from orchestration.feature_store.online.keys import shortened
from orchestration.feature_store.online.packing import Packed, Packer
from orchestration.feature_store.online.store import (
    Changes,
    ConcurrentMaterializationError,
    OnlineStore,
    Position,
    TiedError,
    timestamp_of,
)
from orchestration.feature_store.views import View
from orchestration.lakehouse import LAKE, LakehouseResource, in_transaction
from orchestration.lakehouse.tables import relation
from orchestration.sql import identifier, literal

MAX_CHANGED_ROWS = 1_000_000
"""More changed rows than these are not held in memory: everything is written anew, a batch at a time."""
_ATTEMPTS = 3
_WITH_TWO_ZEROS = frozenset({"float", "double"})
_CATALOG = f"__ducklake_metadata_{LAKE}"


class _TooManyError(Exception):
    """More has changed than is held in memory."""


class _TieError(Exception):
    """An entity has two newest rows."""


@dataclass(frozen=True)
class Materialization:
    """What one materialization did.

    ``mode`` is ``rebuild`` (``reason`` says why) or ``changes``; ``skipped`` rows were older than what the
    store held; ``written_bytes`` are those of keys and values. ``ahead`` rows are in the snapshot and not
    known yet, the first of them at ``next_due``: until a materialization after that instant, readers get the
    row before it.
    """

    view: str
    mode: Literal["rebuild", "changes"]
    reason: str
    written: int
    skipped: int
    deleted: int
    from_snapshot: int | None
    to_snapshot: int
    cutoff: datetime
    written_bytes: int
    ahead: int
    next_due: datetime | None
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Written rows a second, the lakehouse's part included."""
        return self.written / self.seconds if self.seconds else 0.0


def materialize(
    lakehouse: LakehouseResource,
    store: OnlineStore,
    view: View,
    now: datetime,
    *,
    full: bool = False,
    snapshot: int | None = None,
) -> Materialization:
    """Bring a view's online values up to the lakehouse.

    Args:
        lakehouse: Where the view's table is.
        store: Where the values go.
        view: Which view.
        now: The instant up to which rows count as known: the platform's present, or for a rebuild as of
            then, an earlier one.
        full: Write everything anew, whatever the store holds.
        snapshot: The lakehouse snapshot to read; the newest if left out.

    Raises:
        LookupError: The lakehouse has no such table, or not in that snapshot.
        ConcurrentMaterializationError: Others materialized the view each time this one tried to.
    """
    for attempt in range(_ATTEMPTS):
        with lakehouse.reader() as con:
            try:
                # In one transaction: each begins with questions to the lakehouse's catalog.
                with in_transaction(con):
                    return _Run(con, store, view, now, snapshot).materialize(full=full)
            except ConcurrentMaterializationError:
                if attempt == _ATTEMPTS - 1:
                    raise
    raise AssertionError("unreachable")


def _table(con: duckdb.DuckDBPyConnection, view: View, snapshot: int) -> tuple[int, str]:
    """The number of a view's table in the catalog, and its identity: both others when it is made anew.

    Raises:
        LookupError: There is no such table in that snapshot.
    """
    found = con.execute(
        f"select t.table_id, cast(t.table_uuid as varchar) from {_CATALOG}.ducklake_table as t "
        f"join {_CATALOG}.ducklake_schema as s using (schema_id) "
        f"where s.schema_name = {literal(view.schema)} and t.table_name = {literal(view.table)} "
        f"and t.begin_snapshot <= {snapshot} and (t.end_snapshot is null or t.end_snapshot > {snapshot})"
    ).fetchall()
    if not found:
        raise LookupError(f"no table {view.schema}.{view.table} in snapshot {snapshot} of the lakehouse")
    return int(found[0][0]), str(found[0][1])


def rows_known(view: View, snapshot: int, cutoff: int, after: int | None = None) -> str:
    """A query for a view's rows known at ``cutoff`` (and not at ``after``) whose entity can have values."""
    at = identifier(view.timestamp)
    conditions = [view.has_entity, f"{at} <= {_instant(cutoff)}"]
    if after is not None:
        conditions.append(f"{at} > {_instant(after)}")
    source = f"{relation(view.schema, view.table)} at (version => {snapshot})"
    return f"select {_columns(view)} from {source} where {' and '.join(conditions)}"


def latest_rows(view: View, rows: str, *, ties: bool = True) -> str:
    """A query for the latest row of each entity among ``rows``, a query.

    Of several rows of one timestamp it is the one with the greatest values, compared feature by feature, a
    null being less than any and -0.0 less than 0.0: the same as in a point-in-time join. Without ``ties`` it
    is all of them.
    """
    keys, at = ", ".join(map(identifier, view.keys)), identifier(view.timestamp)
    newest = f"select {keys}, max({at}) as {at} from ({rows}) group by {keys}"
    # The newest timestamps first, and only then their values: the history's values are not sorted.
    same = f"{view.of_same_entity('r', 'n')} and r.{at} = n.{at}"
    latest = f"select r.* from ({rows}) as r semi join ({newest}) as n on {same}"
    if not ties:
        return latest
    return (
        f"{latest} qualify row_number() over (partition by {keys}, {at} order by {greatest_first(view)}) = 1"
    )


def greatest_first(view: View) -> str:
    """The order among rows of one entity and one timestamp."""
    names = [identifier(feature.name) for feature in view.features]
    signs = [
        n for n, f in zip(names, view.features, strict=True) if innermost(f.data_type) in _WITH_TWO_ZEROS
    ]
    # Ordered by a bare column, DuckDB makes -0.0 of it 0.0.
    order = [f"case when {name} is not null then {name} end desc nulls last" for name in names]
    order += [f"{name}::varchar desc" for name in signs]
    return ", ".join(order) or identifier(view.timestamp)


def _columns(view: View) -> str:
    return ", ".join(identifier(c) for c in (*view.keys, view.timestamp, *(f.name for f in view.features)))


def _difference(view: View, one: str, other: str) -> str:
    """A query for the rows of one relation that another has not, as often as it has more of them."""
    names = _columns(view)
    floats = [
        (identifier(f.name), f.data_type) for f in view.features if innermost(f.data_type) in _WITH_TWO_ZEROS
    ]
    # As numbers, DuckDB would take -0.0 for 0.0 and give out one of them.
    texts = "".join(f", {name}::varchar as {name}" for name, _ in floats)
    out = f" exclude ({', '.join(name for name, _ in floats)})" if floats else ""
    rows = (f"select *{out}{texts} from (select {names} from {source})" for source in (one, other))
    numbers = ", ".join(f"{name}::{kind} as {name}" for name, kind in floats)
    back = f"select * replace ({numbers})" if floats else "select *"
    return f"select {names} from ({back} from ({' except all '.join(rows)}))"


def _instant(value: int) -> str:
    return f"make_timestamptz({value})"


class _Run:
    """One attempt to bring a view up to a snapshot and an instant."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        store: OnlineStore,
        view: View,
        now: datetime,
        snapshot: int | None,
    ) -> None:
        self.started = time.perf_counter()
        self.con, self.store, self.view = con, store, view
        self.packer = Packer(view)
        self.base = store.position(view.name)
        base = -1 if self.base is None else self.base.snapshot
        ((newest, since),) = con.execute(
            f"select max(snapshot_id), count(*) filter (snapshot_id >= {base}) "
            f"from {_CATALOG}.ducklake_snapshot"
        ).fetchall()
        self.are_kept = since == newest - base + 1
        """Whether the lakehouse still has all snapshots from the store's on."""
        target = int(newest) if snapshot is None else snapshot
        self.table_id, identity = _table(con, view, target)
        self.position = Position(view.schema_hash, identity, target, micros(now))
        self.written_bytes = 0
        self.gone: str | None = None
        """The temporary table of rows that were known and are no more; None for no such row."""
        self.come = ""
        """A query for the rows that are known now and were not."""

    def materialize(self, *, full: bool) -> Materialization:
        reason = "asked for" if full else self._why_rebuild()
        if self.base is None or reason is not None:
            return self._rebuild(reason or "")
        self._find_changes(self.base)
        try:
            with _no_collection():
                return self._follow(self.base)
        except _TooManyError:
            changed = self._count_of(f"({self.come})") + (self._count_of(self.gone) if self.gone else 0)
            return self._rebuild(f"{changed} changed rows are more than {MAX_CHANGED_ROWS}")

    def _why_rebuild(self) -> str | None:
        base, position = self.base, self.position
        if base is None:
            return "never materialized"
        if base.schema != position.schema:
            return "the view's declaration has changed"
        if base.table != position.table:
            return "the table has been made anew"
        if base.cutoff > position.cutoff or base.snapshot > position.snapshot:
            return "the store is ahead"
        if not self.are_kept:
            return f"snapshot {base.snapshot} or one after it has expired"
        return None

    def _report(
        self,
        mode: Literal["rebuild", "changes"],
        reason: str,
        written: int,
        skipped: int = 0,
        deleted: int = 0,
    ) -> Materialization:
        ahead, due = self._rows_ahead()
        return Materialization(
            view=self.view.name,
            mode=mode,
            reason=reason,
            written=written,
            skipped=skipped,
            deleted=deleted,
            from_snapshot=None if self.base is None else self.base.snapshot,
            to_snapshot=self.position.snapshot,
            cutoff=from_micros(self.position.cutoff),
            written_bytes=self.written_bytes,
            ahead=ahead,
            next_due=None if due is None else from_micros(due),
            seconds=time.perf_counter() - self.started,
        )

    def _rows_ahead(self) -> tuple[int, int | None]:
        """How many rows are not known yet, and when the first of them will be."""
        at, source = identifier(self.view.timestamp), relation(self.view.schema, self.view.table)
        later = (
            f"select count(*), epoch_us(min({at})) from {source} at (version => {self.position.snapshot}) "
            f"where {at} > {_instant(self.position.cutoff)}"
        )
        ((count, first),) = self.con.execute(later).fetchall()
        return int(count), first

    def _rebuild(self, reason: str) -> Materialization:
        with _no_collection():
            return self._write_anew(reason)

    def _write_anew(self, reason: str) -> Materialization:
        rows = rows_known(self.view, self.position.snapshot, self.position.cutoff)
        try:
            # To order rows that share entity and timestamp costs as much as all the rest; mostly none do.
            written = self._write_all(_without_ties(self._latest(latest_rows(self.view, rows, ties=False))))
        except _TieError:
            written = self._write_all(self._latest(latest_rows(self.view, rows)))
        return self._report("rebuild", reason, written)

    def _latest(self, query: str) -> Iterator[Packed]:
        return _one_ahead(self.packer.batches(self.con, f"({query}) order by entity_key"))

    def _write_all(self, batches: Iterable[Packed]) -> int:
        def counted() -> Iterator[Packed]:
            self.written_bytes = 0
            for batch in batches:
                self.written_bytes += batch.size
                yield batch

        return self.store.rebuild(self.view.name, self.position, counted())

    def _find_changes(self, base: Position) -> None:
        """Find the rows that were known and are no more, and those that are now."""
        view, position = self.view, self.position
        come = []
        if base.cutoff != position.cutoff or base.snapshot == position.snapshot:
            come = [rows_known(view, position.snapshot, position.cutoff, base.cutoff)]
        if base.snapshot != position.snapshot:
            come.append(self._feed("insertions", base))
        self.come = " union all ".join(come)
        if self._only_grew(base):
            return
        # By themselves: asked for both, DuckLake joins them to tell updates apart.
        self.con.execute(f"create or replace temp table _deleted as {self._feed('deletions', base)}")
        if self._count_of("_deleted"):
            # A row that was deleted and written again has not changed.
            self.con.execute(f"create or replace temp table _inserted as {self.come}")
            for table, *two in (("_gone", "_deleted", "_inserted"), ("_come", "_inserted", "_deleted")):
                self.con.execute(f"create or replace temp table {table} as {_difference(view, *two)}")
            self.gone, self.come = "_gone", "from _come"

    def _only_grew(self, base: Position) -> bool:
        """Whether the snapshots since a position tell of the table at most that rows were inserted."""
        insertion = f"(inserted_into_table|inlined_insert):{self.table_id}(,|$)"
        others = f"regexp_replace(changes_made, '{insertion}', '', 'g')"
        found = self.con.execute(
            f"select count(*) from {_CATALOG}.ducklake_snapshot_changes "
            f"where snapshot_id > {base.snapshot} and snapshot_id <= {self.position.snapshot} "
            f"and regexp_matches({others}, ':{self.table_id}(,|$)')"
        ).fetchall()
        return not found[0][0]

    def _feed(self, half: str, base: Position) -> str:
        """A query for the ``insertions`` or ``deletions`` since a position among the rows it knew."""
        view = self.view
        return (
            f"select {_columns(view)} from ducklake_table_{half}({literal(LAKE)}, {literal(view.schema)}, "
            f"{literal(view.table)}, {base.snapshot + 1}, {self.position.snapshot}) "
            f"where {identifier(view.timestamp)} <= {_instant(base.cutoff)} and {view.has_entity}"
        )

    def _count_of(self, relation: str) -> int:
        return int(self.con.execute(f"select count(*) from {relation}").fetchall()[0][0])

    def _follow(self, base: Position) -> Materialization:
        come = self._pack(self.come, mostly_one=True)
        doubtful = self._overtaken()
        changes = self._changes(come, doubtful)
        try:
            applied = self.store.apply(self.view.name, base, self.position, changes)
        except TiedError as tied:
            changes = self._changes(come, doubtful | self._texts(tied.keys))
            applied = self.store.apply(self.view.name, base, self.position, changes)
        self.written_bytes = sum(map(len, chain.from_iterable(chain(changes.newer, changes.exact))))
        return self._report("changes", "", applied.written, applied.skipped, applied.deleted)

    def _changes(self, come: Mapping[bytes, bytes], doubtful: Mapping[bytes, str]) -> Changes:
        looked_up = self._look_up(doubtful)
        return Changes(
            # In the order of keys a store finds its way faster.
            newer=[(key, come[key]) for key in sorted(come) if key not in doubtful],
            exact=list(looked_up.items()),
            gone=[key for key in doubtful if key not in looked_up],
        )

    def _pack(self, rows: str, *, mostly_one: bool = False) -> dict[bytes, bytes]:
        """The value of the latest row of each entity among ``rows``, a query, by key.

        Args:
            rows: The query.
            mostly_one: Whether an entity has mostly one row: then the latest need not be looked for.

        Raises:
            _TooManyError: There are more than a materialization of changes may hold.
        """
        once = f"with _rows as materialized ({rows}) "
        # Mostly there are no ties, and to order them takes long.
        queries = [once + latest_rows(self.view, "from _rows", ties=ties) for ties in (False, True)]
        for query in [rows, *queries] if mostly_one else queries:
            latest: dict[bytes, bytes] = {}
            count = 0
            for batch in self.packer.batches(self.con, f"({query})"):
                count += len(batch)
                if count > MAX_CHANGED_ROWS:
                    raise _TooManyError
                latest.update(iter(batch))
            if len(latest) == count:
                break
        return latest

    def _overtaken(self) -> dict[bytes, str]:
        """The entities, by key, whose newest row may be gone, each with its key's whole text.

        Raises:
            _TooManyError: More rows are gone than a materialization of changes may hold.
        """
        if self.gone is None:
            return {}
        if self._count_of(self.gone) > MAX_CHANGED_ROWS:
            raise _TooManyError
        at = f"epoch_us(max(cast({identifier(self.view.timestamp)} as timestamptz)))"
        latest = f"select {self.packer.keys.sql()}, {at} from {self.gone} group by 1"
        gone = {shortened(text.encode()): (text, at) for text, at in self.con.execute(latest).fetchall()}
        ((values, _),) = self.store.read([(self.view, list(gone))])
        return {
            key: gone[key][0]
            for key, held in zip(gone, values, strict=True)
            if held is None or timestamp_of(held) <= gone[key][1]
        }

    def _texts(self, keys: Set[bytes]) -> dict[bytes, str]:
        """Some of the entities that come, by key, each with its key's whole text."""
        texts = self.con.execute(f"select distinct {self.packer.keys.sql()} from ({self.come})").fetchall()
        return {key: text for (text,) in texts if (key := shortened(text.encode())) in keys}

    def _look_up(self, entities: Mapping[bytes, str]) -> dict[bytes, bytes]:
        """The latest values of some entities by their whole history."""
        if not entities:
            return {}
        keys = ", ".join(map(identifier, self.view.keys))
        rows = rows_known(self.view, self.position.snapshot, self.position.cutoff)
        self.con.register("_doubtful", pa.table({"entity_key": list(entities.values())}))
        try:
            parts = [f"({self.come})"] if self.gone is None else [f"({self.come})", self.gone]
            touched = " union all ".join(f"select {keys} from {part}" for part in parts)
            wanted = (
                f"select distinct {keys} from ({touched}) "
                f"where {self.packer.keys.sql()} in (select entity_key from _doubtful)"
            )
            same = self.view.of_same_entity("r", "w")
            some = f"select r.* from ({rows}) as r semi join ({wanted}) as w on {same}"
            return self._pack(some)
        finally:
            self.con.unregister("_doubtful")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles: of millions of keys and values none is in one."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()


def _without_ties(batches: Iterable[Packed]) -> Iterator[Packed]:
    """The batches, in order of keys, as long as no key comes twice."""
    last = b""
    for batch in batches:
        if len(batch):
            if batch.has_twins or batch.keys.item(0) == last:
                raise _TieError
            last = batch.keys.item(-1)
        yield batch


def _one_ahead(batches: Iterator[Packed]) -> Iterator[Packed]:
    """The batches, each next one being made in a thread while its predecessor is written."""
    with ThreadPoolExecutor(1, "packing") as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
