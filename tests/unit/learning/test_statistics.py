"""Metrics and tests are what independent, slower definitions say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import brier_score_loss, log_loss, precision_score, recall_score, roc_auc_score

from orchestration.learning.statistics.bootstrap import draw_days, resampled, studentised_bounds
from orchestration.learning.statistics.comparison import compare
from orchestration.learning.statistics.delong import SingleClassError, midranks, placements, variance
from orchestration.learning.statistics.metrics import calibration_curve, losses, measure

Floats = NDArray[np.float64]


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """Labels of both classes, scores of two models with many ties, days."""
    size = draw(st.integers(4, 60))
    dice = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = (dice.random(size) < 0.4).astype(float)
    labels[:2] = 0, 1
    steps = draw(st.sampled_from([3, 10, 10**6]))
    scores = [np.round(dice.random(size) * steps) / steps for _ in range(2)]
    days = dice.integers(0, draw(st.integers(2, 8)), size)
    days[:2] = 0, 1
    return labels, scores[0], scores[1], days


def brute_influence(labels: Floats, scores: Floats) -> tuple[float, Floats]:
    """DeLong's components by comparing each positive with each negative row."""
    won = (scores[labels == 1][:, None] > scores[labels == 0]) + 0.5 * (
        scores[labels == 1][:, None] == scores[labels == 0]
    )
    influence = np.empty(len(labels))
    influence[labels == 1] = (won.mean(axis=1) - won.mean()) / won.shape[0]
    influence[labels == 0] = (won.mean(axis=0) - won.mean()) / won.shape[1]
    return float(won.mean()), influence


@settings(max_examples=60, deadline=None)
@given(scored_rows())
def test_areas_and_their_variances_are_those_of_the_pairs(rows) -> None:  # type: ignore[no-untyped-def]
    labels, scores, others, days = rows
    assert midranks(scores) == pytest.approx(rankdata(scores))
    found, other = placements(labels, scores), placements(labels, others)
    area, influence = brute_influence(labels, scores)
    assert found.area == pytest.approx(area) == pytest.approx(roc_auc_score(labels, scores))
    assert found.influence == pytest.approx(influence)
    assert found.influence.sum() == pytest.approx(0)
    difference = found.influence - other.influence
    parts = [difference[labels == kind] * (labels == kind).sum() for kind in (0, 1)]
    delong = sum(np.var(part, ddof=1) / len(part) if len(part) > 1 else 0 for part in parts)
    assert variance(difference, labels) == pytest.approx(delong)
    sums = np.array([difference[days == day].sum() for day in np.unique(days)])
    assert variance(difference, labels, days) == pytest.approx(np.var(sums, ddof=1) * len(sums))


@settings(max_examples=30, deadline=None)
@given(scored_rows())
def test_metrics_are_those_of_scikit_learn(rows) -> None:  # type: ignore[no-untyped-def]
    labels, scores, _, days = rows
    found = measure(labels, scores, days, 0.5, draws=50)
    assert found["log_loss"].value == pytest.approx(log_loss(labels, np.clip(scores, 1e-15, 1 - 1e-15)))
    assert found["brier"].value == pytest.approx(brier_score_loss(labels, scores))
    assert found["recall"].value == pytest.approx(recall_score(labels, scores >= 0.5))
    if "precision" in found:
        assert found["precision"].value == pytest.approx(precision_score(labels, scores >= 0.5))
    else:
        assert not (scores >= 0.5).any()
    assert found["ece"].value == pytest.approx(calibration_curve(labels, scores).error)
    for metric in found.values():
        if metric.low is not None and metric.high is not None:
            assert metric.low <= metric.high


@settings(max_examples=30, deadline=None)
@given(scored_rows(), st.integers(0, 1000))
def test_a_draw_of_days_is_the_metric_of_the_rows_of_these_days(rows, seed) -> None:  # type: ignore[no-untyped-def]
    labels, scores, _, days = rows
    kinds = np.unique(days)
    by_day = np.array([[losses(labels, scores)[days == d].sum(), (days == d).sum()] for d in kinds]).T
    value, drawn = resampled(by_day, lambda sums: sums[0] / sums[1], 5, seed)
    assert value == pytest.approx(losses(labels, scores).mean())
    for taken, found in zip(draw_days(len(kinds), 5, seed), drawn, strict=True):
        assert taken.sum() == len(kinds)
        rows_drawn = np.concatenate(
            [np.flatnonzero(days == d) for d, n in zip(kinds, taken, strict=True) for _ in range(int(n))]
        )
        assert found == pytest.approx(losses(labels, scores)[rows_drawn].mean())


def test_bounds_of_a_mean_by_day_are_those_drawn_one_by_one() -> None:
    dice = np.random.default_rng(5)
    days = dice.integers(0, 12, 400)
    values = dice.normal(size=400) + dice.normal(size=12)[days]

    def by_hand(rows: NDArray[np.int64], which: list[int]) -> tuple[float, float]:
        found = [values[rows[days[rows] == d]] for d in which]
        mean = np.concatenate(found).mean()
        left = np.array([(f - mean).sum() for f in found])
        return mean, np.sqrt((left**2).sum() * 12 / 11) / sum(map(len, found))

    everything = np.arange(400)
    mean, error = by_hand(everything, list(range(12)))
    told = []
    for taken in draw_days(12, 300, 3):
        drawn_mean, drawn_error = by_hand(everything, [d for d in range(12) for _ in range(int(taken[d]))])
        told.append((drawn_mean - mean) / drawn_error)
    low, high = np.quantile(told, [0.05, 0.95])
    assert studentised_bounds(values, days, 0.05, 300, 3) == pytest.approx(
        (mean, error, mean - high * error, mean - low * error)
    )


def test_rows_of_one_class_have_no_area() -> None:
    with pytest.raises(SingleClassError, match="found 3 positive and 0 negative labels"):
        placements(np.ones(3), np.array([0.1, 0.2, 0.3]))
    found = measure(np.ones(3), np.array([0.1, 0.2, 0.9]), np.arange(3), 0.5)
    assert "auc" not in found
    assert found["recall"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_a_comparison_is_the_same_each_time_and_turns_with_its_sides(metric: str) -> None:
    dice = np.random.default_rng(1)
    labels = (dice.random(3000) < 0.3).astype(float)
    days = np.repeat(np.arange(30), 100)
    scores = [1 / (1 + np.exp(-(labels + dice.normal(size=3000) * spread - 1))) for spread in (1.5, 1.2)]
    found = compare(metric, labels, *scores, days, 0.05)  # type: ignore[arg-type]
    assert found == compare(metric, labels, *scores, days, 0.05)  # type: ignore[arg-type]
    turned = compare(metric, labels, scores[1], scores[0], days, 0.05)  # type: ignore[arg-type]
    assert turned.gain == pytest.approx(-found.gain)
    assert found.superior(0)
    assert not turned.superior(0)
    assert not turned.not_inferior(0.001)
    assert found.low < found.gain < found.high
    with pytest.raises(ValueError, match="found rows of 1 days"):
        compare(metric, labels, *scores, np.zeros(3000), 0.05)  # type: ignore[arg-type]
