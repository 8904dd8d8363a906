"""Predictions on request: the champion's score of what is known now, logged whole, whoever is killed when."""

import asyncio
import json
import os
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from orchestration.declarations import Declarations, load_declarations
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.views import build_catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import Artifact
from orchestration.learning.assets import Ground, decide
from orchestration.learning.encoding import EncodedColumn, MatrixEncoding
from orchestration.learning.events import Who
from orchestration.learning.judging import judge_challenger
from orchestration.learning.model import opened
from orchestration.learning.predictions.table import ensure_table
from orchestration.learning.registry import Registry
from orchestration.learning.serving.assets import (
    build_online_prediction_assets,
    build_prediction_sensor,
    online_predictions_key,
    waiting,
)
from orchestration.learning.serving.champions import Champions
from orchestration.learning.serving.landing import Landed, RefusedFilesError, land_predictions
from orchestration.learning.serving.log import PredictionLog, whole_segments
from orchestration.learning.serving.predictor import Predictor
from orchestration.learning.spec import ModelSpec, build_models
from orchestration.learning.training import train
from orchestration.model_serving import ModelServing
from orchestration.monitoring.assets import build_monitoring_assets, monitoring_key, skew_check
from orchestration.monitoring.watching import Watcher
from orchestration.settings import Clock, Settings
from tests.forks import CONTEXT
from tests.model_works import CODE, MODEL, PREDICT, Rows, make_rows, make_spec, manifest_with, silent
from tests.unit.feature_store.server.counter_of_a_shop import Shop, call, open_shop

ANNA = Who("anna@example.com", "It is better.")
NOW = datetime(2024, 2, 29, 21, tzinfo=UTC)


def declared(request: Mapping[str, Any] | None = None) -> Declarations:
    """The water works with online features, and with these request columns if any are named."""
    manifest = deepcopy(manifest_with({**MODEL, "predict": PREDICT}))
    view = next(node for node in manifest["nodes"].values() if node["name"] == "pressure")
    view["config"]["meta"]["feature_view"]["online"] = True
    for exposure in manifest["exposures"].values():
        exposure["config"]["meta"]["feature_service"]["request"] |= request or {}
    return load_declarations(manifest)


DECLARED = declared()
CATALOG = build_catalog(DECLARED)


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return build_models(DECLARED, CATALOG)["low_pressure"]


@dataclass(frozen=True)
class Trained:
    """Two versions as they were written, and the online store that they read."""

    root: Path
    artifacts: tuple[Artifact, Artifact]
    data: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, spec: ModelSpec) -> Trained:
    folder, rows = tmp_path_factory.mktemp("models"), make_rows()
    other = replace(spec, declared=spec.declared.model_copy(update={"seed": 8}))
    first, second = (train(one, Rows(rows), folder / "models", CODE, silent)[0] for one in (spec, other))
    lakehouse = LakehouseResource.from_settings(Settings(data_dir=folder / "data", duckdb_threads=1))
    with lakehouse.transaction() as con:
        con.register("given", rows)
        con.execute("create schema lake.features")
        con.execute(
            "create table lake.features.pressure as select pump, pressure__known_at as known_at, "
            "pressure__mean as mean, pressure__valve as valve, pressure__is_new as is_new from given"
        )
    store = LmdbStore(folder / "data" / "online")
    materialize(lakehouse, store, CATALOG.view("pressure"), NOW)
    store.close()
    registry = Registry(lakehouse, folder / "models", Clock(NOW))
    for artifact in (first, second):
        registry.register(artifact, ANNA)
    return Trained(folder / "models", (first, second), folder / "data")


