"""The gate: who may take over, why not, and on which evidence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestration.learning.conditions import CONDITIONS
from orchestration.learning.contest import Contest, Part, hold_contest
from orchestration.learning.gate import GateResult, Shadow, Situation, judge, passed
from orchestration.learning.model import ServedModel, opened
from orchestration.learning.spec import ModelSpec
from orchestration.learning.training import part_rows, train_on
from tests.model_works import CODE, make_rows, make_spec, silent

NOW = datetime(2024, 3, 1, tzinfo=UTC)
GREEN = {"raw/readings:row_count": True}
SITUATION = Situation(GREEN, NOW)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSpec, Part, dict[str, ServedModel]]:
    """A model that has learnt, one from labels without sense, the baseline, and rows to compare them on."""
    root: Path = tmp_path_factory.mktemp("models")
    spec = make_spec()
    parts = part_rows(spec, make_rows())
    senseless = part_rows(spec, make_rows(strength=0.0, seed=2))
    return spec, parts.evaluation, {
        "good": opened(train_on(spec, "d1", parts, root, CODE, silent)),
        "poor": opened(train_on(spec, "d0", senseless, root, CODE, silent)),
        "baseline": opened(train_on(spec, "d1", parts, root, CODE, silent, algorithm=spec.declared.baseline)),
    }  # fmt: skip


def contest(models: Any, challenger: str, champion: str | None) -> tuple[ModelSpec, Contest]:
    spec, part, made = models
    found = hold_contest(
        spec, part, made[challenger], None if champion is None else made[champion], lambda: made["baseline"]
    )
    return spec, found


def by_name(results: list[GateResult]) -> dict[str, GateResult]:
    assert [r.name for r in results] == list(CONDITIONS)
    return {r.name: r for r in results}


def test_a_better_challenger_may_take_over_with_evidence_for_each_condition(models: Any) -> None:
    results = judge(*contest(models, "good", "poor"), SITUATION)
    assert passed(results), [r.description for r in results if not r.passed]
    found = by_name(results)
    assert found["better_than_champion"].evidence["low"] > 0.002
    window = found["same_frozen_window"].evidence
    assert window["against"] == "champion"
    assert window["window"]["rows"] == 14 * 60
    assert window["challenger_learnt_until"] <= window["window"]["start"]
    assert {"auc", "ece"} == set(found["floors_reached"].evidence)
    assert len(found["slices_unharmed"].evidence["slices"]) == 3
    assert found["small_and_fast"].evidence["rows_timed"] == 200


def test_a_worse_or_equal_challenger_may_not(models: Any) -> None:
    worse = by_name(judge(*contest(models, "poor", "good"), SITUATION))
    assert not worse["better_than_champion"].passed
    assert not worse["floors_reached"].passed
    assert "auc: found 0.5" in worse["floors_reached"].description
    assert not worse["slices_unharmed"].passed
    equal = by_name(judge(*contest(models, "good", "good"), SITUATION))
    assert not equal["better_than_champion"].passed
    assert equal["slices_unharmed"].passed


def test_a_forced_retrain_need_only_be_no_worse(models: Any) -> None:
    forced = Situation(GREEN, NOW, forced="age")
    equal = by_name(judge(*contest(models, "good", "good"), forced))
    assert equal["better_than_champion"].passed
    assert equal["better_than_champion"].evidence["forced_by"] == "age"
    assert not by_name(judge(*contest(models, "poor", "good"), forced))["better_than_champion"].passed


def test_the_first_champion_must_beat_the_baseline(models: Any) -> None:
    first = by_name(judge(*contest(models, "poor", None), SITUATION))
    assert not first["better_than_champion"].passed
    assert "the baseline" in first["better_than_champion"].description
    assert first["same_frozen_window"].evidence["why"] == "there is no champion"
    # Forced or not: whoever is no worse than something simpler is of no use.
    baseline = judge(*contest(models, "baseline", None), Situation(GREEN, NOW, forced="age"))
    assert not by_name(baseline)["better_than_champion"].passed


@pytest.mark.parametrize(
    ("checks", "fault"),
    [
        ({}, "found no blocking check on any input"),
        ({"a": True, "b": None}, "1 not evaluated: b"),
        ({"a": False, "b": None}, "1 failed: a; 1 not evaluated: b"),
    ],
)
def test_nothing_is_judged_on_inputs_that_do_not_hold(models: Any, checks: Any, fault: str) -> None:
    results = judge(*contest(models, "good", "poor"), Situation(checks, NOW))
    found = by_name(results)
    assert fault in found["inputs_hold"].description
    assert not passed(results)
    assert found["better_than_champion"].description == "not evaluated, as inputs_hold does not hold"


def test_rows_that_either_model_has_learnt_from_are_left_out(models: Any) -> None:
    spec, part, made = models
    split = made["poor"].manifest["split"]
    end = part.window.start + timedelta(days=4)
    later = {**split, "validation": {**split["validation"], "end": end.isoformat()}}
    champion = replace(made["poor"], manifest={**made["poor"].manifest, "split": later})
    found = hold_contest(spec, part, made["good"], champion, lambda: made["baseline"])
    assert found.part.window.start == end + timedelta(hours=6)
    assert len(found.challenger.scores) == len(found.part.labels) < len(part.labels)
    assert min(found.part.rows.column("prediction_at").to_pylist()) >= end + timedelta(hours=6)
    assert by_name(judge(spec, found, SITUATION))["same_frozen_window"].passed
    newest = {**split, "validation": {**split["validation"], "end": part.window.end.isoformat()}}
    champion = replace(made["poor"], manifest={**made["poor"].manifest, "split": newest})
    results = by_name(
        judge(spec, hold_contest(spec, part, made["good"], champion, lambda: made["baseline"]), SITUATION)
    )
    assert "found 0 rows with a label, expected at least 100" in results["same_frozen_window"].description
    assert not results["better_than_champion"].passed


def test_a_champion_that_reads_what_is_there_no_longer_gives_way_to_the_baseline(
    models: Any, tmp_path: Path
) -> None:
    _, part, made = models
    spec = make_spec(on_demand=[])
    parts = part_rows(spec, make_rows().drop_columns(["shortage"]))
    challenger = opened(train_on(spec, "d2", parts, tmp_path, CODE, silent))
    baseline = opened(train_on(spec, "d2", parts, tmp_path, CODE, silent, algorithm=spec.declared.baseline))
    found = hold_contest(spec, parts.evaluation, challenger, made["good"], lambda: baseline)
    assert found.against == "baseline"
    assert found.why == "the champion reads shortage, which the rows have no longer"
    assert "shortage" in part.rows.column_names


@pytest.mark.parametrize(
    ("floors", "scores", "condition", "fault"),
    [
        ({"score_gap": 0.05}, lambda s: s * 0.5, "scores_sane", "expected at most 0.05 between them"),
        ({}, lambda s: np.round(s, 0) * 0.3, "scores_sane", "different scores, expected at least 10"),
        ({}, lambda s: s + np.nan, "scores_sane", "found scores that are not from 0 to 1"),
        ({"metrics": {"ece": 0.01}}, lambda s: s * 0.8, "floors_reached", "ece: found"),
        ({"metrics": {"precision": 0.5}}, lambda s: s * 0, "floors_reached", "precision: found nothing, expected at least 0.5"),
        ({"megabytes": 0.001}, lambda s: s, "small_and_fast", "MB, expected at most 0.001"),
        ({"milliseconds": 0.0001}, lambda s: s, "small_and_fast", "ms for a row, expected at most 0.0001"),
    ],
)  # fmt: skip
def test_a_floor_that_is_not_reached_is_told(
    models: Any, floors: Any, scores: Any, condition: str, fault: str
) -> None:
    _, found = contest(models, "good", "poor")
    changed = replace(found, challenger=replace(found.challenger, scores=scores(found.challenger.scores)))
    with np.errstate(all="ignore"):
        results = by_name(judge(make_spec(floors=floors), changed, SITUATION))
    assert not results[condition].passed
    assert fault in results[condition].description


def test_a_declared_shadow_period_must_be_over(models: Any) -> None:
    _, found = contest(models, "good", "poor")
    declared = make_spec().declared
    gate = declared.gate.model_copy(update={"shadow": timedelta(days=3)})
    spec = replace(make_spec(), declared=declared.model_copy(update={"gate": gate}))

    def shadowed(shadow: Shadow | None) -> GateResult:
        return by_name(judge(spec, found, replace(SITUATION, shadow=shadow)))["shadow_period"]

    assert shadowed(None).description == "it has not begun; 3 days, 0:00:00 are declared"
    assert not shadowed(Shadow(NOW - timedelta(days=2), 100)).passed
    assert not shadowed(Shadow(NOW - timedelta(days=4), 0)).passed
    assert shadowed(Shadow(NOW - timedelta(days=4), 100)).passed


def test_a_gate_that_was_not_told_everything_is_shut() -> None:
    assert not passed([])
    assert not passed([GateResult("inputs_hold", True, "")])
