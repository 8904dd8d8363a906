"""A declared model and rows for it, made up: what the learning room is tested on without dbt."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from orchestration.declarations import load_declarations
from orchestration.feature_store.views import build_catalog
from orchestration.learning.spec import ModelSpec, build_models
from orchestration.learning.training import Code
from tests.manifests import model_node

CODE = Code("c0ffee", False, "10cc")
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)

MODEL: dict[str, Any] = {
    "training_set": "low_pressure_training_set",
    "label": "is_low",
    "request": ["pump", "demand"],
    "algorithm": {
        "name": "lightgbm",
        "parameters": {"learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 20},
        "rounds": 40,
        "patience": 10,
    },
    "baseline": {"name": "logistic_regression", "rounds": 100},
    "encoding": {"max_categories": 10, "min_rows": 5},
    "seed": 7,
    "split": {"validation": "7 days", "evaluation": "14 days", "embargo": "6 hours", "min_rows": 100},
    "metric": "auc",
    "operating_point": {"share": 0.3},
    "slices": ["pump"],
    "floors": {
        "metrics": {"auc": 0.55, "ece": 0.2},
        "slice_loss": 0.2,
        "smallest_slice": 100,
        "score_gap": 0.2,
    },
    "gate": {"minimum_gain": 0.002, "non_inferiority_margin": 0.05},
}
SERVICE: dict[str, Any] = {
    "features": ["pressure:mean", "pressure:valve", "pressure:is_new"],
    "request": {"demand": {"data_type": "integer", "description": "Wanted."}},
    "on_demand": {
        "shortage": {
            "expression": "demand - pressure__mean",
            "data_type": "double",
            "description": "Missing.",
        }
    },
}
COLUMNS = {
    "pump": "varchar",
    "demand": "integer",
    "is_low": "boolean",
    "split": "varchar",
    "prediction_at": "timestamptz",
    "label_known_at": "timestamptz",
    "pressure__known_at": "timestamptz",
    "pressure__mean": "double",
    "pressure__valve": "varchar",
    "pressure__is_new": "boolean",
    "shortage": "double",
}
PREDICT: dict[str, Any] = {"spine": "low_pressure_spine", "late_after": "3 hours", "never_after": "1 day"}
SPINE: dict[str, Any] = {"key": ["pump", "prediction_at"], "partition_by": "prediction_at"}
SPLIT = {
    "train_until": "2024-01-04T00:00:00Z",
    "validation_until": "2024-01-06T00:00:00Z",
    "embargo": "2 hours",
}


def readings_source() -> dict[str, Any]:
    """What the spine is made from, day by day."""
    ingest = {
        "uri": "readings.csv",
        "format": "csv",
        "primary_key": ["pump"],
        "event_time": "read_at",
        "partition": {"frequency": "daily", "start": "2024-01-01", "end": "2024-03-01"},
    }
    node = model_node("readings", "raw", {"pump": "varchar", "read_at": "timestamptz"}, ingest=ingest)
    return {
        **node,
        "unique_id": "source.works.raw.readings",
        "resource_type": "source",
        "source_name": "raw",
        "identifier": "readings",
    }


def manifest_with(
    model: Mapping[str, Any], kind: str = "ml", spine: Mapping[str, Any] = SPINE
) -> dict[str, Any]:
    """dbt's manifest with the model declared so."""
    source = readings_source()
    asked = {name: COLUMNS[name] for name in ("pump", "demand", "prediction_at")}
    spine_node = model_node("low_pressure_spine", "training", asked, spine=spine)
    spine_node["depends_on"]["nodes"] = [source["unique_id"]]
    training_set = {"feature_service": "low_pressure", "label": "is_low", "split": SPLIT}
    view = {
        "pump": "varchar",
        "known_at": "timestamptz",
        "mean": "double",
        "valve": "varchar",
        "is_new": "boolean",
    }
    nodes = [
        model_node("low_pressure_training_set", "training", COLUMNS, training_set=training_set),
        model_node("pressure", "features", view, feature_view={"entity": ["pump"], "ttl": "1 day"}),
        spine_node,
    ]
    exposure = {
        "unique_id": "exposure.works.low_pressure",
        "name": "low_pressure",
        "type": kind,
        "description": "Foresees low pressure.",
        "original_file_path": "models/training/low_pressure.yml",
        "config": {"meta": {"owner": "team:operators", "feature_service": SERVICE, "model": dict(model)}},
    }
    return {
        "sources": {source["unique_id"]: source},
        "nodes": {node["unique_id"]: node for node in nodes},
        "exposures": {exposure["unique_id"]: exposure},
    }


def make_spec(**changed: Any) -> ModelSpec:
    """The model, with parts of its declaration changed; a dict is merged into what stands there."""
    model = deepcopy(MODEL)
    for key, value in changed.items():
        model[key] = {**model[key], **value} if isinstance(value, dict) and key in model else value
    declarations = load_declarations(manifest_with(model))
    return build_models(declarations, build_catalog(declarations))["low_pressure"]


def make_rows(days: int = 60, rows: int = 60, *, seed: int = 1, strength: float = 1.0) -> pa.Table:
    """``days`` of ``rows`` each, the label depending on pressure, valve and demand as far as ``strength`` says."""
    dice = np.random.default_rng(seed)
    count = days * rows
    asked = [FIRST_DAY + timedelta(days=i // rows, minutes=(i % rows) * 20) for i in range(count)]
    pumps = np.array(["alder", "birch", "cedar"])[dice.integers(0, 3, count)]
    valves = np.array(["open", "shut", "stuck"])[dice.integers(0, 3, count)]
    mean = dice.normal(4, 1, count)
    demand = dice.integers(0, 10, count)
    weather = dice.normal(0, 0.3, days)[np.arange(count) // rows]
    # What a line cannot tell: a stuck valve turns around what pressure means.
    odds = (
        strength * (1.5 * (4 - mean) * np.where(valves == "stuck", -1, 1) + 0.1 * (demand - 5))
        - 0.7
        + weather
    )
    late = dice.random(count) < 1 / (1 + np.exp(-odds))
    missing = dice.random(count) < 0.05
    instant = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "pump": pumps,
            "demand": pa.array(demand, pa.int32()),
            "is_low": late,
            "split": ["train"] * count,
            "prediction_at": pa.array(asked, instant),
            "label_known_at": pa.array([at + timedelta(hours=2) for at in asked], instant),
            "pressure__known_at": pa.array(asked, instant),
            "pressure__mean": pa.array(mean, mask=missing),
            "pressure__valve": pa.array(valves, mask=missing),
            "pressure__is_new": pa.array(dice.random(count) < 0.5, mask=missing),
            "shortage": pa.array(demand - mean, mask=missing),
        }
    )


@dataclass(frozen=True)
class Rows:
    """Rows as a dataset version gives them."""

    table: pa.Table
    version: str = "d0"

    def columns(self) -> list[str]:
        """All of them."""
        return list(self.table.column_names)

    def read(self, *, columns: Sequence[str] | None = None) -> pa.Table:
        """The named columns."""
        return self.table if columns is None else self.table.select(list(columns))


def silent(line: str) -> None:
    """Takes progress and says nothing."""
