"""A lakehouse with the table of one view, and what its online values should be, in plain Python."""

from datetime import UTC, datetime, timedelta

from orchestration.feature_store.online.encoding import Layout, from_micros
from orchestration.feature_store.online.keys import EntityKeys
from orchestration.feature_store.online.materialization import materialize
from orchestration.lakehouse import LakehouseResource, current_snapshot
from orchestration.lakehouse.tables import relation
from orchestration.settings import Settings
from tests.unit.feature_store.views import make_view

START = datetime(2024, 1, 1, tzinfo=UTC)
VIEW = make_view(
    {"level": "double", "note": "varchar", "count": "integer"},
    {"pump": "varchar", "pipe": "integer"},
    name="levels",
)


def at(hours):
    return START + timedelta(hours=hours)


class Lake:
    """A lakehouse in a folder, with the table of ``view``."""

    def __init__(self, folder, view=VIEW):
        self.view = view
        self.lakehouse = LakehouseResource.from_settings(Settings(data_dir=folder, duckdb_threads=1))
        columns = ", ".join(
            f"{name} {kind}"
            for name, kind in [
                *((c.name, c.data_type) for c in view.entity),
                (view.timestamp, "timestamptz"),
                *((c.name, c.data_type) for c in view.features),
            ]
        )
        self.con = self.lakehouse.open()
        self.con.execute(f"create schema if not exists {view.schema}")
        self.create = f"create or replace table {relation(view.schema, view.table)} ({columns})"
        self.con.execute(self.create)

    @property
    def table(self):
        return relation(self.view.schema, self.view.table)

    @property
    def snapshot(self):
        return current_snapshot(self.con)

    def run(self, *statements):
        """Statements in one transaction; {t} stands for the table."""
        self.con.execute("begin")
        for statement in statements:
            self.con.execute(statement.format(t=self.table))
        self.con.execute("commit")
        return self.snapshot

    def insert(self, *rows):
        """Rows of (pump, pipe, hours, level, note, count)."""

        def text(value):
            return "null" if value is None else f"'{value}'"

        values = ", ".join(
            f"({text(r[0])}, {text(r[1])}, timestamptz '{at(r[2]).isoformat()}', {', '.join(map(text, r[3:]))})"
            for r in rows
        )
        return self.run(f"insert into {{t}} values {values}")

    def materialize(self, store, hours=1000, **options):
        return materialize(self.lakehouse, store, self.view, at(hours), **options)

    def expected(self, hours=1000):
        """The latest known row of each entity, by a loop over all rows."""
        latest = {}
        count = len(self.view.keys)
        for row in self.con.execute(f"from {self.table}").fetchall():
            key, known_at, features = row[:count], row[count], row[count + 1 :]
            if (None in key and self.view.null_keys == "reject") or known_at > at(hours):
                continue
            rank = (known_at, *((value is not None, value if value is not None else 0) for value in features))
            if key not in latest or rank > latest[key][0]:
                latest[key] = (rank, (known_at, *features))
        return {key: values for key, (_, values) in latest.items()}

    def stored(self, store):
        """What the store has of every entity that ever was, and of how many entities it has anything."""
        keys = [
            row
            for row in self.con.execute(
                f"select distinct {', '.join(self.view.keys)} from {self.table} order by all"
            ).fetchall()
            if None not in row or self.view.null_keys == "match"
        ]
        layout = Layout(self.view)
        encoded = EntityKeys(self.view).encode([[k[n] for k in keys] for n in range(len(self.view.keys))])
        ((values, _),) = store.read([(self.view, encoded)])
        found = [(k, v) for k, v in zip(keys, values, strict=True) if v is not None]
        if not found:
            return {}
        decoded = layout.decode([v for _, v in found], range(len(self.view.features)))
        rows = zip(map(from_micros, decoded.timestamps), *decoded.columns, strict=True)
        assert store.size(self.view.name) == len(found)
        return dict(zip((k for k, _ in found), rows, strict=True))
