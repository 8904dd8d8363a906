"""How often each retraining trigger fires for nothing, and how soon it sees a change: streams of known truth.

A stream is a year of days. Rows of one day share what the day was like, so that days, not rows, are what
chance draws: labels lean to one side on some days, and inputs wander from week to week. From the day of the
change on, the world differs by as much as is said. Every day the monitoring's own functions measure the
window, the trigger looks at it, and the policy decides with the settings that are declared.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.report import Row
from orchestration.automation.retraining import signals
from orchestration.automation.retraining.policy import Decision, Situation, decide, is_news
from orchestration.automation.retraining.signals import DriftWindow, Performance, Signal
from orchestration.declarations import DriftWatch, PerformanceWatch, Retrain
from orchestration.learning.profile import profile_number
from orchestration.learning.statistics.persistence import persistence
from orchestration.monitoring.cells import Cells
from orchestration.monitoring.counting import Counted
from orchestration.monitoring.drift import compare_columns
from orchestration.monitoring.metrics import realised

Floats = NDArray[np.float64]

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = 365
CHANGE = 40
"""The first day that is not as before."""
WITHIN = 90
"""Days after a change in which it must be seen to count."""
ROWS = 900
"""Rows of a day."""
LEANING = 0.35
"""By how much, in logits, days lean to one side or the other: a standard deviation."""
FEATURES = 20
WANDERING = 0.15
"""How far, in standard deviations, the means of inputs wander; they come back within a week or so."""
REFERENCE_DAYS = 200
"""Days from which is told how much they hang together."""
BINS = 60
"""Different scores, as a calibrated model has."""


@dataclass(frozen=True)
class Settings:
    """What is declared of a model's triggers and of its monitoring."""

    retrain: Retrain
    performance: PerformanceWatch = field(default_factory=PerformanceWatch)
    drift: DriftWatch = field(default_factory=DriftWatch)


@dataclass(frozen=True)
class Told:
    """What a stream came to: trainings before the change, and the days from it to the first one after it."""

    before: int
    delay: int | None


Stream = Callable[[Settings, float, int, int], Iterator[tuple[int, Signal]]]
"""Settings, size of the change, its day, seed; gives the signal of each day that is measured."""


def follow(settings: Settings, stream: Stream, size: float, days: int, change: int, seed: int) -> Told:
    """The decisions on a stream of so many days. A training changes nothing in it; it counts once."""
    past: list[Decision] = []
    before, retrain = 0, settings.retrain
    for day, signal in stream(settings, size, change, seed):
        if day >= days:
            break
        now = START + day * DAY
        made = decide(retrain, "m", "champion", [signal], Situation(), past, frozenset(), now)
        if is_news(made, past):
            past.append(made)
        if made.outcome == "fired":
            if day >= change:
                return Told(before, day - change)
            before += 1
    return Told(before, None)


@cache
def _score_grid() -> tuple[Floats, Floats]:
    """Scores and how frequent they are; on average they come true as often as they say."""
    logits = np.linspace(-4, 2, BINS)
    frequency = np.exp(-((logits + 1.3) ** 2) / 2)
    lean = np.linspace(-3, 3, 61)
    weight = np.exp(-(lean**2) / 2)
    scores = (_sigmoid(logits[:, None] + LEANING * lean) * weight).sum(axis=1) / weight.sum()
    return scores, frequency / frequency.sum()


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def _logits(scores: Floats) -> Floats:
    return np.asarray(np.log(scores / (1 - scores)))


def _truth(shift: float, lean: float) -> Floats:
    """The chance of a positive label at each score, on a day that leans so, once the world has shifted so."""
    return _sigmoid(np.linspace(-4, 2, BINS) + LEANING * lean + shift)


@cache
def expected_loss() -> float:
    """The log loss of the scores where nothing changed."""
    return _loss_after(0.0)


def _loss_after(shift: float) -> float:
    scores, frequency = _score_grid()
    lean = np.linspace(-3, 3, 61)
    weight = np.exp(-(lean**2) / 2) / np.exp(-(lean**2) / 2).sum()
    truth = sum(w * _truth(shift, at) for at, w in zip(lean, weight, strict=True))
    return float(-(frequency * (truth * np.log(scores) + (1 - truth) * np.log(1 - scores))).sum())


@cache
def shift_for(loss: float) -> float:
    """By how much logits of the truth must rise for scores that stay to lose so much, by bisection.

    What the labels would cost a model that knows of the shift is not taken off.
    """
    low, high = 0.0, 6.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _loss_after(middle) - expected_loss() < loss else (low, middle)
    return (low + high) / 2


