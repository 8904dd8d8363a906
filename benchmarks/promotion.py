"""How often the promotion gate's paired test lets a challenger take over, on simulated pairs of known truth.

Rows come in days that share their weather; on top each model has good and bad days of its own, and both
share most of their noise. A pair that differs by nothing is exactly equal by symmetry; for a true gain the
challenger's signal is raised until a million rows show that gain.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.report import Row
from orchestration.learning.statistics.comparison import PrimaryMetric, compare
from orchestration.learning.statistics.delong import placements, variance
from orchestration.learning.statistics.metrics import losses

Floats = NDArray[np.float64]

SIGNAL = 0.95
WEATHER = 0.4
OWN_DAYS = 0.15
SHARED_NOISE = 0.9
ERROR_RATE = 0.05
Z = 1.6448536269514722
"""The normal quantile of the error rate."""


@dataclass(frozen=True)
class Pair:
    """Labels and days of simulated rows, and what two models say of them."""

    labels: Floats
    days: NDArray[np.int64]
    champion: Floats
    challenger: Floats


def simulate(days: int, rows: int, signals: tuple[float, float], seed: int) -> Pair:
    """``days`` of ``rows`` each; probabilities are those that the sampling itself implies."""
    dice = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rows)
    weather = dice.normal(size=days)
    labels = (dice.random(days * rows) < 1 / (1 + np.exp(1.1 - 0.5 * weather[day]))).astype(np.float64)
    shared = dice.normal(size=len(day))
    said = []
    for signal in signals:
        own = SHARED_NOISE * shared + (1 - SHARED_NOISE**2) ** 0.5 * dice.normal(size=len(day))
        score = signal * labels + WEATHER * weather[day] + OWN_DAYS * dice.normal(size=days)[day] + own
        said.append(1 / (1 + np.exp(-_logit(score, signal))))
    return Pair(labels, day, said[0], said[1])


def _logit(score: Floats, signal: float) -> Floats:
    spread = 1 + WEATHER**2 + OWN_DAYS**2
    return np.asarray(-1.1 + signal * (score - signal / 2) / spread)


def _gain(metric: PrimaryMetric, pair: Pair) -> float:
    if metric == "auc":
        return placements(pair.labels, pair.challenger).area - placements(pair.labels, pair.champion).area
    return float((losses(pair.labels, pair.champion) - losses(pair.labels, pair.challenger)).mean())


@cache
def signal_for(metric: PrimaryMetric, gain: float) -> float:
    """The challenger's signal that makes it better by ``gain``, by bisection on a million rows."""
    if gain == 0:
        return SIGNAL
    low, high = SIGNAL, SIGNAL + 0.5
    equal = _gain(metric, simulate(2000, 500, (SIGNAL, SIGNAL), 99))
    for _ in range(8):
        middle = (low + high) / 2
        if _gain(metric, simulate(2000, 500, (SIGNAL, middle), 99)) - equal < gain:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@dataclass(frozen=True)
class Promoted:
    """Shares of simulated pairs of which the challenger would take over, by three rules."""

    gate: float
    rows_as_units: float
    """The paired test that takes rows, not days, for independent."""
    higher: float
    """Whatever scores higher."""


def promoted(
    metric: PrimaryMetric, days: int, rows: int, signal: float, minimum: float, pairs: int, seed: int = 1
) -> Promoted:
    """How often each rule promotes a challenger of that signal."""
    found = np.zeros(3)
    for number in range(pairs):
        pair = simulate(days, rows, (SIGNAL, signal), seed * 1_000_003 + number)
        test = compare(metric, pair.labels, pair.champion, pair.challenger, pair.days, ERROR_RATE, draws=1000)
        plain = test.gain - Z * _plain_error(metric, pair) > minimum
        found += test.superior(minimum), plain, test.gain > 0
    return Promoted(*(float(share) for share in found / pairs))


def _plain_error(metric: PrimaryMetric, pair: Pair) -> float:
    if metric == "auc":
        old, new = placements(pair.labels, pair.champion), placements(pair.labels, pair.challenger)
        return float(variance(new.influence - old.influence, pair.labels) ** 0.5)
    gains = losses(pair.labels, pair.champion) - losses(pair.labels, pair.challenger)
    return float(gains.std(ddof=1) / len(gains) ** 0.5)


def table(pairs: int, sizes: tuple[tuple[int, int], ...], minimum: dict[PrimaryMetric, float]) -> Table:
    """A line for each metric, size and true gain."""
    made = Table(
        title=f"Challengers promoted of {pairs} simulated pairs; declared error rate {ERROR_RATE:.0%}",
        title_justify="left",
    )
    for heading in ("metric", "evaluation rows", "minimum gain", "true gain"):
        made.add_column(heading, justify="right")
    for heading in ("gate", "rows as units", "scores higher"):
        made.add_column(heading, justify="right")
    for metric, least in minimum.items():
        for days, rows in sizes:
            for gain in (0.0, least, 2 * least, 4 * least):
                share = promoted(metric, days, rows, signal_for(metric, gain), least, pairs)
                made.add_row(
                    metric, f"{days} days of {rows}", f"{least:g}", f"{gain:g}",
                    f"{share.gate:.1%}", f"{share.rows_as_units:.1%}", f"{share.higher:.1%}",
                )  # fmt: skip
    return made


def run(folder: Path, *, repeats: int, pairs: int = 500) -> list[Row]:
    """Print the table; it needs no folder, and pairs are its repeats."""
    del folder, repeats
    Console(width=150).print(table(pairs, ((28, 900), (28, 300)), {"auc": 0.002, "log_loss": 0.001}))
    return []