class Works:
    """A server of one model over a lakehouse, an online store and a registry of its own."""

    def __init__(self, folder: Path, trained: Trained, spec: ModelSpec) -> None:
        lake = shutil.copytree(trained.data, folder / "data") / "lake"
        with sqlite3.connect(lake / "catalog.sqlite") as catalog:  # which knows where its files are
            catalog.execute(
                "update ducklake_metadata set value = ? where key = 'data_path'", (f"{lake}/files/",)
            )
        catalog.close()
        self.root = shutil.copytree(trained.root, folder / "models")
        self.settings = settings = Settings(data_dir=folder / "data", duckdb_threads=1)
        self.lakehouse = LakehouseResource.from_settings(settings)
        self.spec, self.log_dir, self.folder = spec, settings.prediction_log_dir, folder
        self.first, self.second = trained.artifacts
        self.registry = Registry(self.lakehouse, self.root, Clock(NOW))
        self.store, self.log = LmdbStore(settings.online_dir), PredictionLog(self.log_dir, sync_seconds=0.01)
        self.reader = OnlineReader(CATALOG, self.store, Clock(NOW))
        self.champions = Champions(self.lakehouse, self.root, {spec.name: spec})
        predictor = Predictor({spec.name: spec}, self.champions, self.reader, self.log, Clock(NOW))
        self.serving = ModelServing(predictor, self.champions, self.log)

    def open(self, **settings: Any) -> Shop:
        return open_shop(self.folder, predictor=self.serving, **settings)

    def promote(self, artifact: Artifact) -> None:
        self.registry.promote("low_pressure", artifact.version, ANNA)
        self.champions.look()

    def land(self) -> Landed:
        return land_predictions(self.lakehouse, self.log_dir, self.spec)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.lakehouse.reader() as con:
            return con.execute(sql).fetchall()

    def close(self) -> None:
        self.serving.close()
        self.store.close()


@pytest.fixture
def works(tmp_path: Path, trained: Trained, spec: ModelSpec) -> Iterator[Works]:
    works = Works(tmp_path / "works", trained, spec)
    yield works
    works.close()


def request(**columns: list[Any]) -> dict[str, Any]:
    return {"model": "low_pressure", "entities": {"pump": ["alder"], "demand": [7], **columns}}


def test_a_request_gets_the_champions_score_of_what_is_known_now(works: Works) -> None:
    works.promote(works.first)
    pumps, demand = ["alder", "birch", "cedar", "none such", None], [7, 0, None, 3, 3]
    got = call(works.open(), "POST", "/predict", request(pump=pumps, demand=demand))
    assert got.status == 200, got.body
    told, predictions = got.json, got.json["predictions"]
    assert (told["model"], told["model_version"], told["dataset_version"], told["predicted_at"]) == (
        "low_pressure", works.first.version, "d0", "2024-02-29T21:00:00Z",
    )  # fmt: skip

    newest = works.ask(
        "select pump, mean, valve, is_new, epoch(known_at) from lake.features.pressure "
        "qualify row_number() over (partition by pump order by known_at desc) = 1"
    )
    held = {pump: rest for pump, *rest in newest}
    rows = [held.get(pump, [None] * 4) for pump in pumps]
    table = pa.table(
        {
            "pump": pa.array(pumps, pa.string()),
            "demand": pa.array(demand, pa.int32()),
            "pressure__mean": pa.array([r[0] for r in rows], pa.float64()),
            "pressure__valve": pa.array([r[1] for r in rows], pa.string()),
            "pressure__is_new": pa.array([r[2] for r in rows], pa.bool_()),
            "shortage": pa.array(
                [None if r[0] is None or d is None else d - r[0] for r, d in zip(rows, demand, strict=True)],
                pa.float64(),
            ),
        }
    )
    model = opened(works.first)
    expected = model.scorer.score(table)
    assert [p["score"] for p in predictions] == expected.tolist()
    assert [p["decision"] for p in predictions] == (expected >= model.threshold).tolist()
    assert [p["feature_ages"]["pressure"] for p in predictions] == [
        None if r[3] is None else NOW.timestamp() - float(r[3]) for r in rows
    ]

    works.close()
    assert works.land() == Landed(1, 5)
    kept = works.ask(
        "select prediction_id, mode, model_version, dataset_version, prediction_at = predicted_at, "
        "prediction_at::varchar, run_id, snapshot_id from lake.predictions.low_pressure order by all"
    )
    ids = sorted(p["prediction_id"] for p in predictions)
    assert len(set(ids)) == 5
    assert kept == [
        (key, "online", works.first.version, "d0", True, "2024-02-29 21:00:00+00", None, None) for key in ids
    ]
    with works.lakehouse.reader() as con:
        logged = con.execute("from lake.predictions.low_pressure").to_arrow_table()
    assert np.array_equal(model.scorer.score(logged), np.asarray(logged["score"]))
    columns = {name: str(kind) for name, kind, *_ in works.ask("describe lake.predictions.low_pressure")}
    declared = works.spec.prediction_columns
    assert {n: k.lower() for n, k in columns.items() if n in declared}.keys() == declared.keys()