def performance_days(settings: Settings, loss: float, change: int, seed: int) -> Iterator[tuple[int, Signal]]:
    """Labels of each day, and what the realised metric of the window says of them."""
    trigger, watch = settings.retrain.performance, settings.performance
    assert trigger is not None
    dice = np.random.default_rng(seed)
    scores, frequency = _score_grid()
    shift, length = shift_for(loss) if loss else 0.0, watch.window // DAY
    held: list[tuple[Floats, Floats]] = []
    for day in range(2 * YEAR):
        truth = _truth(shift if day >= change else 0.0, dice.normal())
        rows = dice.multinomial(ROWS, frequency)
        positives = dice.binomial(rows, truth)
        held = [*held, (positives.astype(float), (rows - positives).astype(float))][-length:]
        if len(held) < length:
            continue
        cells = Cells(
            np.repeat(np.arange(length), BINS),
            np.tile(scores, length),
            np.tile(scores >= 0.5, length),
            np.concatenate([p for p, _ in held]),
            np.concatenate([n for _, n in held]),
        )
        found = realised(cells, confidence=watch.confidence, draws=400, seed=day)["log_loss"]
        low = found.value if found.low is None else found.low
        measured = Performance(str(day), cells.count, found.value - expected_loss(), low - expected_loss())
        yield day, signals.performance(trigger, "champion", measured)


def _wandering(dice: np.random.Generator, before: Floats) -> Floats:
    """Where the means of inputs are on the next day."""
    return np.asarray(0.8 * before + WANDERING * 0.6 * dice.normal(size=before.shape))


@cache
def days_hang_together(edges: tuple[float, ...], length: int) -> float:
    """How much days of an input do in runs of ``length``, as training tells it from a reference of days."""
    dice, mean, places = np.random.default_rng(0), np.zeros(1), []
    for _ in range(REFERENCE_DAYS):
        mean = _wandering(dice, mean)
        places.append(np.searchsorted(edges, dice.normal(mean, size=ROWS)))
    return persistence(np.concatenate(places), np.repeat(np.arange(REFERENCE_DAYS), ROWS), length)


def drift_days(settings: Settings, size: float, change: int, seed: int) -> Iterator[tuple[int, Signal]]:
    """Inputs of each day; from the change on, half of them are ``size`` standard deviations higher."""
    trigger, watch = settings.retrain.drift, settings.drift
    assert trigger is not None
    dice = np.random.default_rng(seed)
    spread = (1 + WANDERING**2) ** 0.5
    reference = np.random.default_rng(0).normal(0, spread, 100_000)
    names = [f"f{n}" for n in range(FEATURES)]
    profiles = {name: profile_number(name, reference) for name in names}
    edges = np.array(profiles["f0"].edges)
    importance = dict(zip(names, np.full(FEATURES, 1 / FEATURES), strict=True))
    length = watch.window // DAY
    hanging = dict.fromkeys(names, days_hang_together(profiles["f0"].edges, length))
    wander = np.zeros(FEATURES)
    held: list[Floats] = []
    windows: list[DriftWindow] = []
    moved = np.arange(FEATURES) % 2 == 0
    for day in range(2 * YEAR):
        wander = _wandering(dice, wander)
        mean = wander + (size * moved if day >= change else 0.0)
        shares = np.diff(_normal(edges[None, :] - mean[:, None]), prepend=0.0, append=1.0, axis=1)
        held = [*held, dice.multinomial(ROWS, shares).astype(float)][-length:]
        if len(held) < length:
            continue
        stacked = np.stack(held, axis=1)
        counted = {
            name: Counted(np.column_stack([stacked[n], np.zeros(length)]), 0) for n, name in enumerate(names)
        }
        found = compare_columns(profiles, counted, importance, watch, hanging)
        drifted = tuple((c.column_name, c.importance or 0.0) for c in found.columns if c.alarm)
        windows = [*windows, DriftWindow(str(day), ROWS * length, drifted)][-trigger.of :]
        yield day, signals.drift(trigger, "champion", windows)


def _normal(z: Floats) -> Floats:
    from scipy.special import ndtr  # noqa: PLC0415

    return np.asarray(ndtr(z))


def sudden_days(settings: Settings, size: float, change: int, seed: int) -> Iterator[tuple[int, Signal]]:
    """The definition is another one from the change on."""
    del settings, seed
    for day in range(2 * YEAR):
        now = {"features": "other" if size and day >= change else "one"}
        yield day, signals.definition({"features": "one"}, now)


