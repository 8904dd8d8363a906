"""Performance from cells is that of the rows; what scores foretell comes true; groups are compared with others."""

import json
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from orchestration.declarations import BiasWatch, PerformanceWatch
from orchestration.learning.calibration import fit_calibration
from orchestration.learning.statistics.gaps import CalibrationGaps, calibration_gaps
from orchestration.learning.statistics.metrics import Estimate, measure
from orchestration.monitoring.bias import measure_bias
from orchestration.monitoring.cells import MANY, Cells, Slice, Tally, tally
from orchestration.monitoring.metrics import estimated, realised
from orchestration.monitoring.performance import Performance, judge_performance
from orchestration.monitoring.reference import Expected

Floats = NDArray[np.float64]
ALL = Slice("", None)


def tallied(
    scores: Floats,
    labels: Sequence[bool | None] | NDArray[np.bool_],
    days: NDArray[np.int64],
    threshold: float = 0.4,
    **groups: Sequence[str | None],
) -> dict[Slice, Tally]:
    """The cells of rows, by the same scan that reads a lakehouse."""
    count = len(scores)
    identity = {
        "prediction_id": np.arange(count).astype(str),
        "mode": ["batch"] * count,
        "model_version": ["v1"] * count,
    }
    rows = pa.table({**identity, "score": scores, "decision": scores >= threshold, "day": days, **groups})
    known = [label is not None for label in labels]
    with duckdb.connect() as con:
        con.register("rows", rows)
        con.register(
            "labels", pa.table({**identity, "label": pa.array(list(labels), pa.bool_())}).filter(known)
        )
        return tally(con, "rows", "date '2024-01-01' + day::integer", "labels", list(groups))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([3, 40]), st.integers(1, 6))
def test_metrics_of_cells_are_those_of_the_rows(seed: int, steps: int, days: int) -> None:
    dice = np.random.default_rng(seed)
    size = int(dice.integers(2, 300))
    scores = np.round(dice.random(size) * steps) / steps
    labels, day = dice.random(size) < scores, dice.integers(0, days, size)
    found = realised(tallied(scores, labels, day)[ALL].labelled, draws=50)
    wanted = measure(labels, scores, day, 0.4, draws=50)
    assert found.keys() == wanted.keys()
    for metric, estimate in wanted.items():
        assert told(found[metric]) == pytest.approx(told(estimate), abs=1e-9, nan_ok=True), metric


def told(estimate: Estimate) -> list[float]:
    return [float("nan") if v is None else v for v in (estimate.value, estimate.low, estimate.high)]


def test_scores_of_many_values_are_parted_finely() -> None:
    dice = np.random.default_rng(1)
    scores = dice.beta(2, 5, 3 * MANY)
    labels, day = dice.random(len(scores)) < scores, dice.integers(0, 9, len(scores))
    found, wanted = tallied(scores, labels, day)[ALL], measure(labels, scores, day, 0.4)
    assert len(found.estimated.scores) < len(scores) * 0.9
    for metric, estimate in realised(found.labelled).items():
        assert told(estimate) == pytest.approx(told(wanted[metric]), abs=2e-4), metric


def test_only_labels_that_are_known_count_and_rows_are_told_apart_by_slice() -> None:
    scores, days = np.array([0.2, 0.2, 0.8, 0.8, 0.5]), np.array([0, 0, 0, 1, 1])
    found = tallied(scores, [True, None, True, False, None], days, pump=["a", "a", "b", "b", None])
    assert [part.name for part in found] == ["", "pump=null", "pump=a", "pump=b"]
    assert {part.name: (t.rows, t.labelled.count) for part, t in found.items()} == {
        "": (5, 3), "pump=null": (1, 0), "pump=a": (2, 1), "pump=b": (2, 2),
    }  # fmt: skip
    assert realised(found[Slice("pump", None)].labelled) == {}
    assert realised(found[Slice("pump", "b")].labelled)["recall"].value == 1


def test_what_is_estimated_without_labels_is_by_hand_what_scores_say() -> None:
    found = estimated(
        tallied(np.array([0.2, 0.6, 0.6, 0.9]), [None] * 4, np.array([0, 0, 1, 1]))[ALL].estimated
    )
    assert found["precision"].value == pytest.approx((0.6 + 0.6 + 0.9) / 3)
    assert found["recall"].value == pytest.approx(2.1 / 2.3)
    assert found["brier"].value == pytest.approx((0.2 * 0.8 + 2 * 0.6 * 0.4 + 0.9 * 0.1) / 4)
    # Each expected positive beside each expected negative, ties as halves, a row beside itself too.
    won = 0.0
    for s in (0.2, 0.6, 0.6, 0.9):
        for other in (0.2, 0.6, 0.6, 0.9):
            won += s * (1 - other) * ((s > other) + 0.5 * (s == other))
    assert found["auc"].value == pytest.approx(won / (2.3 * 1.7))
    assert "ece" not in found


