"""Feast's side of the concurrency benchmark, run in Feast's own environment.

``feast_mill.py prepare|write FOLDER ENTITIES [SECONDS [ADDRESS]]``. Its default online store, SQLite, has the
same entities and features. Each generation is written as ``feast materialize`` writes, from a process of its
own, or through the feature server at an address. What belongs here: Feast alone; nothing of Groundwork is
installed there.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Int64, String

what, folder, entities, features = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), 10
names = [f"f{n}" for n in range(features)]
start = datetime.now(UTC) - timedelta(days=1)


def rows(generation: int) -> pd.DataFrame:
    """Each entity's row of a generation."""
    at = start + timedelta(milliseconds=generation)
    return pd.DataFrame(
        {"item": [f"item-{n}" for n in range(entities)], "known_at": at, **dict.fromkeys(names, generation)}
    )


if what == "prepare":
    folder.mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(
        "project: shop\nregistry: registry.db\nprovider: local\n"
        "online_store: {type: sqlite, path: online.db}\noffline_store: {type: dask}\n"
        "entity_key_serialization_version: 3\n"
    )
    rows(0).to_parquet(folder / "rows.parquet")
    store = FeatureStore(repo_path=str(folder))
    item = Entity(name="item", join_keys=["item"], value_type=ValueType.STRING)
    source = FileSource(name="rows", path=str(folder / "rows.parquet"), timestamp_field="known_at")
    schema = [Field(name="item", dtype=String), *(Field(name=name, dtype=Int64) for name in names)]
    store.apply(
        [
            item,
            FeatureView(name="stock", entities=[item], ttl=timedelta(days=30), source=source, schema=schema),
        ]
    )
    store.write_to_online_store("stock", rows(1))
else:
    seconds, address = float(sys.argv[4]), sys.argv[5] if len(sys.argv) > 5 else None
    store = FeatureStore(repo_path=str(folder))

    def write(generation: int) -> None:
        """All rows of a generation, into the online store."""
        found = rows(generation)
        if address is None:
            store.write_to_online_store("stock", found)
            return
        df = found.assign(known_at=found["known_at"].astype(str)).to_dict("list")
        body = json.dumps({"feature_view_name": "stock", "df": df}).encode()
        request = Request(f"{address}/write-to-online-store", body, {"content-type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            answer.read()

    print("writing", flush=True)
    generation, faults, until = 1, 0, time.monotonic() + seconds
    while time.monotonic() < until:
        generation += 1
        try:
            write(generation)
        except Exception:  # noqa: BLE001  # a write that failed is counted
            faults += 1
    print(json.dumps({"changes": generation - 1 - faults, "faults": faults}))
