"""A week of three feature views, as a stream of deliveries, and the moments at which somebody asks."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from orchestration.declarations import Exposure, ExposureMeta
from orchestration.feature_store.online.values import typed_list
from orchestration.feature_store.views import Catalog, Service, resolve_role
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from tests.unit.feature_store.views import make_view

START = datetime(2024, 3, 28, tzinfo=UTC)
WEEK = timedelta(days=7)
MICROSECOND = timedelta(microseconds=1)

TANK = make_view(
    {"level": "double", "flow": "float", "price": "decimal(10,3)", "mass": "decimal(30,5)", "checked_at": "timestamptz",
     "local_time": "timestamp", "built": "date", "note": "varchar", "is_open": "boolean", "cycles": "bigint"},
    {"pump": "varchar", "pipe": "integer"}, name="tank", ttl=timedelta(hours=20),
)  # fmt: skip
PUMP = make_view({"share": "double", "starts": "integer", "last_at": "timestamptz"}, name="pump")
SITE = make_view({"name": "varchar", "height": "decimal(9,6)"}, {"site": "integer"}, name="site",
                 ttl=timedelta(days=7000))  # fmt: skip
VIEWS = {view.name: view for view in (TANK, PUMP, SITE)}
TEXTS, WHOLE = ("alder", "Alder", "", "b\tirch"), (1, 2)

_CHOICES: dict[str, Sequence[Any]] = {
    "double": (None, 0.0, -0.0, math.nan, math.inf, -math.inf, 0.1, 5e-324),
    "float": (None, -0.0, 0.0, math.nan, 0.1, 3.5),
    "decimal(10,3)": (None, Decimal("0.000"), Decimal("-1.125"), Decimal("9999999.999")),
    "decimal(30,5)": (None, Decimal("1234567890123456789012345.67891"), Decimal("-0.00001")),
    "decimal(9,6)": (None, Decimal("-73.778925"), Decimal("40.639751")),
    "timestamptz": (None, START, START + timedelta(hours=70, microseconds=1)),
    "timestamp": (None, datetime(2024, 3, 31, 2, 30), datetime(1969, 12, 31, 23, 59, 59, 999999)),
    "date": (None, date(2024, 2, 29), date(1900, 1, 1)),
    "varchar": (None, "", "x", "y", "ü\0ß"),
    "boolean": (None, True, False),
    "bigint": (None, 0, 1, -(2**63)),
    "integer": (None, 0, 7),
}


def make_service() -> Service:
    """Two pumps, each in a role, what only a request knows, and on-demand features over all of it."""
    declared = {
        "features": ["up:share", "up:last_at", "down:share", "down:starts", "site:height", "site:name"],
        "roles": {
            "up": {"view": "pump", "join_keys": {"pump": "up_pump"}},
            "down": {"view": "pump", "join_keys": {"pump": "down_pump"}},
        },
        "request": {
            "asked_at": {"data_type": "timestamptz", "description": "When."},
            "load": {"data_type": "double", "description": "How much."},
        },
        "on_demand": {
            name: {"expression": expression, "data_type": kind, "description": name}
            for name, expression, kind in (
                ("idle_min", "(epoch_us(asked_at) - epoch_us(up__last_at)) / 6e7", "double"),
                ("loaded", "load * coalesce(up__share, down__share)", "double"),
                ("per_metre", "down__starts / nullif(site__height, 0)", "decimal(18,4)"),
                ("title", "upper(site__name) || coalesce(down__starts::varchar, '-')", "varchar"),
            )
        },
    }
    meta = ExposureMeta.model_validate({"owner": "team:tests", "feature_service": declared})
    assert meta.feature_service is not None
    views = Catalog(VIEWS)
    roles = {name: resolve_role(views, name, role) for name, role in meta.feature_service.roles.items()}
    exposure = Exposure("exposure.x", "pumping", "ml", "A model.", "models/x.yml", meta, ())
    wanted = views.resolve(meta.feature_service.features, roles)
    return Service("pumping", exposure, meta.feature_service, wanted)


CATALOG = Catalog(VIEWS, {"pumping": make_service()})


@dataclass(frozen=True)
class Row:
    """A row of a view, and when it is delivered: for the first time never after it has become known."""

    view: str
    delivered_at: datetime
    known_at: datetime
    values: tuple[Any, ...]


def make_rows(chance: random.Random, count: int) -> list[Row]:
    """The stream, in the order of delivery.

    Some rows are late (about something long ago), some come ahead of the instant at which they count, out of
    order, twice, or beside others of the same entity and instant.
    """
    rows: list[Row] = []
    for _ in range(count):
        view = chance.choice((TANK, TANK, PUMP, PUMP, SITE))
        known_at = START + timedelta(microseconds=chance.randrange(int(WEEK / MICROSECOND)))
        keys = [chance.choice(TEXTS if c.data_type == "varchar" else WHOLE) for c in view.entity]
        if rows and chance.random() < 0.25:  # beside another one
            other = chance.choice([r for r in rows if r.view == view.name] or rows)
            if other.view == view.name:
                known_at, keys = other.known_at, list(other.values[: len(keys)])
        if chance.random() < 0.05:
            keys[0] = None
        ahead = timedelta(hours=chance.choice((0, 0, 0, 0, 3, 30)))
        features = [chance.choice(_CHOICES[c.data_type]) for c in view.features]
        row = Row(view.name, known_at - ahead, known_at, (*keys, *features))
        rows.append(row)
        if chance.random() < 0.25:
            again = known_at + timedelta(hours=chance.choice((0, 5, 40)))
            rows.append(replace(row, delivered_at=again))
    chance.shuffle(rows)
    return sorted(rows, key=lambda row: row.delivered_at)


def make_moments(chance: random.Random, rows: Sequence[Row], count: int) -> list[datetime]:
    """When somebody asks: mostly at the very edges of what is known."""
    moments = [START + WEEK + timedelta(days=30)]
    while len(moments) < count:
        row = chance.choice(rows)
        edge = row.known_at + chance.choice((timedelta(0), VIEWS[row.view].ttl))
        moment = edge + chance.choice((-1, 0, 1)) * MICROSECOND
        if moment < START + WEEK + timedelta(days=2):
            moments.append(moment)
    return sorted(moments)


def make_tables(con: Any) -> None:
    """Empty tables of the views."""
    con.execute("create schema if not exists features")
    for view in VIEWS.values():
        columns = [*view.entity, *view.features]
        types = ", ".join(f"{c.name} {c.data_type}" for c in columns)
        con.execute(f"create table {relation('features', view.name)} ({types}, known_at timestamptz)")


def insert(con: Any, rows: Sequence[Row]) -> None:
    """Deliver rows, all at once."""
    con.execute("begin")
    for name, view in VIEWS.items():
        some = [row for row in rows if row.view == name]
        if some:
            columns = [*view.entity, *view.features]
            lists = [
                f"unnest({typed_list([row.values[n] for row in some], column.data_type)}) as {column.name}"
                for n, column in enumerate(columns)
            ]
            lists.append(f"unnest({typed_list([row.known_at for row in some], 'timestamptz')}) as known_at")
            con.execute(f"insert into {relation('features', name)} by name select {', '.join(lists)}")
    con.execute("commit")


def entities() -> Iterator[dict[str, Any]]:
    """Every entity there may be, in every role, and some that are not."""
    for pump in (*TEXTS, None, "nobody"):
        for pipe in (*WHOLE, None, 9):
            site = 9 if pipe == 9 else 1 + len(pump or "") % 2
            yield {
                "pump": pump,
                "pipe": pipe,
                "site": site,
                "up_pump": pump,
                "down_pump": TEXTS[(pipe or 0) % 3],
            }


def open_lake(lakehouse: LakehouseResource) -> Any:
    """A connection to a lakehouse that has the views' tables."""
    con = lakehouse.open()
    make_tables(con)
    return con