def test_the_realised_metric_lies_in_the_estimates_interval_as_often_as_that_says() -> None:
    dice = np.random.default_rng(2)
    inside: dict[str, list[bool]] = {}
    for _ in range(120):
        days = np.repeat(np.arange(20), 60)
        scores = np.round(1 / (1 + np.exp(-dice.normal(-1, 1, 1200) - dice.normal(0, 0.3, 20)[days])), 2)
        labels = dice.random(1200) < scores
        known = realised(Cells(days, scores, scores >= 0.4, 1.0 * labels, 1.0 * ~labels), draws=2)
        for metric, estimate in estimated(Cells(days, scores, scores >= 0.4, scores, 1 - scores)).items():
            assert estimate.low is not None
            assert estimate.high is not None
            inside.setdefault(metric, []).append(estimate.low <= known[metric].value <= estimate.high)
    assert set(inside) == {"auc", "log_loss", "brier", "precision", "recall"}
    assert all(np.mean(hits) >= 0.9 for hits in inside.values()), {m: np.mean(h) for m, h in inside.items()}


def test_gaps_are_by_hand_means_by_bin_with_the_covariance_of_days() -> None:
    scores = np.tile([0.2, 0.8], 60)
    days = np.repeat(np.arange(30), 4)
    labels = np.random.default_rng(1).random(120) < scores
    gaps = calibration_gaps(1.0 * labels, scores, days)
    assert (gaps.bounds, gaps.days) == ((0.2,), 30)
    by_day = (1.0 * labels - scores).reshape(30, 2, 2).mean(axis=1)
    assert gaps.mean == pytest.approx(by_day.mean(axis=0))
    assert gaps.noise == pytest.approx([0.16 / 60] * 2)
    left = by_day - by_day.mean(axis=0)
    near = sum(
        (1 - abs(k) / 4) * np.roll(np.pad(left, ((3, 3), (0, 0))), k, axis=0)[3:33] for k in range(-3, 4)
    )
    kept = 30 - (30 + 2 * (0.75 * 29 + 0.5 * 28 + 0.25 * 27)) / 30
    assert np.array(gaps.covariance) == pytest.approx(left.T @ near / 30 / kept)
    moves = np.array([0.5, 0.25])
    error = float(moves @ np.array(gaps.covariance) @ moves)
    leaning = max(0.0, error - 0.16 / 60 * (0.25 + 0.0625)) * 30 / 10
    by_hand = float(moves @ by_day.mean(axis=0)) ** 2 + error + leaning
    assert gaps.mean_square(np.array([0.1, 0.9]), moves, 10) == pytest.approx(by_hand)
    assert CalibrationGaps.from_json(json.loads(json.dumps(gaps.as_json()))) == gaps


def test_scores_that_were_made_right_by_few_days_are_right_as_often_as_the_estimates_interval_says() -> None:
    """Days lean, so that three weeks calibrate imperfectly, and two weeks are not like those."""
    dice = np.random.default_rng(3)
    inside: dict[tuple[str, bool], list[bool]] = {}
    for _ in range(100):
        days = np.repeat(np.arange(21 + 28 + 14), 100)
        odds = np.round(dice.normal(-1, 1, len(days)) + dice.normal(0, 0.3, 63)[days], 1)
        labels = dice.random(len(days)) < 1 / (1 + np.exp(-odds - dice.normal(0, 0.4, 63)[days]))
        raw = 1 / (1 + np.exp(-odds))
        first, window = days < 21, days >= 49
        scores = fit_calibration("platt", 1.0 * labels[first], raw[first]).apply(raw)
        between = ~first & ~window
        gaps = calibration_gaps(1.0 * labels[between], scores[between], days[between])
        y, s, day = labels[window], scores[window], days[window]
        known = realised(Cells(day, s, s >= 0.4, 1.0 * y, 1.0 * ~y), draws=2)
        foretold = Cells(day, s, s >= 0.4, s, 1 - s)
        sure, unsure = estimated(foretold), estimated(foretold, gaps)
        for metric in sure:
            assert sure[metric].value == unsure[metric].value
            for told_of, found in ((False, sure[metric]), (True, unsure[metric])):
                assert found.low is not None
                assert found.high is not None
                hit = found.low <= known[metric].value <= found.high
                inside.setdefault((metric, told_of), []).append(hit)
    covered = {key: float(np.mean(hits)) for key, hits in inside.items()}
    assert all(share >= 0.93 for (_, told_of), share in covered.items() if told_of), covered
    assert covered["log_loss", False] < 0.9, covered
    assert covered["precision", False] < 0.9, covered


