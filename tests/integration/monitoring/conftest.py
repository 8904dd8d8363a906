"""A lake in which a model has predicted for weeks, with the registry that tells what it was made with."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

from orchestration.declarations import load_declarations
from orchestration.feature_store.views import Catalog, build_catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import Artifact
from orchestration.learning.assets import Ground, model_key
from orchestration.learning.events import Who
from orchestration.learning.model import opened
from orchestration.learning.predictions import outcomes_key, predictions_key
from orchestration.learning.predictions.outcomes import record_outcomes
from orchestration.learning.predictions.scoring import predictions_of
from orchestration.learning.predictions.table import ensure_table
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.learning.training import train
from orchestration.monitoring.assets import build_monitoring_assets, monitoring_key
from orchestration.monitoring.watching import Watcher
from orchestration.settings import Clock, Settings
from tests.model_works import (
    CODE,
    FIRST_DAY,
    MODEL,
    PREDICT,
    Rows,
    make_rows,
    make_spec,
    manifest_with,
    silent,
)

TRAINED, PREDICTED = 60, 10
"""Days of which the model knows, and days after them that it predicts."""
ANNA = Who("anna@example.com", "It is better.")
MONITORING: dict[str, Any] = {
    "drift": {"min_rows": 200, "window": "7 days"},
    "performance": {"min_rows": 200, "window": "7 days", "loss": 0.1},
    "bias": {"window": "14 days", "min_rows": 50, "gaps": {"calibration": 0.15}},
}


def day(number: int) -> date:
    return (FIRST_DAY + timedelta(days=number)).date()


@dataclass
class Works:
    """Rows, the model trained on the first of them, and predictions of the rest as a test has them."""

    settings: Settings
    lakehouse: LakehouseResource
    spec: ModelSpec
    catalog: Catalog
    rows: pa.Table
    artifact: Artifact
    now: datetime
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def registry(self) -> Registry:
        return Registry(self.lakehouse, self.settings.models_dir, Clock(self.now))

    def predict(self, rows: pa.Table, *, mode: str = "batch", labels: pa.Table | None = None) -> None:
        """Score rows as they are, whatever history says; labels are those of the rows unless given."""
        made = predictions_of(self.spec, opened(self.artifact), rows, self.now, 1, "r", mode)
        if mode == "online":  # Each was made when it was asked for.
            made = changed(made, predicted_at=made["prediction_at"].to_pylist())
        labels = rows if labels is None else labels
        with self.lakehouse.transaction() as con:
            ensure_table(con, "predictions", self.spec.name, self.spec.prediction_columns)
            con.execute("create schema if not exists lake.training")
            con.register("made", made)
            con.register("labels", labels)
            named = ", ".join(f'"{name}"' for name in self.spec.prediction_columns)
            con.execute(f"insert into lake.predictions.low_pressure ({named}) select {named} from made")
            table = "lake.training.low_pressure_training_set"
            con.execute(f"create table if not exists {table} as select * from labels limit 0")
            con.execute(f"insert into {table} by name select * from labels")
        record_outcomes(self.lakehouse, self.spec, self.now)

    def watcher(self, now: datetime | None = None, run_id: str = "run") -> Watcher:
        return Watcher(
            self.spec, self.registry, self.lakehouse, self.catalog, lambda *_: Rows(self.rows),
            now or self.now, run_id, silent,
        )  # fmt: skip

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.lakehouse.reader() as con:
            return con.execute(sql).fetchall()

    def ground(self) -> Ground:
        return Ground(
            self.settings, Clock(self.now), lambda *_: Rows(self.rows), lambda name: dg.AssetKey(["dataset", name]),
            lambda _: [], lambda: CODE,
        )  # fmt: skip

    def run(self, *parts: str) -> dg.ExecuteInProcessResult:
        assets = build_monitoring_assets({self.spec.name: self.spec}, self.ground(), self.catalog)
        before = [
            dg.AssetSpec(key)
            for key in (model_key(self.spec, "champion"), predictions_key(self.spec), outcomes_key(self.spec))
        ]
        return dg.materialize(
            [*before, *assets],
            selection=[monitoring_key(self.spec, part) for part in parts],
            instance=self.instance,
            resources={"lakehouse": self.lakehouse},
        )


@pytest.fixture(scope="session")
def watched_rows() -> pa.Table:
    return make_rows(TRAINED + PREDICTED, 60)


@pytest.fixture(scope="session")
def watched_spec() -> ModelSpec:
    return make_spec(predict=PREDICT, monitoring=MONITORING)


@pytest.fixture(scope="session")
def trained(
    watched_rows: pa.Table, watched_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of artifacts with the model in it."""
    root = tmp_path_factory.mktemp("models")
    with threadpool_limits(1, "openmp"):  # So few rows take longer to share out.
        train(watched_spec, Rows(first_days(watched_rows, TRAINED)), root, CODE, silent)
    return root


def first_days(rows: pa.Table, days: int, since: int = 0) -> pa.Table:
    asked = rows.column("prediction_at")
    start, end = (pa.scalar(FIRST_DAY + timedelta(days=n), asked.type) for n in (since, since + days))
    return rows.filter(pa.compute.and_(pa.compute.greater_equal(asked, start), pa.compute.less(asked, end)))


def changed(rows: pa.Table, **columns: Any) -> pa.Table:
    """Rows with some columns replaced."""
    for name, values in columns.items():
        place = rows.column_names.index(name)
        rows = rows.set_column(place, name, pa.array(values, rows.schema.field(name).type))
    return rows


def numbers(rows: pa.Table, name: str) -> Any:
    return np.asarray(rows.column(name).to_pylist(), dtype=float)


@pytest.fixture
def works(tmp_path: Path, trained: Path, watched_rows: pa.Table, watched_spec: ModelSpec) -> Works:
    settings = Settings(data_dir=tmp_path / "data", duckdb_threads=1)
    settings.models_dir.parent.mkdir(parents=True)
    settings.models_dir.symlink_to(trained)
    lakehouse = LakehouseResource.from_settings(settings)
    (version,) = [p.name for p in (trained / watched_spec.name).iterdir()]
    from orchestration.learning.artifact import read_artifact  # noqa: PLC0415

    artifact = read_artifact(trained, watched_spec.name, version)
    found = Works(
        settings,
        lakehouse,
        watched_spec,
        build_catalog(load_declarations(manifest_with(MODEL))),
        watched_rows,
        artifact,
        datetime(2024, 3, 11, 1, tzinfo=UTC),
    )
    found.registry.register(artifact, ANNA)
    return found
