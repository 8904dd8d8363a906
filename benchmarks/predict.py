"""``/predict`` over HTTP against LightGBM's own prediction of one row.

The bare side has a matrix of one row at hand and asks the booster, on one thread. Ours gets a request over a
connection that is kept open, from another process; it reads the features from LMDB, evaluates an on-demand
feature in DuckDB, encodes, scores, calibrates and writes the prediction down before it answers. Predictions
are of the tests' made-up water works, by 300 trees.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.report import Row
from benchmarks.served import make_app
from benchmarks.timing import free_port, percentiles
from orchestration.declarations import load_declarations
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.server import FeatureServer, serve
from orchestration.feature_store.views import Catalog, build_catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.algorithms.openmp import import_lightgbm
from orchestration.learning.events import Who
from orchestration.learning.registry import Registry
from orchestration.learning.serving.champions import Champions
from orchestration.learning.serving.log import PredictionLog
from orchestration.learning.serving.predictor import Predictor
from orchestration.learning.spec import ModelSpec, build_models
from orchestration.learning.training import train
from orchestration.model_serving import ModelServing
from orchestration.settings import PROJECT_DIR, Clock, Settings
from tests.model_works import CODE, MODEL, Rows, make_rows, manifest_with, silent

NOW = datetime(2024, 2, 29, 21, tzinfo=UTC)
TREES = 300
CALLS = 3_000


def _declared(*, on_demand: bool) -> tuple[Catalog, ModelSpec]:
    parameters = {"learning_rate": 0.02, "num_leaves": 31, "min_data_in_leaf": 20}
    algorithm = {"name": "lightgbm", "parameters": parameters, "rounds": TREES, "patience": TREES}
    manifest = manifest_with({**MODEL, "algorithm": algorithm})
    view = next(node for node in manifest["nodes"].values() if node["name"] == "pressure")
    view["config"]["meta"]["feature_view"]["online"] = True
    if not on_demand:
        (exposure,) = manifest["exposures"].values()
        meta = exposure["config"]["meta"]
        meta["feature_service"] = {**meta["feature_service"], "on_demand": {}}
    declarations = load_declarations(manifest)
    catalog = build_catalog(declarations)
    return catalog, build_models(declarations, catalog)["low_pressure"]


def _prepare(folder: Path, catalog: Catalog, spec: ModelSpec) -> None:
    """Features in the online store, and a champion in the registry."""
    settings = Settings(data_dir=folder)
    lakehouse, rows, clock = LakehouseResource.from_settings(settings), make_rows(), Clock(NOW)
    with lakehouse.transaction() as con:
        con.register("given", rows)
        con.execute("create schema lake.features")
        con.execute(
            "create table lake.features.pressure as select pump, pressure__known_at as known_at, "
            "pressure__mean as mean, pressure__valve as valve, pressure__is_new as is_new from given"
        )
    store = LmdbStore(settings.online_dir)
    materialize(lakehouse, store, catalog.view("pressure"), NOW)
    store.close()
    artifact, _ = train(spec, Rows(rows), settings.models_dir, CODE, silent)
    registry, who = Registry(lakehouse, settings.models_dir, clock), Who("benchmark", "to be measured")
    registry.register(artifact, who)
    registry.promote(spec.name, artifact.version, who)


def _app(folder: Path, on_demand: bool) -> FeatureServer:
    settings = Settings(data_dir=folder)
    catalog, spec = _declared(on_demand=on_demand)
    reader = OnlineReader(catalog, LmdbStore(settings.online_dir), Clock(NOW))
    champions = Champions(LakehouseResource.from_settings(settings), settings.models_dir, {spec.name: spec})
    log = PredictionLog(settings.prediction_log_dir)
    predictor = Predictor({spec.name: spec}, champions, reader, log, Clock(NOW))
    return make_app(folder, catalog, reader, NOW, predictor=ModelServing(predictor, champions, log))


def _bare(folder: Path, rows: int) -> tuple[float, float]:
    """The booster's own prediction."""
    (text,) = (folder / "models" / "low_pressure").glob("*/model.txt")
    booster = import_lightgbm().Booster(model_str=text.read_text())
    matrices = np.random.default_rng(1).normal(4, 1, (100, rows, booster.num_feature()))
    return percentiles(lambda n: booster.predict(matrices[n % 100], num_threads=1), CALLS)


def _ours(folder: Path, rows: int, *, on_demand: bool) -> tuple[float, float]:
    port, log = free_port(), folder / "server.log"
    command = [sys.executable, "-m", "benchmarks.predict", str(folder), str(port), str(int(on_demand))]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)}
        )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"the server did not come up:\n{log.read_text()}") from None
                time.sleep(0.1)
        pumps = ["alder", "birch", "cedar"]
        bodies = [
            json.dumps(
                {
                    "model": "low_pressure",
                    "entities": {
                        "pump": [pumps[(n + row) % 3] for row in range(rows)],
                        "demand": [(n + row) % 10 for row in range(rows)],
                    },
                }
            )
            for n in range(100)
        ]
        requests = [
            "POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
            for body in bodies
        ]
        # Python's own client takes longer for a response than the server.
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def ask(number: int) -> None:
                connection.sendall(requests[number % 100])
                told = connection.recv(65_536)
                if b" 200 " not in told[:15]:
                    raise RuntimeError(f"/predict: found {told[:500]!r}")
                while not told.endswith(b"}]}"):
                    told += connection.recv(65_536)

            return percentiles(ask, CALLS)
    finally:
        process.terminate()
        process.wait(15)


def run(place: Path, *, repeats: int) -> list[Row]:
    """One row and a hundred at once, with and without a feature that is evaluated at the request."""
    rows = []
    for on_demand in (True, False):
        folder = place / f"predict-{on_demand}"
        _prepare(folder, *_declared(on_demand=on_demand))
        for count in (1, 100):
            bare = [_bare(folder, count) for _ in range(repeats)]
            ours = [_ours(folder, count, on_demand=on_demand) for _ in range(repeats)]
            mid, late = (median(found[n] for found in ours) for n in (0, 1))
            bare_mid, bare_late = (median(found[n] for found in bare) for n in (0, 1))
            what = f"/predict, {count} row{'s' if count > 1 else ''}"
            rows.append(
                Row(
                    f"{what}, {'an' if on_demand else 'no'} on-demand feature",
                    f"p50 {mid:,.0f} us, p99 {late:,.0f} us",
                    f"p50 {bare_mid:,.0f} us, p99 {bare_late:,.0f} us: bare LightGBM",
                    mid / bare_mid,
                    None,
                )
            )
    return rows


if __name__ == "__main__":
    folder, listen, evaluated = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
    (folder / "counters").unlink(missing_ok=True)
    serve(Settings(data_dir=folder, server_port=listen), partial(_app, folder, evaluated))
