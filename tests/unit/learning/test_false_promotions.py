"""The gate's paired test keeps to the declared error rate and finds real gains; measured on simulated pairs."""

import pytest

from benchmarks.promotion import SIGNAL, promoted
from orchestration.learning.statistics.comparison import PrimaryMetric


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_equals_are_rarely_promoted_and_betters_mostly(metric: PrimaryMetric) -> None:
    equals = promoted(metric, days=28, rows=60, signal=SIGNAL, minimum=0, pairs=300)
    assert equals.gate <= 0.085  # 5% of 300, and three standard errors more
    assert equals.higher > 0.4
    betters = promoted(metric, days=28, rows=120, signal=SIGNAL + 0.15, minimum=0.001, pairs=60)
    assert betters.gate > 0.7
