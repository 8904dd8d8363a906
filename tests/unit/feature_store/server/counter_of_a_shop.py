"""A feature server over values in memory: a shop with buyers, and products in stores."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestration.declarations import DeclaredColumn, Exposure, ExposureMeta, FeatureService
from orchestration.feature_store.discovery import Facts
from orchestration.feature_store.online.encoding import NOT_STORED, micros
from orchestration.feature_store.online.keys import EntityTypeError
from orchestration.feature_store.online.reading import Status
from orchestration.feature_store.server import (
    ROUTES,
    Access,
    AccessLog,
    Answer,
    FeatureServer,
    Metrics,
    Parts,
    Predictor,
    PushFault,
    counted_views,
)
from orchestration.feature_store.views import Catalog, Role, Service, View
from orchestration.settings import Settings

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SINCE = datetime(2024, 5, 1, 11, 30, 0, 250_000, tzinfo=UTC)


def column(name: str, data_type: str, classification: Any = "internal") -> DeclaredColumn:
    return DeclaredColumn(name, data_type, f"The {name}.", classification)


def view(name: str, keys: Mapping[str, str], features: Mapping[str, str]) -> View:
    return View(
        name=name, schema="features", table=name, timestamp="known_at", ttl=timedelta(hours=1), online=True,
        entity=tuple(column(n, t) for n, t in keys.items()),
        features=tuple(column(n, t) for n, t in features.items()), description=name, owner="team:shop",
    )  # fmt: skip


BUYERS = view(
    "buyers",
    {"buyer": "bigint"},
    {"orders": "bigint", "spent": "decimal(9, 2)", "ratio": "double", "last_at": "timestamptz",
     "born_on": "date", "name": "varchar"},
)  # fmt: skip
STOCK = view("stock", {"store": "varchar", "day": "date"}, {"left": "integer", "is_open": "boolean"})
CLOCKS = view("clocks", {"at": "timestamptz"}, {"tick": "bigint"})


def service(catalog: Catalog) -> Service:
    declared = FeatureService.model_validate(
        {
            "features": ["payer:orders", "payee:orders"],
            "roles": {
                "payer": {"view": "buyers", "join_keys": {"buyer": "payer_id"}},
                "payee": {"view": "buyers", "join_keys": {"buyer": "payee_id"}},
            },
            "request": {"amount": {"data_type": "decimal(9, 2)", "description": "How much."}},
            "on_demand": {
                "per_order": {
                    "expression": "amount / payer__orders",
                    "data_type": "double",
                    "description": "Amount an order.",
                }
            },
        }
    )
    roles = {name: Role(name, BUYERS, (f"{name}_id",)) for name in ("payer", "payee")}
    exposure = Exposure(
        unique_id="exposure.shop.payments", name="payments", kind="ml", description="Payments.",
        file="models/exposures.yml", meta=ExposureMeta(owner="team:shop", feature_service=declared), upstream=(),
    )  # fmt: skip
    return Service("payments", exposure, declared, catalog.resolve(declared.features, roles))


VIEWS = Catalog({v.name: v for v in (BUYERS, STOCK, CLOCKS)})
CATALOG = replace(VIEWS, services={"payments": service(VIEWS)})

ADA = {
    "orders": 7, "spent": Decimal("12.50"), "ratio": float("nan"),
    "last_at": datetime(2024, 4, 30, 10, 0, 0, 999_000, tzinfo=UTC), "born_on": date(1990, 12, 10), "name": None,
}  # fmt: skip
VALUES: Mapping[tuple[str, Any], tuple[datetime, Mapping[str, Any]]] = {
    ("buyers", (1,)): (SINCE, ADA),
    ("buyers", (2,)): (NOW - timedelta(hours=2), ADA),
    ("stock", ("north", date(2024, 5, 1))): (SINCE, {"left": 3, "is_open": True}),
    ("clocks", (NOW,)): (SINCE, {"tick": 1}),
}


@dataclass
class Shelf:
    """Reads features from memory, as the online reader reads them from its store."""

    catalog: Catalog = CATALOG
    fault: Exception | None = None
    delay: float = 0
    asked: list[Any] = field(default_factory=list)
    is_immediate: bool = False

    async def get_online_features_async(
        self,
        features: Sequence[str] | str,
        entity_rows: Mapping[str, Sequence[Any]],
        *,
        full_feature_names: bool = False,
    ) -> Answer:
        await asyncio.sleep(self.delay)
        return self.get_online_features(features, entity_rows, full_feature_names=full_feature_names)

    def get_online_features(
        self,
        features: Sequence[str] | str,
        entity_rows: Mapping[str, Sequence[Any]],
        *,
        full_feature_names: bool = False,
    ) -> Answer:
        self.asked.append((features, dict(entity_rows)))
        if self.fault is not None:
            raise self.fault
        held = self.catalog.service(features) if isinstance(features, str) else None
        wanted = held.features if held else self.catalog.resolve(features)
        keys = list(dict.fromkeys(key for one in wanted for key in one.role.join_keys))
        rows = len(next(iter(entity_rows.values())))
        names: list[str] = list(keys)
        values: list[list[Any]] = [list(entity_rows[key]) for key in keys]
        statuses = [[Status.PRESENT] * rows for _ in keys]
        instants: list[list[int] | None] = [None for _ in keys]
        for one in wanted:
            found = [self._look(one.role, one.feature.name, entity_rows, row) for row in range(rows)]
            names.append(one.full_name if full_feature_names or held else one.feature.name)
            for kept, part in zip((values, statuses, instants), zip(*found, strict=True), strict=True):
                kept.append(list(part))  # type: ignore[attr-defined]
        for name in held.declared.on_demand if held else ():
            names.append(name)
            values.append([1.5] * rows)
            statuses.append([Status.PRESENT] * rows)
            instants.append(None)
        return SimpleNamespace(feature_names=names, values=values, statuses=statuses, instants=instants)

    def _look(
        self, role: Role, feature: str, rows: Mapping[str, Sequence[Any]], row: int
    ) -> tuple[Any, Status, int]:
        for key, declared in zip(role.join_keys, role.view.entity, strict=True):
            if declared.data_type == "bigint" and type(rows[key][row]) is not int:
                raise EntityTypeError(f"{key}: found a text, expected bigint")
        found = VALUES.get((role.view.name, tuple(rows[key][row] for key in role.join_keys)))
        if found is None:
            return None, Status.NOT_FOUND, NOT_STORED
        at, values = found
        if NOW - at > role.view.ttl:
            return None, Status.OUTSIDE_MAX_AGE, micros(at)
        value = values[feature]
        return value, Status.NULL_VALUE if value is None else Status.PRESENT, micros(at)


@dataclass
class Shop:
    """A server in memory, with what it has taken and written down."""

    server: FeatureServer
    shelf: Shelf
    log: Path
    metrics: Metrics
    access_log: AccessLog
    pushed: list[Any] = field(default_factory=list)
    unready: list[str] = field(default_factory=list)
    facts: Facts = field(default_factory=lambda: Facts(NOW, "http://127.0.0.1:3000", (), ()))

    def lines(self) -> list[dict[str, Any]]:
        self.access_log.flush()
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def open_shop(
    folder: Path, shelf: Shelf | None = None, predictor: Predictor | None = None, **settings: Any
) -> Shop:
    """A server under ``settings``, all of whose files are in ``folder``."""
    platform = Settings(data_dir=folder, server_access_log=folder / "access.jsonl", **settings)
    shelf = shelf or Shelf()
    sources = frozenset({"orders", "returns"})
    access = Access(platform, list(CATALOG.views), sources, predictor.models if predictor else ())
    metrics = Metrics(folder / "counters", 1, ROUTES, counted_views(CATALOG), sorted(sources))
    access_log = AccessLog(platform.server_access_log)
    shop: Shop

    def push(source: str, columns: Mapping[str, list[Any]]) -> str:
        if "bad" in columns:
            raise PushFault("push to orders: found column 'bad', expected the declared columns")
        shop.pushed.append((source, columns))
        return "push-1.jsonl"

    parts = Parts(
        settings=platform, catalog=CATALOG, reader=shelf, unready=lambda: shop.unready, push=push,
        sources=sources, access=access, metrics=metrics, access_log=access_log,
        facts=lambda: shop.facts, close=lambda: None, predictor=predictor,
    )  # fmt: skip
    shop = Shop(FeatureServer(parts), shelf, folder / "access.jsonl", metrics, access_log)
    return shop


@dataclass
class Got:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    shop: Shop,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    chunks: Sequence[bytes] | None = None,
) -> Got:
    """One request, as uvicorn hands it to the application."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    sent = {"host": "127.0.0.1:6566"}
    if method == "POST":
        sent["content-type"] = "application/json"
        if chunks is None:
            sent["content-length"] = str(len(raw))
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    sent |= headers or {}
    pieces = list(chunks) if chunks is not None else [raw]
    said: list[Any] = []

    async def receive() -> Any:
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"",
        "headers": [(n.encode(), v.encode()) for n, v in sent.items()],
    }  # fmt: skip
    asyncio.run(shop.server(scope, receive, send))
    start, rest = said
    found = {n.decode(): v.decode() for n, v in start["headers"]}
    return Got(start["status"], found, rest["body"])


def ask(shop: Shop, features: Sequence[str] | str, entities: Any, **more: Any) -> Got:
    """One request for features."""
    asked = {"feature_service": features} if isinstance(features, str) else {"features": features}
    key = more.pop("key", None)
    return call(shop, "POST", "/get-online-features", {**asked, "entities": entities, **more}, key=key)
