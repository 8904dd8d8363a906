"""A model is watched: windows are told of once, again when rows or labels come, and found out when wrong."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np

from orchestration.dagster_ext import CheckHistory
from orchestration.learning.registry import Registry
from orchestration.monitoring.assets import monitoring_key, skew_check
from orchestration.settings import Clock
from tests.integration.monitoring.conftest import (
    ANNA,
    PREDICTED,
    TRAINED,
    Works,
    changed,
    day,
    first_days,
    numbers,
)


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def metadata(result: dg.ExecuteInProcessResult, works: Works, part: str) -> dict[str, Any]:
    key = monitoring_key(works.spec, part)
    (made,) = [e for e in result.get_asset_materialization_events() if e.asset_key == key]
    return {name: value.value for name, value in made.materialization.metadata.items()}


def test_a_model_that_serves_as_it_was_made_raises_no_alarm(works: Works) -> None:
    rows = first_days(works.rows, PREDICTED, TRAINED)
    works.predict(rows)
    result = works.run("drift", "performance", "bias", "skew")
    found = evaluations(result)
    assert {name: e.passed for name, e in found.items()} == dict.fromkeys(
        [
            "no_drift",
            "no_drift_together",
            "estimated_as_expected",
            "realised_as_expected",
            "groups_alike",
            "no_skew",
        ],
        True,
    )
    told = metadata(result, works, "drift")
    assert told["windows"] == PREDICTED
    assert told["drift_over_time"].startswith("![drift over time](data:image/png;base64,")
    assert metadata(result, works, "performance")["performance_over_time"].startswith("![")
    assert metadata(result, works, "bias")["gaps"].startswith("![")

    drift = "select count(distinct window_end), count(*) filter (where alarm), max(rows) filter (where role = 'score')"
    assert works.ask(f"{drift} from lake.monitoring.drift") == [(PREDICTED, 0, 420)]
    last = works.ask(
        "select column_name, role, rows, importance > 0 from lake.monitoring.drift where window_end = "
        "(select max(window_end) from lake.monitoring.drift) order by role, column_name"
    )
    features = ["demand", "pressure__is_new", "pressure__mean", "pressure__valve", "pump", "shortage"]
    assert [row[:3] for row in last] == [
        *((name, "feature", 420) for name in features),
        ("label", "label", 420),
        ("score", "score", 420),
        ("*", "together", works.artifact.manifest["split"]["train"]["rows"] + 420),
    ]


def test_windows_are_told_of_once_and_performance_again_when_labels_come(works: Works) -> None:
    rows = first_days(works.rows, PREDICTED, TRAINED)
    morning = datetime(2024, 3, 5, 2, tzinfo=UTC)
    known = rows.column("label_known_at").to_pylist()
    works.predict(rows, labels=changed(rows, label_known_at=[*known[:235], *[morning] * 5, *known[240:]]))
    works.now = datetime(2024, 3, 5, 1, tzinfo=UTC)  # Four days have been predicted and are over.
    watcher = works.watcher()
    assert watcher.due("drift", timedelta(days=7), 31) == [day(n) for n in range(60, 64)]
    watcher.drift(watcher.due("drift", timedelta(days=7), 31), together=False)
    before = works.ask("select * from lake.monitoring.drift order by all")
    assert watcher.due("drift", timedelta(days=7), 31) == []
    works.watcher().drift([day(63)], together=False)
    assert works.ask("select * from lake.monitoring.drift order by all") == before

    early = works.watcher(datetime(2024, 3, 5, 0, 30, tzinfo=UTC))
    early.performance(early.due("performance", timedelta(days=7), 31))
    labelled = "select labelled, rows from lake.monitoring.performance where slice = '' and metric = 'auc' "
    labelled += "order by window_end desc limit 1"
    assert works.ask(labelled) == [(235, 240)]
    watcher = works.watcher(datetime(2024, 3, 5, 3, tzinfo=UTC))
    assert watcher.due("drift", timedelta(days=7), 31) == []
    assert watcher.due("performance", timedelta(days=7), 31) == [day(63)]
    watcher.performance([day(63)])
    assert works.ask(labelled) == [(240, 240)]
    assert watcher.due("performance", timedelta(days=7), 31) == []


def test_windows_measured_together_are_those_measured_one_by_one(works: Works) -> None:
    works.predict(first_days(works.rows, PREDICTED, TRAINED))
    days = [day(n) for n in range(60, 70)]
    told = []
    for parts in ([days], [[one] for one in days]):
        for some in parts:
            works.watcher().drift(some, together=False)
            works.watcher().performance(some)
        # Of each window all predictions of its days, and no others: 60 a day, of seven days at most.
        counts = [(60 * min(n, 7),) for n in range(1, PREDICTED + 1)]
        for table, one in (
            ("drift", "role = 'score'"),
            ("performance", "slice = '' and metric = 'log_loss'"),
        ):
            rows = f"select rows from lake.monitoring.{table} where {one} order by window_end"
            assert works.ask(rows) == counts
        told.append(
            [works.ask(f"select * from lake.monitoring.{t} order by all") for t in ("drift", "performance")]
        )
        with works.lakehouse.transaction() as con:
            for table in ("drift", "performance"):
                con.execute(f"delete from lake.monitoring.{table}")
    assert told[0] == told[1]


def test_what_has_changed_is_found_out_and_told_with_its_evidence(works: Works) -> None:
    rows = first_days(works.rows, PREDICTED, TRAINED)
    mean = numbers(rows, "pressure__mean") - 3
    drifted = changed(
        rows, pressure__mean=np.where(np.isnan(mean), None, mean), shortage=numbers(rows, "demand") - mean
    )
    works.predict(
        drifted, labels=changed(rows, is_low=[not low for low in rows.column("is_low").to_pylist()])
    )
    result = works.run("drift", "performance", "bias")
    found = evaluations(result)
    # Scores know nothing of what inputs have come to mean.
    assert {name for name, e in found.items() if not e.passed} == {
        "no_drift", "no_drift_together", "realised_as_expected",
    }  # fmt: skip
    assert {e.severity for e in found.values()} == {dg.AssetCheckSeverity.WARN}
    evidence = found["no_drift"].metadata["evidence"].value
    columns = {column["column_name"]: column for column in evidence["columns"]}
    assert set(columns) >= {"pressure__mean", "score"}
    assert columns["pressure__mean"]["psi"] > 0.25
    assert columns["pressure__mean"]["adjusted_p_value"] < 0.001
    assert set(columns).isdisjoint({"pump", "demand", "pressure__valve"})
    assert found["no_drift_together"].metadata["evidence"].value["low"] > 0.9
    said = found["realised_as_expected"].description
    assert said is not None
    assert said.startswith("auc realised as ")


def test_a_window_before_the_first_champion_has_nothing_to_measure(works: Works) -> None:
    found = evaluations(works.run("drift", "performance"))
    assert all(e.passed for e in found.values())
    assert {name for name, e in found.items() if "no champion was serving" in str(e.description)} == {
        "no_drift", "no_drift_together", "estimated_as_expected", "realised_as_expected",
    }  # fmt: skip


def test_too_few_predictions_decide_nothing_and_none_are_told(works: Works) -> None:
    before = Registry(works.lakehouse, works.settings.models_dir, Clock(works.now - timedelta(days=60)))
    before.promote(works.spec.name, works.artifact.version, ANNA)
    empty = evaluations(works.run("drift", "performance", "bias", "skew"))
    assert {name for name, e in empty.items() if not e.passed} == {
        "no_drift", "no_drift_together", "estimated_as_expected", "realised_as_expected",
    }  # fmt: skip
    assert "found no predictions from 2024-03-04" in str(empty["no_drift"].description)
    works.predict(first_days(works.rows, 2, 68))
    few = evaluations(works.run("drift", "performance", "bias", "skew"))
    assert all(e.passed for e in few.values())
    assert "120 predictions, of which at least 200 are needed" in str(few["no_drift"].description)
    assert "120 rows, of which at least 200" in str(few["realised_as_expected"].description)


def test_predictions_of_a_shadow_are_not_those_of_the_model(works: Works) -> None:
    rows = first_days(works.rows, PREDICTED, TRAINED)
    works.predict(rows)
    works.predict(
        changed(rows, pressure__mean=[99.0] * rows.num_rows), mode="shadow", labels=rows.slice(0, 0)
    )
    works.run("drift")
    assert works.ask("select max(rows), bool_or(alarm) from lake.monitoring.drift where role = 'score'") == [
        (420, False)
    ]


def test_features_served_otherwise_than_history_says_are_found_one_by_one(works: Works) -> None:
    rows = first_days(works.rows, 1, 69)
    with works.lakehouse.transaction() as con:
        con.register("given", rows)
        con.execute("create schema lake.features")
        con.execute(
            "create table lake.features.pressure as select pump, pressure__known_at as known_at, "
            "pressure__mean as mean, pressure__valve as valve, pressure__is_new as is_new from given"
        )
    works.predict(rows, mode="online")
    right = works.run("skew")
    assert evaluations(right)["no_skew"].passed
    assert metadata(right, works, "skew")["compared"] == 60 * 4
    assert works.ask(
        "select column_name, source, differences, alarm from lake.monitoring.skew order by 1"
    ) == [
        ("pressure__is_new", "feature", 0, False),
        ("pressure__mean", "feature", 0, False),
        ("pressure__valve", "feature", 0, False),
        ("shortage", "on_demand", 0, False),
    ]

    works.instance = dg.DagsterInstance.ephemeral()
    with works.lakehouse.transaction() as con:
        con.execute("delete from lake.predictions.low_pressure")
    valves = ["burst", None, *rows.column("pressure__valve").to_pylist()[2:]]
    works.predict(changed(rows, pressure__valve=valves), mode="online", labels=rows.slice(0, 0))
    check = skew_check(works.spec)
    assert CheckHistory(works.instance).last_results([check]) == {check: []}
    wrong = evaluations(works.run("skew"))["no_skew"]
    assert CheckHistory(works.instance).verdicts([check]) == {"monitoring/low_pressure_skew:no_skew": False}
    assert (wrong.passed, wrong.severity) == (False, dg.AssetCheckSeverity.ERROR)
    (column,) = wrong.metadata["evidence"].value["columns"]
    expected = sum(a != b for a, b in zip(valves, rows.column("pressure__valve").to_pylist(), strict=True))
    assert (column["column_name"], column["differences"], column["rows"]) == ("pressure__valve", expected, 60)