def test_another_champion_serves_without_a_restart_and_no_answer_is_of_two(works: Works) -> None:
    works.promote(works.first)
    shop, table = works.open(), {}
    for artifact in (works.first, works.second):
        works.promote(artifact)
        table[artifact.version] = call(shop, "POST", "/predict", request()).json["predictions"][0]["score"]
    assert len(table) == 2
    works.registry.rollback("low_pressure", ANNA)  # The thread that looks at the registry finds it.
    until, seen = time.monotonic() + 20, list[str]()
    while time.monotonic() < until and works.first.version not in seen:
        told = call(shop, "POST", "/predict", request()).json
        assert told["predictions"][0]["score"] == table[told["model_version"]]
        seen.append(told["model_version"])
    assert (seen[-1], set(seen) - set(table)) == (works.first.version, set())


def test_a_champion_that_is_not_as_registered_does_not_harm_the_one_that_serves(works: Works) -> None:
    works.promote(works.first)
    works.registry.promote("low_pressure", works.second.version, ANNA)
    (works.root / "low_pressure" / works.second.version / "model.txt").write_text("trees?")
    works.champions.look()
    assert call(works.open(), "POST", "/predict", request()).json["model_version"] == works.first.version
    fresh = Champions(works.lakehouse, works.root, {works.spec.name: works.spec})
    fresh.look()
    with pytest.raises(RuntimeError, match=r"its champion .* is not as it was registered: .*model\.txt"):
        fresh.current("low_pressure")
    fresh.close()


def test_a_service_that_asks_for_the_instant_gets_now_unless_it_is_told(works: Works) -> None:
    works.promote(works.first)
    declarations = declared({"prediction_at": {"data_type": "timestamptz", "description": "When."}})
    catalog = build_catalog(declarations)
    spec = build_models(declarations, catalog)["low_pressure"]
    reader = OnlineReader(catalog, works.store, Clock(NOW))
    predictor = Predictor({spec.name: spec}, works.champions, reader, works.log, Clock(NOW))
    assert predictor.columns("low_pressure")[1] == {"prediction_at": "timestamptz"}
    columns: dict[str, list[Any]] = {"pump": ["alder"], "demand": [7]}
    earlier = NOW - timedelta(hours=3)
    for told in ({}, {"prediction_at": [earlier]}):
        asyncio.run(predictor.predict("low_pressure", {**columns, **told}))
    works.close()
    assert land_predictions(works.lakehouse, works.log_dir, spec) == Landed(1, 2)
    told_of = "select epoch(prediction_at), epoch(predicted_at) from lake.predictions.low_pressure order by 1"
    now = NOW.timestamp()
    assert works.ask(told_of) == [(earlier.timestamp(), now), (now, now)]
    # Of whatever instant it is, it is made from what is known now, and that is no skew.
    watcher = Watcher(
        spec, works.registry, works.lakehouse, catalog, lambda *_: Rows(make_rows()), NOW, "r", silent
    )
    compared = watcher.skew(watcher.today)[works.first.version]
    assert [(column.rows, column.differences) for column in compared] == [(2, 0)] * 4


def predicting_later(
    works: Works, minutes: int, *, lag: timedelta | None = None
) -> tuple[Predictor, Watcher]:
    """A predictor so long after the store was brought up, and who watches it."""
    clock, spec = Clock(NOW + timedelta(minutes=minutes)), works.spec
    if lag is not None:
        watched = spec.declared.monitoring
        watched = watched.model_copy(update={"skew": watched.skew.model_copy(update={"lag": lag})})
        spec = replace(spec, declared=spec.declared.model_copy(update={"monitoring": watched}))
    reader = OnlineReader(CATALOG, works.store, clock)
    predictor = Predictor({spec.name: spec}, works.champions, reader, works.log, clock)
    return predictor, Watcher(
        spec, works.registry, works.lakehouse, CATALOG, lambda *_: Rows(make_rows()), clock.now(), "r", silent
    )