def test_gaps_of_a_single_day_give_no_interval() -> None:
    cells = Cells(np.array([0, 1]), np.array([0.2, 0.6]), np.array([False, True]), np.ones(2), np.ones(2))
    gaps = calibration_gaps(np.array([0.0, 1.0]), np.array([0.2, 0.6]), np.array([4, 4]))
    assert estimated(cells)["log_loss"].low is not None
    assert estimated(cells, gaps)["log_loss"].low is None


def performance(
    metric: str, estimate: Estimate, known: Estimate | None, rows: int, labelled: int
) -> Performance:
    return Performance("", metric, estimate, known, Expected(0.5, 0.4, 0.6), rows, labelled)


@pytest.mark.parametrize(
    ("metric", "estimate", "known", "labelled", "verdicts"),
    [
        ("log_loss", Estimate(0.53, 0.51, 0.55), Estimate(0.6, 0.53, 0.7), 1000, [True, False]),
        ("log_loss", Estimate(0.6, 0.53, 0.7), Estimate(0.53, 0.51, 0.55), 950, [False, True]),
        ("auc", Estimate(0.4, 0.3, 0.49), Estimate(0.4, 0.3, 0.47), 1000, [True, False]),
        ("auc", Estimate(0.5, 0.4, 0.6), Estimate(0.3, 0.2, 0.4), 899, [True, None]),
        ("auc", Estimate(0.5, None, None), None, 1000, [None, None]),
    ],
)
def test_a_model_is_worse_when_the_better_end_of_the_interval_is(
    metric: str, estimate: Estimate, known: Estimate | None, labelled: int, verdicts: list[bool | None]
) -> None:
    watch = PerformanceWatch(min_rows=100)
    found = [performance(metric, estimate, known, 1000, labelled)]
    assert [v.holds for v in judge_performance(found, metric, watch)] == verdicts
    few = [performance(metric, estimate, known, 99, 99)]
    assert [v.holds for v in judge_performance(few, metric, watch)] == [None, None]
    assert [v.holds for v in judge_performance([], metric, watch)] == [None, None]


def test_rates_of_a_group_are_by_hand_and_gaps_surely_beyond_the_limit_warn() -> None:
    dice = np.random.default_rng(4)
    size = 6000
    days, group = dice.integers(0, 28, size), dice.choice(["x", "y", "z"], size, p=[0.45, 0.45, 0.1])
    scores = np.round(dice.random(size), 2)
    # Of group y three in ten positives less than the scores say.
    labels = (dice.random(size) < scores) & ~((group == "y") & (dice.random(size) < 0.3))
    watch = BiasWatch(gaps={"calibration": 0.05, "selection_rate": 0.05}, min_rows=1000)
    found = {
        (b.group_value, b.metric): b for b in measure_bias(tallied(scores, labels, days, group=group), watch)
    }
    inside, decided = group == "y", scores >= 0.4
    by_hand = {
        "selection_rate": lambda rows: decided[rows].mean(),
        "true_positive_rate": lambda rows: decided[rows & labels].mean(),
        "false_positive_rate": lambda rows: decided[rows & ~labels].mean(),
        "precision": lambda rows: labels[rows & decided].mean(),
        "calibration": lambda rows: scores[rows].mean() - labels[rows].mean(),
    }
    for metric, rate in by_hand.items():
        bias = found["y", metric]
        assert (bias.value, bias.others) == pytest.approx((rate(inside), rate(~inside)))
        assert bias.gap_low < bias.gap < bias.gap_high  # type: ignore[operator]
    alarms = {key for key, bias in found.items() if bias.alarm}
    assert alarms == {("y", "calibration"), ("x", "calibration")}
    assert found["z", "calibration"].p_value is None  # Too few rows to warn of.
    assert found["y", "precision"].limit is None
