"""What tells two contents, or two versions, apart.

What belongs here: comparing rows by key, and manifests by what they say. What does not: how it looks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from orchestration.learning.datasets.building import files_relation, open_files
from orchestration.learning.datasets.manifest import Manifest, Provenance, SchemaColumn
from orchestration.learning.datasets.store import DatasetStore
from orchestration.settings import Settings
from orchestration.sql import identifier

SAMPLE = 5
"""Keys that are shown of each kind of difference."""


@dataclass(frozen=True)
class Rows:
    """Rows of one content against another's, by key; ``samples`` are keys, and which columns changed.

    Without a key a changed row is one that was removed and one that was added.
    """

    added: int = 0
    removed: int = 0
    changed: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether there is no difference."""
        return not (self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Change:
    """One thing that two versions say differently; None where one says nothing."""

    what: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """What tells one version from another."""

    same_content: bool
    rows: Rows
    columns: Sequence[Change]
    made_from: Sequence[Change]


def compare_rows(
    con: duckdb.DuckDBPyConnection,
    before: str,
    after: str,
    columns: Sequence[str],
    key: Sequence[str],
) -> Rows:
    """Compare two relations in columns that both have, by key.

    Args:
        con: An open connection.
        before: What follows ``from`` for the one.
        after: The same for the other.
        columns: The columns to compare.
        key: Those that tell a row apart; none compares whole rows.
    """
    if not key:
        return _compare_whole(con, before, after, columns)
    on = " and ".join(f"a.{identifier(k)} = b.{identifier(k)}" for k in key)
    values = [c for c in columns if c not in key]
    differs = [f"a.{identifier(c)} is distinct from b.{identifier(c)}" for c in values] or ["false"]
    keys = ", ".join(f"coalesce(a.{identifier(k)}, b.{identifier(k)})::varchar" for k in key)
    first, marks = identifier(key[0]), ", ".join(differs)
    con.execute(f"""
        create or replace temp table _compared as
        select [{keys}] as key, a.{first} is null as is_added, b.{first} is null as is_removed,
            [{marks}] as marks
        from (from {before}) as a full join (from {after}) as b on {on}
        where is_added or is_removed or list_contains(marks, true)
    """)
    counts = ", ".join(f"count(*) filter (where changed and marks[{n + 1}])" for n in range(len(values)))
    flagged = "(select *, not is_added and not is_removed as changed from temp._compared)"
    ((added, removed, changed, *by_column),) = con.execute(
        "select count(*) filter (where is_added), count(*) filter (where is_removed), "
        f"count(*) filter (where changed){', ' + counts if values else ''} from {flagged}"
    ).fetchall()
    samples = {}
    for kind, of in (("added", "is_added"), ("removed", "is_removed"), ("changed", "changed")):
        found = con.execute(
            f"select key, marks from {flagged} where {of} order by key limit {SAMPLE}"
        ).fetchall()
        samples[kind] = [_sample(key, told, values, marks, kind) for told, marks in found]
    con.execute("drop table temp._compared")
    pairs = zip(values, by_column, strict=True) if values else ()
    by_name = {name: int(count) for name, count in pairs if count}
    by_name = dict(sorted(by_name.items(), key=lambda item: -item[1]))
    return Rows(int(added), int(removed), int(changed), by_name, {k: v for k, v in samples.items() if v})


def _sample(
    key: Sequence[str], told: Sequence[str], values: Sequence[str], marks: Sequence[bool], kind: str
) -> dict[str, Any]:
    found: dict[str, Any] = {"key": dict(zip(key, told, strict=True))}
    if kind == "changed":
        found["columns"] = [name for name, differs in zip(values, marks, strict=True) if differs]
    return found


def _compare_whole(con: duckdb.DuckDBPyConnection, before: str, after: str, columns: Sequence[str]) -> Rows:
    names = ", ".join(map(identifier, columns))

    def beyond(one: str, other: str) -> int:
        query = f"select {names} from {one} except all select {names} from {other}"
        return int(con.execute(f"select count(*) from ({query})").fetchall()[0][0])

    return Rows(added=beyond(after, before), removed=beyond(before, after))


def compare(store: DatasetStore, before: Manifest, after: Manifest, settings: Settings) -> Difference:
    """Compare two versions of a dataset: rows, columns, and what they were made from.

    Raises:
        duckdb.Error: A file of them cannot be read.
    """
    same = before.content_hash == after.content_hash
    rows = Rows()
    if not same:
        types = {c.name: c.type for c in before.columns}
        shared = [c.name for c in after.columns if types.get(c.name) == c.type]
        key = before.key if before.key == after.key and set(after.key) <= set(shared) else ()
        with open_files(settings) as con:
            files = [
                files_relation([store.path(m.dataset, m.version) / shard.path for shard in m.shards])
                for m in (before, after)
            ]
            rows = compare_rows(con, files[0], files[1], shared, key)
    return Difference(
        same,
        rows,
        list(_columns(before.columns, after.columns)),
        list(_made_from(before.built, after.built)),
    )


def _columns(before: Sequence[SchemaColumn], after: Sequence[SchemaColumn]) -> Iterator[Change]:
    yield from _changes("", {c.name: c.type for c in before}, {c.name: c.type for c in after})


def _changes(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Change(f"{prefix}{name}", before.get(name), after.get(name))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def _made_from(before: Provenance, after: Provenance) -> Iterator[Change]:
    """What two builds were made from and with, where they differ."""

    def said(of: Provenance) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield "git ", {} if of.git is None else of.git.model_dump()
        yield "lakehouse ", {"snapshot": of.lake.snapshot, "table": of.lake.table_uuid}
        yield "input ", {name: source.changed_at for name, source in of.lake.inputs.items()}
        yield "SQL of ", {name: code.compiled_sha256 for name, code in of.models.items()}
        yield "source of ", {name: code.source_sha256 for name, code in of.models.items()}
        yield "", {"dbt manifest": of.dbt_manifest_sha256, "requirements.lock": of.lock_sha256}
        yield "variable ", dict(_flat(of.variables))
        yield "declared ", dict(_flat(of.declarations))
        yield "", {"built spans": None if of.window is None else of.window.model_dump(mode="json")["spans"]}
        yield "engine ", of.engine.versions
        yield "setting ", of.engine.settings
        yield "check ", {check.name: check.outcome for check in of.checks}

    for (prefix, one), (_, other) in zip(said(before), said(after), strict=True):
        yield from _changes(prefix, one, other)
