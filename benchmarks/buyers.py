"""The view that the online benchmarks read and write: a text for a key, ten features of mixed types."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestration.declarations import DeclaredColumn
from orchestration.feature_store.views import View
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.settings import Settings

ROWS_EACH = 3
NOW = datetime(2024, 3, 1, tzinfo=UTC)
FEATURES = {f"amount_{n}": "double" for n in range(6)} | {
    "orders": "bigint", "visits": "integer", "is_member": "boolean", "segment": "varchar",
}  # fmt: skip


def _columns(types: dict[str, str]) -> tuple[DeclaredColumn, ...]:
    return tuple(DeclaredColumn(name, kind, name, "internal") for name, kind in types.items())


VIEW = View(
    name="buyers",
    schema="features",
    table="buyers",
    entity=_columns({"buyer": "varchar"}),
    timestamp="known_at",
    ttl=timedelta(days=90),
    online=True,
    features=_columns(FEATURES),
    description="Buyers.",
    owner="team:benchmarks",
)


def open_lakehouse(folder: Path) -> LakehouseResource:
    """The lakehouse of a folder."""
    return LakehouseResource.from_settings(Settings(data_dir=folder / "data"))


def _rows(first_entity: int, entities: int, hours: int, seed: int) -> str:
    """A query for one row of each of so many entities; the order of the table is not that of the keys."""
    values = ", ".join(f"(hash(i, {seed}, {n}) % 1000000) / 1000.0" for n in range(6))
    return (
        f"select 'buyer-' || (hash(i) % 100000) || '-' || i, "
        f"timestamptz '2024-01-01' + interval ({hours}) hour, {values}, "
        f"i * 7, cast(hash(i, {seed}) % 100 as integer), i % 3 = 0, "
        f"'segment ' || (i % 50) from range({first_entity}, {first_entity + entities}) as r(i)"
    )


def fill(lakehouse: LakehouseResource, entities: int) -> None:
    """Make the view's table, ``ROWS_EACH`` rows an entity."""
    with lakehouse.get_connection() as con:
        con.execute("create schema features")
        columns = ", ".join(f"{name} {kind}" for name, kind in FEATURES.items())
        table = relation(VIEW.schema, VIEW.table)
        con.execute(f"create table {table} (buyer varchar, known_at timestamptz, {columns})")
        for number in range(ROWS_EACH):
            con.execute(f"insert into {table} {_rows(0, entities, number, number)}")


def change(lakehouse: LakehouseResource, number: int, entities: int) -> None:
    """Give so many entities a newer row, others for each ``number``."""
    with lakehouse.get_connection() as con:
        first = number * entities
        con.execute(
            f"insert into {relation(VIEW.schema, VIEW.table)} {_rows(first, entities, 100 + number, number)}"
        )


def export(lakehouse: LakehouseResource, path: Path) -> None:
    """Copy the view's table into a Parquet file."""
    with lakehouse.reader() as con:
        con.execute(f"copy {relation(VIEW.schema, VIEW.table)} to '{path}'")


def current_generation(folder: Path) -> Path:
    """The LMDB environment that holds the view in an online store's folder."""
    place = folder / VIEW.name
    return place / (place / "current").read_text()
