"""Every fault of a declared model is refused when definitions load, and says where and why."""

from typing import Any

import pytest

from orchestration.declarations import DeclarationError, load_declarations
from orchestration.feature_store.views import build_catalog
from orchestration.learning.spec import build_models
from tests.model_works import COLUMNS, MODEL, PREDICT, SPINE, make_spec, manifest_with

PLACE = "models/training/low_pressure.yml: exposures.low_pressure.config.meta.model"


def test_a_whole_declaration_resolves_to_the_columns_of_the_training_set() -> None:
    spec = make_spec(leave_out=["pressure:valve"])
    assert [(i.name, i.source, i.kind) for i in spec.inputs] == [
        ("pump", "request", "category"),
        ("demand", "request", "number"),
        ("pressure__mean", "feature", "number"),
        ("pressure__is_new", "feature", "flag"),
        ("shortage", "on_demand", "number"),
    ]
    assert [view.name for view in spec.views] == ["pressure"]
    assert spec.schema_hash != make_spec().schema_hash
    assert make_spec(features=["pressure:*"]).schema_hash == make_spec().schema_hash


def test_what_is_left_out_has_the_declared_default() -> None:
    declared = make_spec().declared
    assert declared.gate.error_rate == 0.05
    assert declared.retrain.drift is None
    assert declared.retrain.definition


def merged(key: str, **changed: Any) -> dict[str, Any]:
    return {key: {**MODEL[key], **changed}}


def without(key: str, *names: str) -> dict[str, Any]:
    return {key: {name: value for name, value in MODEL[key].items() if name not in names}}


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"training_set": "low"}, f"{PLACE}.training_set: found 'low', expected one of low_pressure_training_set"),
    ({"label": "pump"}, f"{PLACE}.label: found 'pump', expected is_low, the label of low_pressure_training_set"),
    ({"lable": "x"}, f"{PLACE}.lable: found unknown key 'lable', expected one of algorithm, baseline"),
    ({"features": ["pressure:meen"]}, f"{PLACE}.features: found 'pressure:meen', expected a feature of the"),
    ({"features": ["flow:*"]}, f"{PLACE}.features: found 'flow:*', expected a feature of the service: pressure:"),
    ({"leave_out": ["mean"]}, f"{PLACE}.leave_out: found 'mean', expected a feature of the service"),
    ({"on_demand": ["surplus"]}, f"{PLACE}.on_demand: found 'surplus', expected an on-demand feature of the"),
    ({"request": ["pomp"]}, f"{PLACE}.request: found 'pomp', expected a column of low_pressure_training_set"),
    ({"request": ["is_low"]}, f"{PLACE}.request: found 'is_low', expected a column that is known when a"),
    ({"request": ["pressure__known_at"]}, f"{PLACE}.request: found pressure__known_at of type timestamptz"),
    ({"slices": ["maker"]}, f"{PLACE}.slices: found 'maker', expected a text, boolean or number column"),
    (merged("algorithm", name="xgboost"), f"{PLACE}.algorithm.name: found 'xgboost', expected one of lightgbm, logi"),
    (
        merged("algorithm", parameters={"num_leafs": 3}),
        f"{PLACE}.algorithm.parameters.num_leafs: found unknown parameter 'num_leafs', expected one of bagging",
    ),
    (merged("algorithm", parameters={"num_leaves": 3.5}), "parameters.num_leaves: found 3.5, expected int"),
    (merged("baseline", parameters={"C": True}), f"{PLACE}.baseline.parameters.C: found True, expected float"),
    (merged("algorithm", rounds=0), f"{PLACE}.algorithm.rounds: found 0, expected input should be greater than 0"),
    ({"calibration": "beta"}, f"{PLACE}.calibration: found 'beta', expected 'isotonic', 'platt' or 'none'"),
    ({"metric": "accuracy"}, f"{PLACE}.metric: found 'accuracy', expected 'auc' or 'log_loss'"),
    ({"operating_point": {}}, "expected either threshold or share"),
    ({"operating_point": {"share": 1.5}}, f"{PLACE}.operating_point.share: found 1.5"),
    (merged("floors", metrics={"gini": 0.5}), f"{PLACE}.floors.metrics.gini"),
    (merged("gate", minimum_gain=-0.1), f"{PLACE}.gate.minimum_gain: found -0.1"),
    (merged("gate", shadow="7 days"), f"{PLACE}.gate.shadow: found 7 days, 0:00:00, expected predict too"),
    (merged("gate", error_rate=0.5), f"{PLACE}.gate.error_rate: found 0.5, expected input should be less than"),
    (without("gate", "non_inferiority_margin"), f"{PLACE}.gate.non_inferiority_margin: found nothing, expected a"),
    (without("split", "validation"), f"{PLACE}.split.validation: found nothing, expected a value"),
    (merged("split", evaluation="2 fortnights"), f"{PLACE}.split.evaluation: found '2 fortnights', expected a whole"),
    ({"retrain": {"drift": {"alarms": 4, "of": 3}}}, "expected alarms of at most 3 (of), found 4"),
    ({"retrain": {"age": 30}}, f"{PLACE}.retrain.age: found 30, expected a whole number and a unit"),
    ({"predict": {**PREDICT, "spine": "low"}}, f"{PLACE}.predict.spine: found 'low', expected one of low_pressure_spi"),
    ({"predict": {**PREDICT, "never_after": "1 hour"}}, "expected late_after of at most never_after (1:00:00)"),
    ({"retrain": {"budget": {"trainings": 2}}}, f"{PLACE}.retrain.budget.per: found nothing"),
]  # fmt: skip