def test_what_became_known_since_the_store_was_brought_up_is_no_difference(works: Works) -> None:
    works.promote(works.first)
    predictor, watcher = predicting_later(works, 10)
    with works.lakehouse.transaction() as con:  # Known to the store, and too old ten minutes later.
        ensure_table(con, "predictions", "low_pressure", works.spec.prediction_columns)  # as batches make it
        con.execute(
            f"insert into lake.features.pressure values ('old', timestamptz '{NOW}' - interval '1435 minutes', "
            "3, 'open', true)"
        )
    materialize(works.lakehouse, works.store, CATALOG.view("pressure"), NOW)
    with works.lakehouse.transaction() as con:
        for minutes, mean in ((4, 100), (7, 200)):
            known_at = NOW + timedelta(minutes=minutes)
            con.execute(
                f"insert into lake.features.pressure values ('alder', '{known_at}', {mean}, 'open', true)"
            )
    asked = {"pump": ["alder", "birch", "old"], "demand": [7, 8, 9]}
    asyncio.run(predictor.predict("low_pressure", asked))
    works.close()
    assert works.land() == Landed(1, 3)
    assert works.ask("select distinct features_as_of['pressure'] from lake.predictions.low_pressure") == [
        (NOW,)
    ]

    def found(watcher: Watcher) -> dict[str, tuple[int, float | None]]:
        told = watcher.skew(watcher.today)[works.first.version]
        return {column.column_name: (column.differences, column.behind) for column in told}

    assert found(watcher) == {
        "pressure__mean": (0, 600), "pressure__valve": (0, 600), "pressure__is_new": (0, 600), "shortage": (0, None),
    }  # fmt: skip
    late = predicting_later(works, 10, lag=timedelta(minutes=6))[1]
    assert found(late)["pressure__mean"] == (1, 600)
    assert works.ask(
        "select offline, alarm from lake.monitoring.skew where column_name = 'pressure__mean'"
    ) == [("100.0", True)]


def test_a_feature_declared_since_is_not_looked_for_in_earlier_predictions(works: Works) -> None:
    works.promote(works.first)
    predictor, _ = predicting_later(works, 0)
    asyncio.run(predictor.predict("low_pressure", {"pump": ["alder"], "demand": [7.0]}))
    works.close()
    works.land()
    assert works.ask("select demand from lake.predictions.low_pressure") == [(7,)]
    manifest = deepcopy(manifest_with({**MODEL, "predict": PREDICT}))
    (exposure,) = manifest["exposures"].values()
    for node in manifest["nodes"].values():
        added = {"low_pressure_training_set": ("rain", "spare"), "low_pressure_spine": ("rain",)}
        for name in added.get(node["name"], ()):
            node["columns"][name] = {**node["columns"]["demand"], "name": name, "data_type": "double"}
    service = exposure["config"]["meta"]["feature_service"]
    service["request"]["rain"] = {"data_type": "double", "description": "Foreseen."}
    service["on_demand"]["spare"] = {
        "expression": "rain + pressure__mean", "data_type": "double", "description": "What there is."
    }  # fmt: skip
    declarations = load_declarations(manifest)
    catalog = build_catalog(declarations)
    spec = build_models(declarations, catalog)["low_pressure"]
    assert "spare" in {i.name for i in spec.inputs}
    watcher = Watcher(
        spec, works.registry, works.lakehouse, catalog, lambda *_: Rows(make_rows()), NOW, "r", silent
    )
    told = watcher.skew(watcher.today)[works.first.version]
    assert {column.column_name: column.differences for column in told} == {
        "pressure__mean": 0, "pressure__valve": 0, "pressure__is_new": 0, "shortage": 0,
    }  # fmt: skip


