"""Every fault of a training set or its service is refused when definitions load, and says where and why."""

from typing import Any

import pytest

from orchestration.declarations import DeclarationError, load_declarations
from orchestration.feature_store.views import build_catalog
from tests.manifests import model_node

SPLIT = {
    "train_until": "2024-01-04T00:00:00Z",
    "validation_until": "2024-01-06T00:00:00Z",
    "embargo": "2 hours",
}
TRAINING_SET = {"feature_service": "low_pressure", "label": "is_low", "split": SPLIT}
SERVICE = {
    "features": ["pressure:mean", "twin:mean"],
    "roles": {"twin": {"view": "pressure", "join_keys": {"pump": "twin"}}},
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
    "twin": "varchar",
    "demand": "integer",
    "is_low": "boolean",
    "split": "varchar",
    "prediction_at": "timestamptz",
    "label_known_at": "timestamptz",
    "pressure__known_at": "timestamptz",
    "pressure__mean": "double",
    "twin__known_at": "timestamptz",
    "twin__mean": "double",
    "shortage": "double",
}


def load(
    training_set: Any = TRAINING_SET,
    columns: dict[str, str] = COLUMNS,
    service: dict[str, Any] = SERVICE,
    layer: str = "training",
) -> None:
    view = {"pump": "varchar", "known_at": "timestamptz", "mean": "double"}
    meta = {} if training_set is None else {"training_set": training_set}
    made = model_node("low_pressure_training_set", layer, columns, **meta)
    pressure = model_node("pressure", "features", view, feature_view={"entity": ["pump"], "ttl": "1 day"})
    exposure = {
        "unique_id": "exposure.works.low_pressure",
        "name": "low_pressure",
        "type": "ml",
        "description": "Foresees.",
        "original_file_path": "models/training/low_pressure.yml",
        "config": {"meta": {"owner": "team:operators", "feature_service": service}},
    }
    nodes = {m["unique_id"]: m for m in (made, pressure)}
    build_catalog(
        load_declarations({"sources": {}, "nodes": nodes, "exposures": {exposure["unique_id"]: exposure}})
    )


def without(column: str) -> dict[str, str]:
    return {name: kind for name, kind in COLUMNS.items() if name != column}


def test_a_whole_declaration_is_taken() -> None:
    load()


TABLE = "models/training/low_pressure_training_set.yml: models.low_pressure_training_set"
EXPOSURE = "models/training/low_pressure.yml: exposures.low_pressure.config.meta.feature_service"
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"training_set": None}, f"{TABLE}.config.meta.training_set: found nothing, expected a declaration"),
    (
        {"layer": "staged"},
        "models.low_pressure_training_set.config.meta.training_set: found in staged, expected in training only",
    ),
    (
        {"training_set": {**TRAINING_SET, "lable": "x"}},
        f"{TABLE}.config.meta.training_set.lable: found unknown key 'lable', expected one of feature_service",
    ),
    (
        {"training_set": {**TRAINING_SET, "label": "low"}},
        "training_set.label: found 'low', expected one of the",
    ),
    ({"columns": without("label_known_at")}, "training_set.label_known_at: found 'label_known_at', expected"),
    ({"columns": without("prediction_at")}, "training_set.prediction_time: found 'prediction_at', expected"),
    ({"columns": without("split")}, "training_set.split: found 'split', expected one of the table's columns"),
    (
        {"training_set": {**TRAINING_SET, "feature_service": "lowpressure"}},
        "training_set.feature_service: found 'lowpressure', expected one of low_pressure",
    ),
    (
        {"training_set": {**TRAINING_SET, "split": {**SPLIT, "embargo": "3 days"}}},
        "expected validation_until after train_until and the embargo",
    ),
    (
        {"training_set": {**TRAINING_SET, "split": {**SPLIT, "train_until": "2024-01-04T00:00:00"}}},
        "training_set.split.train_until: found '2024-01-04T00:00:00'",
    ),
    (
        {"columns": without("twin")},
        f"{TABLE}.columns: found no twin, expected it: low_pressure has or needs it",
    ),
    ({"columns": without("demand")}, f"{TABLE}.columns: found no demand"),
    ({"columns": without("twin__known_at")}, f"{TABLE}.columns: found no twin__known_at"),
    ({"columns": without("shortage")}, f"{TABLE}.columns: found no shortage"),
    (
        {"columns": {**COLUMNS, "pressure__mean": "float"}},
        f"{TABLE}.columns.pressure__mean.data_type: found float, expected double",
    ),
    (
        {"service": {**SERVICE, "features": ["pressure:meen", "twin:mean"]}},
        f"{EXPOSURE}.features: unknown feature pressure:meen; did you mean mean?",
    ),
    (
        {"service": {**SERVICE, "roles": {"twin": {"view": "pressure", "join_keys": {"pomp": "twin"}}}}},
        f"{EXPOSURE}.roles.twin.join_keys: found pomp, expected a name for each of pump",
    ),
    (
        {"service": {**SERVICE, "roles": {"twin": {"view": "presure", "join_keys": {"pump": "twin"}}}}},
        f"{EXPOSURE}.roles.twin.view: found 'presure', expected one of pressure",
    ),
]


@pytest.mark.parametrize(("changed", "fault"), FAULTS)
def test_a_fault_says_file_key_found_and_expected(changed: dict[str, Any], fault: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        load(**changed)
    assert len(caught.value.faults) == 1, caught.value.faults
    assert fault in caught.value.faults[0]


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("demand - mean", 'Referenced column "mean" not found'),
        ("demand -", "syntax error"),
        ("sum(demand)", "must appear in the GROUP BY clause"),
        ("pressure__mean + 'x'::blob", "No function matches"),
    ],
)
def test_an_on_demand_feature_is_an_expression_over_one_row(expression: str, fault: str) -> None:
    shortage = {**SERVICE["on_demand"]["shortage"], "expression": expression}
    with pytest.raises(DeclarationError) as caught:
        load(service={**SERVICE, "on_demand": {"shortage": shortage}})
    assert caught.value.faults[0].startswith(f"{EXPOSURE}.on_demand.shortage.expression: found ")
    assert fault in caught.value.faults[0]
    assert "expected SQL over demand, pressure__mean, twin__mean" in caught.value.faults[0]


@pytest.mark.parametrize(
    ("expression", "data_type", "is_refused"),
    [
        ("demand / 2", "integer", True),
        ("demand / 2", "decimal(9, 2)", True),
        ("demand / 2", "double", False),
        ("cast(round(demand / 2) as integer)", "integer", False),
        ("demand * 1.25", "decimal(18, 1)", True),
        ("demand * 1.25", "decimal(18, 2)", False),
        ("demand", "float", True),
        ("timestamp '2024-01-01 12:00:00'", "date", True),
    ],
)
def test_an_on_demand_feature_keeps_the_digits_of_its_expression(
    expression: str, data_type: str, is_refused: bool
) -> None:
    shortage = {**SERVICE["on_demand"]["shortage"], "expression": expression, "data_type": data_type}
    service = {**SERVICE, "on_demand": {"shortage": shortage}}
    columns = {**COLUMNS, "shortage": data_type}
    if not is_refused:
        load(service=service, columns=columns)
        return
    with pytest.raises(DeclarationError) as caught:
        load(service=service, columns=columns)
    assert caught.value.faults[0].startswith(f"{EXPOSURE}.on_demand.shortage.data_type: found {data_type} ")