def restated_days(settings: Settings, size: float, change: int, seed: int) -> Iterator[tuple[int, Signal]]:
    """A past partition is another one from the change on."""
    del settings, seed
    for day in range(2 * YEAR):
        yield day, signals.restated("v", [("2023-12-01", 900)] if size and day >= change else [])


def label_days(settings: Settings, size: float, change: int, seed: int) -> Iterator[tuple[int, Signal]]:
    """So many labels are there at the start that enough new ones have come on the day of the change."""
    del size, seed
    trigger = settings.retrain.new_labels
    assert trigger is not None
    known = int(change * ROWS / trigger.share)
    for day in range(2 * YEAR):
        yield day, signals.new_labels(trigger, "v", known, day * ROWS)


def age_days(settings: Settings, size: float, change: int, seed: int) -> Iterator[tuple[int, Signal]]:
    """The last training is as old as declared on the day of the change."""
    del size, seed
    limit = settings.retrain.age
    assert limit is not None
    trained = START + change * DAY - limit
    for day in range(2 * YEAR):
        yield day, signals.age(limit, "v", trained, START + day * DAY)


@dataclass(frozen=True)
class Case:
    """A kind of stream and the sizes of the change that it is asked about; ``unit`` says what they are."""

    name: str
    stream: Stream
    sizes: tuple[float, ...]
    unit: str


CASES = (
    Case("performance", performance_days, (0.01, 0.02, 0.03, 0.05, 0.08), "log loss higher by"),
    Case("drift", drift_days, (0.3, 0.5, 0.75, 1.0), "half of the inputs higher by sd"),
)
EXACT = (
    Case("definition", sudden_days, (1.0,), "feature SQL, contract or code is another"),
    Case("restated", restated_days, (1.0,), "a past partition is another"),
    Case("new_labels", label_days, (1.0,), "the share is reached"),
    Case("age", age_days, (1.0,), "the age is reached"),
)


def false_alarms(settings: Settings, case: Case, streams: int) -> float:
    """Trainings in a year in which nothing changes, on average."""
    told = [follow(settings, case.stream, 0.0, YEAR, 10 * YEAR, seed) for seed in range(streams)]
    return sum(t.before for t in told) / streams


def delays(settings: Settings, case: Case, size: float, streams: int) -> list[int | None]:
    """Days from a change to the training that it starts; None where there is none in time."""
    return [
        follow(settings, case.stream, size, CHANGE + WITHIN, CHANGE, 1000 + seed).delay
        for seed in range(streams)
    ]


def declared() -> Settings:
    """What the project's first model declares, or the defaults where it declares none."""
    from orchestration.project import read_project  # noqa: PLC0415
    from orchestration.settings import Settings as PlatformSettings  # noqa: PLC0415

    exposures = read_project(PlatformSettings()).declarations.exposures.values()
    model = next(e.meta.model for e in exposures if e.meta.model is not None)
    return Settings(model.retrain, model.monitoring.performance, model.monitoring.drift)


def lines(settings: Settings, case: Case, streams: int) -> Iterator[tuple[str, ...]]:
    """The lines of a trigger: the change, trainings a year without it, how many saw it, and how soon."""
    exact = case in EXACT
    count = 1 if exact else streams
    never = case.name in {"new_labels", "age"}  # Of these a year without the change is none.
    alarms = "" if never else f"{false_alarms(settings, case, count):.2f}"
    for place, size in enumerate(case.sizes):
        found = delays(settings, case, size, count)
        days = [d if d is not None else WITHIN + 1 for d in found]
        middle, most = (int(np.quantile(days, at, method="higher")) for at in (0.5, 0.9))
        yield (
            case.name if not place else "",
            case.unit if exact else f"{case.unit} {size:g}",
            alarms if not place else "",
            f"{sum(d is not None for d in found) / len(found):.0%}",
            *(str(d) if d <= WITHIN else "-" for d in (middle, most)),
        )


def table(settings: Settings, streams: int) -> Table:
    """All lines."""
    made = Table(title=f"{streams} simulated streams a line, settings as declared", title_justify="left")
    for heading in ("trigger", "change", "trainings a year without", f"seen in {WITHIN} days"):
        made.add_column(heading, justify="left" if heading in {"trigger", "change"} else "right")
    made.add_column("median days", justify="right")
    made.add_column("9 of 10 within", justify="right")
    for case in (*CASES, *EXACT):
        for line in lines(settings, case, streams):
            made.add_row(*line)
    return made


def run(folder: Path, *, repeats: int, streams: int = 200) -> list[Row]:
    """Print the table; it needs no folder, and streams are its repeats."""
    del folder, repeats
    Console(width=150).print(table(declared(), streams))
    return []
