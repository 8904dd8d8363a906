"""A lakehouse with two feature views, filled by each test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from orchestration.declarations import DeclaredColumn, NullKeys
from orchestration.feature_store.views import Catalog, View
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings


def columns(**types: str) -> tuple[DeclaredColumn, ...]:
    return tuple(DeclaredColumn(name, kind, name, "public") for name, kind in types.items())


def make_view(name: str, entity: Mapping[str, str], ttl: timedelta, features: Mapping[str, str]) -> View:
    return View(
        name=name,
        schema="features",
        table=name,
        entity=columns(**entity),
        timestamp="known_at",
        ttl=ttl,
        online=False,
        features=columns(**features),
        description=name,
        owner="team:operators",
    )


def make_catalog(ttl: timedelta = timedelta(hours=1), null_keys: NullKeys = "reject") -> Catalog:
    tank = make_view(
        "tank", {"pump": "varchar", "site": "integer"}, ttl, {"level": "bigint", "note": "varchar"}
    )
    wear = make_view("wear", {"pump": "varchar"}, timedelta(hours=1), {"share": "double"})
    views = {"tank": tank, "wear": wear}
    return Catalog({name: replace(view, null_keys=null_keys) for name, view in views.items()})


_ARROW = {"varchar": pa.string(), "integer": pa.int32(), "bigint": pa.int64(), "double": pa.float64()}


@dataclass(frozen=True)
class Works:
    """The lakehouse, and its views' rows."""

    lakehouse: LakehouseResource

    def fill(self, **rows: Sequence[Mapping[str, Any]]) -> None:
        """Make the rows of views these and no others."""
        with self.lakehouse.get_connection() as con:
            con.execute("create schema if not exists features")
            for name, view in make_catalog().views.items():
                if name not in rows:
                    continue
                fields = {c.name: _ARROW[c.data_type] for c in (*view.entity, *view.features)}
                schema = pa.schema({**fields, "known_at": pa.timestamp("us", "UTC")})
                con.register("given_rows", pa.Table.from_pylist([*rows[name]], schema=schema))
                con.execute(f"create or replace table features.{name} as select * from given_rows")
                con.unregister("given_rows")


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("offline"))
    lakehouse = LakehouseResource.from_settings(settings)
    # As a run does: what is open is shared, so that a test need not load the extensions each time.
    lakehouse.setup_for_execution(None)
    try:
        yield Works(lakehouse)
    finally:
        lakehouse.teardown_after_execution(None)