def load(model: dict[str, Any], kind: str = "ml") -> None:
    declarations = load_declarations(manifest_with(model, kind))
    build_models(declarations, build_catalog(declarations))


@pytest.mark.parametrize(("changed", "fault"), FAULTS)
def test_a_fault_says_file_key_found_and_expected(changed: dict[str, Any], fault: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        load({**MODEL, **changed})
    assert len(caught.value.faults) == 1, caught.value.faults
    assert fault in caught.value.faults[0]


def test_only_an_exposure_of_type_ml_is_a_model() -> None:
    with pytest.raises(DeclarationError, match=r"low_pressure\.type: found 'dashboard', expected ml"):
        load(MODEL, "dashboard")


def test_a_spine_has_what_the_model_asks_for() -> None:
    spec = make_spec(predict=PREDICT)
    assert [c.name for c in spec.predicted.columns] == ["pump", "demand", "prediction_at"]
    assert list(spec.prediction_columns)[-3:] == ["pressure__valve", "pressure__is_new", "shortage"]
    with pytest.raises(LookupError, match=r"config\.meta\.model\.predict: found nothing, expected a spine"):
        make_spec().predicted  # noqa: B018

    def faults(**changed: str) -> str:
        manifest = manifest_with({**MODEL, "predict": PREDICT})
        node = manifest["nodes"]["model.works.low_pressure_spine"]
        node["columns"] = {n: c for n, c in node["columns"].items() if changed.get(n) != ""}
        for name, kind in changed.items():
            if kind:
                node["columns"][name]["data_type"] = kind
        declarations = load_declarations(manifest)
        with pytest.raises(DeclarationError) as caught:
            build_models(declarations, build_catalog(declarations))
        return "\n".join(caught.value.faults)

    assert "predict.spine: found no demand in low_pressure_spine, expected the request column" in faults(
        demand=""
    )
    assert f"found low_pressure_spine.demand of type double, expected {COLUMNS['demand']}, as in" in faults(
        demand="double"
    )


def test_a_spine_names_its_own_columns() -> None:
    with pytest.raises(
        DeclarationError, match=r"spine\.key: found 'order', expected one of the table's columns"
    ):
        load_declarations(manifest_with(MODEL, spine={**SPINE, "key": ["order"]}))