def test_a_file_that_cannot_be_landed_holds_up_no_other(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.learning.serving.log.SEGMENT_BYTES", 1)
    works.promote(works.first)
    predictor, _ = predicting_later(works, 0)
    for demand in (1, 2, 3):
        asyncio.run(predictor.predict("low_pressure", {"pump": ["alder"], "demand": [demand]}))
    works.close()
    _, bad, old = whole_segments(works.log_dir / "low_pressure")
    line = json.loads(old.read_text())
    del line["features_as_of"]  # as it was written before there was such a thing
    old.write_text(json.dumps(line) + "\n")
    right = bad.read_text()
    bad.write_text(right + right.replace('"demand":2', '"demand":"much"'))
    with pytest.raises(RefusedFilesError, match=r"1 of 3 files cannot be landed.*\.refused: .*much"):
        works.land()
    wanted = "select demand, features_as_of is null from lake.predictions.low_pressure order by all"
    assert works.ask(wanted) == [(1, False), (3, True)]
    assert waiting(works.log_dir, ["low_pressure"]) == []
    assert works.land() == Landed(0, 0)
    (kept,) = (works.log_dir / "low_pressure").iterdir()
    kept.write_text(right)
    kept.rename(bad)
    assert works.land() == Landed(1, 1)


def test_the_sensor_asks_for_a_run_once_something_waits_and_the_asset_lands_it(works: Works) -> None:
    works.promote(works.first)
    assets = build_online_prediction_assets({works.spec.name: works.spec}, works.log_dir)
    sensor = build_prediction_sensor(assets, works.settings, dg.DefaultSensorStatus.STOPPED)

    def ticked() -> list[dg.RunRequest]:
        return sensor.evaluate_tick(dg.build_sensor_context()).run_requests or []

    assert ticked() == []
    call(works.open(), "POST", "/predict", request())
    works.close()
    (asked,) = ticked()
    assert asked.asset_selection == [online_predictions_key(works.spec)]
    done = dg.materialize(assets, resources={"lakehouse": works.lakehouse})
    (event,) = done.asset_materializations_for_node("online_predictions__low_pressure")
    assert event.metadata["rows_landed"].value == 1
    assert ticked() == []


def test_what_was_served_is_compared_with_history_and_a_difference_stops_promotion(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.learning.serving.log.SEGMENT_BYTES", 1)  # Each answer can be landed.
    works.settings.models_dir.symlink_to(works.root)
    ground = Ground(
        works.settings, Clock(NOW), lambda *_: Rows(make_rows()), lambda name: dg.AssetKey(["dataset", name]),
        lambda _: [], lambda _: CODE,
    )  # fmt: skip
    online = build_online_prediction_assets({works.spec.name: works.spec}, works.log_dir)
    watching = build_monitoring_assets({works.spec.name: works.spec}, ground, CATALOG)
    wanted = [online_predictions_key(works.spec), monitoring_key(works.spec, "skew")]
    instance, shop, view = dg.DagsterInstance.ephemeral(), works.open(), CATALOG.view("pressure")

    def watched() -> dg.AssetCheckEvaluation:
        done = dg.materialize(
            [*online, *watching],
            selection=wanted,
            instance=instance,
            resources={"lakehouse": works.lakehouse},
        )
        (found,) = done.get_asset_check_evaluations()
        return found

    def changed_online(by: str) -> None:
        with works.lakehouse.transaction() as con:
            con.execute(f"update lake.features.pressure set mean = mean {by} where pump = 'alder'")
        materialize(works.lakehouse, works.store, view, NOW)

    both = request(pump=["alder", "birch"], demand=[7, 8])
    works.promote(works.first)
    assert call(shop, "POST", "/predict", both).status == 200
    right = watched()
    assert (right.passed, right.description) == (True, "4 features of 2 predictions are what history says")

    changed_online("+ 2")
    wrong = call(shop, "POST", "/predict", both).json["predictions"][0]["prediction_id"]
    changed_online("- 2")
    works.promote(works.second)  # The version that serves now was served with what is right.
    assert call(shop, "POST", "/predict", both).status == 200
    found = watched()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    told = works.ask(
        "select model_version, column_name, rows, differences, example, round(online::double - offline::double, 6) "
        "from lake.monitoring.skew where differences > 0 order by column_name"
    )
    first = works.first.version
    assert told == [(first, "pressure__mean", 4, 1, wrong, 2.0), (first, "shortage", 4, 1, wrong, -2.0)]
    assert works.ask("select distinct model_version, rows from lake.monitoring.skew order by rows") == [
        (works.second.version, 2), (first, 4),
    ]  # fmt: skip

    holds = replace(ground, watches=lambda spec: [skew_check(spec)]).verdicts(instance, works.spec)
    judged = judge_challenger(
        works.spec,
        ground.registry(works.lakehouse),
        first,
        ground.open_dataset,
        holds,
        NOW,
        CODE,
        ANNA,
        silent,
    )
    refused = [result for result in judged.results if not result.passed]
    assert refused[0].name == "inputs_hold"
    assert refused[0].evidence["failed"] == ["monitoring/low_pressure_skew:no_skew"]
    assert decide("low_pressure", works.registry, ANNA)[0].startswith(f"{works.second.version} serves on")


def test_what_cannot_be_predicted_is_refused_with_its_reason(works: Works, spec: ModelSpec) -> None:
    shop = works.open()

    def refused(body: Any, **more: Any) -> tuple[int, str]:
        got = call(shop, "POST", "/predict", body, **more)
        return got.status, got.json["error"]

    assert refused(request())[0] == 503
    assert "low_pressure: found no champion" in refused(request())[1]
    works.promote(works.first)
    assert refused({**request(), "model": "rain"}) == (404, "unknown model 'rain'. Known: low_pressure")
    assert refused({"model": 1}) == (422, "model: expected the name of a model")
    assert refused({"model": "low_pressure", "entities": {"pump": ["a"]}})[1].startswith(
        "entities: no column demand, expected demand, pump"
    )
    assert refused(request(colour=["red"]))[1].startswith("entities: unknown column colour")
    assert refused(request(demand=["much"]))[0] == 422
    # DuckDB would take 1.5 for 2 when it is landed, and could not read the others at all.
    for wrong in (1.5, 2**31, True):
        assert refused(request(demand=[wrong]))[0] == 422
    assert refused(request(pump=[3]))[0] == 422
    assert refused({**request(), "rows": 1})[0] == 422
    shutil.rmtree(works.folder / "data" / "online")
    works.store.close()
    assert refused(request())[0] == 503
    assert list(whole_segments(works.log_dir / "low_pressure")) == []

    changed = make_spec(predict=PREDICT, request=["demand"])
    champions = Champions(works.lakehouse, works.root, {spec.name: changed})
    champions.look()
    with pytest.raises(RuntimeError, match=f"schema {spec.schema_hash}, expected {changed.schema_hash}"):
        champions.current("low_pressure")
    champions.close()


@pytest.mark.parametrize("infinite", ["reject", "null"])
def test_an_infinite_feature_is_refused_or_missing_as_declared(
    works: Works, spec: ModelSpec, infinite: Literal["reject", "null"]
) -> None:
    other = replace(spec, declared=spec.declared.model_copy(update={"infinite": infinite}))
    artifact, _ = train(other, Rows(make_rows()), works.root, CODE, silent)
    works.registry.register(artifact, ANNA)
    works.promote(artifact)
    with works.lakehouse.transaction() as con:
        con.execute(
            "insert into lake.features.pressure values "
            "('alder', '2024-02-29 20:59:00+00', '-infinity', 'open', true)"
        )
    materialize(works.lakehouse, works.store, CATALOG.view("pressure"), NOW)
    got = call(works.open(), "POST", "/predict", request())
    if infinite == "reject":
        assert got.status == 503
        assert "infinite values of pressure:mean (column pressure__mean) in 1 row" in got.json["error"]
        assert "infinite values of shortage in 1 row" in got.json["error"]
        return
    missing = pa.table(
        {
            "pump": ["alder"], "demand": pa.array([7], pa.int32()), "pressure__valve": ["open"],
            "pressure__mean": pa.array([None], pa.float64()), "pressure__is_new": [True],
            "shortage": pa.array([None], pa.float64()),
        }
    )  # fmt: skip
    assert got.json["predictions"][0]["score"] == opened(artifact).scorer.score(missing)[0]


def test_a_prediction_that_cannot_be_written_down_is_not_given(works: Works) -> None:
    works.promote(works.first)
    works.log_dir.write_text("no folder")
    got = call(works.open(), "POST", "/predict", request())
    assert (got.status, "cannot be written down" in got.json["error"]) == (503, True)


def test_a_key_asks_the_models_of_its_role(works: Works, tmp_path: Path) -> None:
    works.promote(works.first)
    digest = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"  # of "password"
    keys = tmp_path / "keys.yml"
    keys.write_text(
        "roles: {deciding: {predict: [low_pressure]}, reading: {read: ['*']}}\n"
        f"keys:\n- {{name: one, role: deciding, sha256: {digest}}}\n"
        f"- {{name: two, role: reading, sha256: {digest}}}\n"
    )
    shop = works.open(server_keys_file=keys)
    assert [
        call(shop, "POST", "/predict", request(), key=key).status
        for key in ("one.password", "two.password", "one.wrong", None)
    ] == [200, 403, 401, 401]


def predict_for_ever(folder: Path, trained: Trained, spec: ModelSpec, answered: Any) -> None:
    """A server's process that tells what it has answered."""
    works = Works(folder, trained, spec)
    works.promote(works.first)
    answered.send("ready")
    while True:
        columns = {"pump": ["alder", "birch"], "demand": [7, 8]}
        made = asyncio.run(works.serving.predict("low_pressure", columns))
        answered.send(list(made.prediction_ids))


def test_a_killed_server_loses_nothing_that_it_has_answered(
    tmp_path: Path, trained: Trained, spec: ModelSpec
) -> None:
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=predict_for_ever, args=(tmp_path / "works", trained, spec, theirs))
    process.start()
    theirs.close()
    ids = []
    assert ours.recv() == "ready"
    while len(ids) < 200:
        ids += ours.recv()
    settings = Settings(data_dir=tmp_path / "works" / "data", duckdb_threads=1)
    lakehouse = LakehouseResource.from_settings(settings)
    early = land_predictions(lakehouse, settings.prediction_log_dir, spec)
    assert early == Landed(0, 0)  # While it lives, the file is its own.
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    try:
        while True:
            ids += ours.recv()
    except EOFError:
        process.join()

    folder = settings.prediction_log_dir / "low_pressure"
    (left,) = folder.iterdir()
    with left.open("ab") as file:
        file.write(b'{"prediction_id": "half a li')  # as a kill amid a write would leave it
    kept = tmp_path / "kept"
    shutil.copy(left, kept)
    landed = land_predictions(lakehouse, settings.prediction_log_dir, spec)
    assert landed.rows - len(ids) in (0, 2)  # One may have been written that was not told yet.
    with lakehouse.reader() as con:
        found = con.execute("select prediction_id from lake.predictions.low_pressure").fetchall()
    assert {key for (key,) in found} >= set(ids)
    assert len(found) == landed.rows
    shutil.copy(kept, folder / "0.open")  # as a landing leaves it that is killed after its commit
    assert land_predictions(lakehouse, settings.prediction_log_dir, spec) == Landed(1, 0)
    assert list(folder.iterdir()) == []


def test_of_a_write_that_does_not_fit_nothing_stays(tmp_path: Path) -> None:
    """As on a full disk: the system writes what fits, and says how much that was."""
    log = PredictionLog(tmp_path)
    log.write("m", [b'{"n": 1}'])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, before[1]))
    try:
        with pytest.raises(OSError, match="21 of 27 bytes were written"):
            log.write("m", [b'{"n": 2}'] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.write("m", [b'{"n": 3}'])
    log.close()
    (file,) = whole_segments(tmp_path / "m")
    assert file.read_bytes() == b'{"n": 1}\n{"n": 3}\n'


def test_lines_of_processes_do_not_mix_and_full_files_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.learning.serving.log.SEGMENT_BYTES", 100)
    one, two = PredictionLog(tmp_path, sync_seconds=0.01), PredictionLog(tmp_path, sync_seconds=0.01)
    for number in range(20):
        one.write("m", [b'{"one": %d}' % number])
        two.write("m", [b'{"two": %d}' % number, b"{}"])
    assert len(list(whole_segments(tmp_path / "m"))) >= 4
    one.close()
    two.close()
    files = list(whole_segments(tmp_path / "m"))
    lines = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    assert [line["one"] for line in lines if "one" in line] == list(range(20))
    assert [line["two"] for line in lines if "two" in line] == list(range(20))
    assert sum(not line for line in lines) == 20
    assert all(file.stat().st_size < 130 for file in files)


def test_values_are_encoded_as_columns_of_a_table_are() -> None:
    encoding = MatrixEncoding(
        (
            EncodedColumn("number", "number"),
            EncodedColumn("price", "number"),
            EncodedColumn("flag", "flag"),
            EncodedColumn("text", "category", ("a", "b")),
        )
    )
    values: dict[str, list[Any]] = {
        "number": [1, None, -0.0, 0.1],
        "price": [Decimal("0.10"), None, Decimal("12345678901234567.89"), Decimal(0)],
        "flag": [True, False, None, True],
        "text": ["b", "other", None, "a"],
    }
    table = pa.table({**values, "number": pa.array(values["number"], pa.float64())})
    assert encoding.matrix_of_values(values, 4).tobytes() == encoding.matrix(table).tobytes()
