"""Run by the real Feast in an environment of its own: ``feast_client.py FOLDER ADDRESS [KEY]``; prints JSON."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Bool, Float64, Int32, Int64, String, UnixTimestamp

folder, address = Path(sys.argv[1]), sys.argv[2]
auth = f"auth: {{type: oidc, token: {sys.argv[3]}}}" if len(sys.argv) > 3 else ""
folder.mkdir(parents=True, exist_ok=True)
(folder / "feature_store.yaml").write_text(
    f"""
project: shop
registry: {folder / "registry.db"}
provider: local
online_store: {{type: remote, path: "{address}"}}
offline_store: {{type: dask}}
entity_key_serialization_version: 3
{auth}
"""
)
pd.DataFrame({"known_at": pd.to_datetime([], utc=True)}).to_parquet(folder / "none.parquet")
source = FileSource(name="none", path=str(folder / "none.parquet"), timestamp_field="known_at")
buyer = Entity(name="buyer", join_keys=["buyer"], value_type=ValueType.INT64)
store_entity = Entity(name="store", join_keys=["store"], value_type=ValueType.STRING)
day = Entity(name="day", join_keys=["day"], value_type=ValueType.UNIX_TIMESTAMP)
buyers = FeatureView(
    name="buyers", entities=[buyer], ttl=timedelta(hours=1), source=source, online=True,
    schema=[
        Field(name="buyer", dtype=Int64), Field(name="orders", dtype=Int64), Field(name="spent", dtype=Float64),
        Field(name="ratio", dtype=Float64), Field(name="last_at", dtype=UnixTimestamp),
        Field(name="name", dtype=String),
    ],
)  # fmt: skip
stock = FeatureView(
    name="stock", entities=[store_entity, day], ttl=timedelta(hours=1), source=source, online=True,
    schema=[
        Field(name="store", dtype=String), Field(name="day", dtype=UnixTimestamp),
        Field(name="left", dtype=Int32), Field(name="is_open", dtype=Bool),
    ],
)  # fmt: skip
payments = FeatureService(
    name="payments",
    features=[
        buyers[["orders"]].with_name("payer").with_join_key_map({"buyer": "payer_id"}),
        buyers[["orders"]].with_name("payee").with_join_key_map({"buyer": "payee_id"}),
    ],
)
feast = FeatureStore(repo_path=str(folder))
# The registry is written without the token: applying asks nobody.
feast.registry.apply_entity(buyer, "shop")
feast.registry.apply_entity(store_entity, "shop")
feast.registry.apply_entity(day, "shop")
feast.registry.apply_feature_view(buyers, "shop")
feast.registry.apply_feature_view(stock, "shop")
feast.registry.apply_feature_service(payments, "shop")


def get(features, rows, **more):
    response = feast.get_online_features(features=features, entity_rows=rows, **more)
    statuses = [[int(s) for s in result.statuses] for result in response.proto.results]
    return {"values": response.to_dict(), "statuses": statuses}


def key(value):
    return EntityKey(join_keys=["buyer"], entity_values=[Value(int64_val=value)])


def refused(call):
    try:
        call()
    except Exception as error:  # noqa: BLE001 (what Feast raises is what is asked)
        return f"{type(error).__name__}: {error}"
    return None


ROWS = [{"buyer": 1}, {"buyer": 2}, {"buyer": 3}]
names = ["orders", "spent", "ratio", "last_at", "name"]
found = {
    "plain": get([f"buyers:{name}" for name in names], ROWS),
    "full": get(["buyers:orders"], ROWS[:1], full_feature_names=True),
    "composite": get(["stock:left", "stock:is_open"], [{"store": "north", "day": 1714521600}]),
    "service": get(payments, [{"payer_id": 1, "payee_id": 3, "amount": 2}]),
    "read": [
        (at.isoformat() if at else None, {n: v.WhichOneof("val") for n, v in values.items()})
        for at, values in feast._get_provider().online_read(feast.config, buyers, [key(1)], names)
    ],
    "unknown": refused(lambda: get(["buyers:ordrs"], ROWS)),
}
print(json.dumps(found, default=str))
