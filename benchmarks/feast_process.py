"""Feast's side, run by the Python of its own environment: ``feast_process.py WHAT FOLDER DECLARED``.

The last line that it prints is JSON. Feast may have its caches warm: each timed call follows an untimed one,
but for what is timed once because it takes long.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Bool, Float64, Int32, Int64, String

TYPES = {"double": Float64, "bigint": Int64, "integer": Int32, "boolean": Bool, "varchar": String}
ENTITIES = {"bigint": ValueType.INT64, "varchar": ValueType.STRING}


def _open(folder: Path, online_store: str) -> FeatureStore:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(
        f"project: bench\nregistry: {folder}/registry.db\nprovider: local\nonline_store: {online_store}\n"
        "offline_store: {type: duckdb}\nentity_key_serialization_version: 3\n"
    )
    return FeatureStore(repo_path=str(folder))


def _apply(store: FeatureStore, declared: dict[str, Any]) -> None:
    """Declare one view over a Parquet file."""
    key, key_type = declared["entity"]
    entity = Entity(name=key, join_keys=[key], value_type=ENTITIES[key_type])
    view = FeatureView(
        name=declared["name"],
        entities=[entity],
        ttl=timedelta(days=declared["ttl_days"]),
        source=FileSource(name="file", path=declared["file"], timestamp_field="known_at"),
        schema=[Field(name=name, dtype=TYPES[kind]) for name, kind in declared["features"].items()],
    )
    store.apply([entity, view])


def historical(folder: Path, declared: dict[str, Any]) -> dict[str, float]:
    """``get_historical_features`` with the DuckDB offline store, from a DataFrame to an Arrow table."""
    store = _open(folder / "feast", "{type: sqlite}")
    _apply(store, declared)
    spine = pd.read_parquet(folder / "spine.parquet").rename(columns={"known_at": "event_timestamp"})
    wanted = [f"{declared['name']}:{name}" for name in declared["features"]]
    started = time.perf_counter()
    table = store.get_historical_features(entity_df=spine, features=wanted).to_arrow()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "total": float(sum(v or 0 for v in table.column("f0").to_pylist()))}


def materialize(folder: Path, declared: dict[str, Any]) -> dict[str, float]:
    """``feast materialize`` of everything."""
    store = _open(folder, declared["online_store"])
    _apply(store, declared)
    started = time.perf_counter()
    store.materialize(datetime(2023, 12, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
    return {"seconds": time.perf_counter() - started}


def read(folder: Path, declared: dict[str, Any]) -> dict[str, list[float]]:
    """Microseconds of reads in process: the median and the 99th in a hundred, by number of entities."""
    store = FeatureStore(repo_path=str(folder))
    wanted = [f"{declared['name']}:{name}" for name in declared["features"]]
    found = {}
    for count, calls in ((1, 1000), (100, 100)):
        taken = []
        for number in range(calls + calls // 10):
            rows = [{declared["entity"][0]: key} for key in declared["keys"][number * count :][:count]]
            started = time.perf_counter_ns()
            answer = store.get_online_features(features=wanted, entity_rows=rows).to_dict()
            taken.append((time.perf_counter_ns() - started) / 1000)
            assert None not in answer[wanted[0].partition(":")[2]], answer
        taken = taken[calls // 10 :]
        found[str(count)] = [median(taken), quantiles(taken, n=100)[98]]
    return found


if __name__ == "__main__":
    work = {"historical": historical, "materialize": materialize, "read": read}[sys.argv[1]]
    told = work(Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()))
    print("\n" + json.dumps(told))
