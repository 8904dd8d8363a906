"""How far a window is from what a model was made with, and what is called drift."""

import math
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, f

from orchestration.declarations import DriftWatch
from orchestration.learning.profile import ColumnProfile, profile_number, profile_texts
from orchestration.learning.statistics.persistence import persistence
from orchestration.monitoring.counting import Counted, count_columns, day_sql, reference_counts
from orchestration.monitoring.drift import compare_columns
from orchestration.monitoring.shift import (
    chi_square,
    day_variance,
    holm,
    jensen_shannon,
    population_stability_index,
)
from orchestration.monitoring.together import Sample, read_sample, sample_sql, tell_apart

Floats = NDArray[np.float64]
WATCH = DriftWatch(min_rows=100)


def test_the_index_is_what_it_is_by_hand() -> None:
    reference, window = (
        np.array([99.5, 299.5]),
        np.array([49.5, 49.5]),
    )  # With the half rows: 1/4, 3/4; 1/2, 1/2.
    by_hand = (1 / 2 - 1 / 4) * math.log(2) + (1 / 2 - 3 / 4) * math.log(2 / 3)
    assert population_stability_index(reference, window) == pytest.approx(by_hand)
    assert population_stability_index(window, window) == 0
    assert population_stability_index(reference, np.array([0.0, 400.0])) < 10  # An empty bin is no infinity.


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=30))
def test_distance_and_test_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    counts = np.array(pairs, dtype=float).T + 10
    reference, window = counts
    assert jensen_shannon(reference, window) == pytest.approx(
        jensenshannon(reference, window, base=2), abs=1e-7
    )
    oracle = chi2_contingency(np.array([reference, window]), correction=False)
    statistic, p_value = chi_square(reference, window[None, :])
    assert statistic == pytest.approx(oracle.statistic)
    assert p_value == pytest.approx(oracle.pvalue)


def test_rows_of_a_day_that_hang_together_count_as_few() -> None:
    dice = np.random.default_rng(1)
    expected = np.full(4, 0.25)
    independent = day_variance(expected, dice.multinomial(1000, expected, size=300).astype(float))
    assert independent.total == pytest.approx(3 / 300_000, rel=0.15)
    assert independent.dimensions == pytest.approx(3, rel=0.1)
    # Each row stands ten times on its day: shares vary ten times as much.
    copied = day_variance(expected, 10 * dice.multinomial(100, expected, size=300).astype(float))
    assert copied.total == pytest.approx(10 * 3 / 300_000, rel=0.15)
    # A day moves rows from the first half to the second: one thing varies.
    moved = np.outer(dice.normal(size=300), [100, 100, -100, -100]) + 250
    assert day_variance(expected, moved).dimensions == pytest.approx(1, rel=0.05)

    days = np.array([[90.0, 10.0], [10.0, 90.0], [80.0, 20.0]])
    statistic, p_value = chi_square(np.array([5000.0, 5000.0]), days)
    share = days[:, 0] / 100
    error = ((1 + 300 / 10_000) * np.var(share, ddof=1) / 3) ** 0.5
    t = (share.mean() - 0.5) / error
    assert statistic == pytest.approx(
        t**2
    )  # Two bins of as many rows a day: Student's test of the days' shares.
    assert p_value == pytest.approx(f.sf(t**2, 1, 2))


def test_bins_of_which_few_rows_are_expected_are_tested_together() -> None:
    reference, window = np.array([500.0, 498, 1, 1, 0]), np.array([50.0, 48, 1, 0, 0])
    together = chi2_contingency([[500, 498, 2], [50, 48, 1]], correction=False)
    assert chi_square(reference, window[None, :])[1] == pytest.approx(together.pvalue)
    assert chi_square(np.array([10.0]), np.array([[3.0]])) == (0.0, 1.0)


def test_p_values_are_adjusted_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def texts(name: str, kind: str, values: list[str | None], known: tuple[str, ...]) -> ColumnProfile:
    return profile_texts(name, kind, pa.chunked_array([pa.array(values, pa.string())]), known)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 7, 10**6]))
def test_a_scan_counts_what_the_profile_counted(seed: int, steps: int) -> None:
    """Counted by SQL over the same rows, by day, every column is as its profile says it was."""
    dice = np.random.default_rng(seed)
    size = int(dice.integers(1, 400))
    numbers = np.round(dice.normal(size=size) * steps) / 10
    numbers[dice.random(size) < 0.1] = np.nan
    words = [None if w == "null" else str(w) for w in dice.choice(["", "a", "b", "rare", "null"], size)]
    flags = [None if w == 2 else bool(w) for w in dice.integers(0, 3, size)]
    profiles = {
        "Number": profile_number("Number", numbers),
        "text": texts("text", "category", words, ("", "a", "b")),
        "flag": texts(
            "flag", "flag", [None if x is None else str(x).lower() for x in flags], ("false", "true")
        ),
        "none": profile_number("none", np.full(size, np.nan)),
    }
    rows = pa.table(
        {
            "at": pa.array(dice.integers(0, 5 * 86_400_000_000, size), pa.timestamp("us", tz="UTC")),
            "Number": numbers,
            "text": pa.array(words, pa.string()),
            "flag": pa.array(flags, pa.bool_()),
            "none": pa.nulls(size, pa.float64()),
        }
    )
    with duckdb.connect() as con:
        con.register("rows", rows)
        found = count_columns(con, "rows", day_sql("at", "America/New_York"), profiles)
    for name, profile in profiles.items():
        assert found[name].by_day.sum(axis=0).tolist() == reference_counts(profile).tolist(), name
        assert found[name].by_day.sum(axis=1).min() > 0
        assert (found[name].rows, found[name].nulls) == (profile.rows, profile.nulls)
    assert found["Number"].outside == 0
    assert found["text"].outside == words.count("rare")


def test_decimals_lie_in_the_same_bins_however_they_became_doubles() -> None:
    cents = np.arange(0, 100_000, 7)
    decimals = pa.array(cents / 10).cast(pa.decimal128(12, 1))
    profile = profile_number("x", np.asarray(decimals.cast(pa.float64())))
    with duckdb.connect() as con:
        con.register("rows", pa.table({"x": decimals}))
        counted = count_columns(con, "rows", "date '2024-01-01'", {"x": profile})["x"]
    assert counted.by_day[0].tolist() == reference_counts(profile).tolist()
    assert counted.outside == 0


def counted(name: str, profile: ColumnProfile, values: pa.Array, days: int = 7) -> Counted:
    with duckdb.connect() as con:
        con.register("rows", pa.table({name: values, "day": np.arange(len(values)) % days}))
        return count_columns(con, "rows", "day", {name: profile})[name]


def test_each_way_in_which_a_column_changes_is_told() -> None:
    dice = np.random.default_rng(3)
    profile = profile_number("x", dice.normal(size=20_000))
    usual = dice.normal(size=7000)
    gone = np.where(dice.random(7000) < 0.5, np.nan, usual)
    words = texts("x", "category", ["a", "b"] * 5000, ("a", "b"))
    shown = {
        "usual": (profile, pa.array(usual)),
        "moved": (profile, pa.array(usual + 0.8)),
        "slightly moved": (profile, pa.array(usual + 0.2)),
        "gone": (profile, pa.array(gone, from_pandas=True)),
        "far out": (profile, pa.array(np.where(dice.random(7000) < 0.3, usual * 100, usual))),
        "new words": (words, pa.array(dice.choice(["a", "b", "e"], 7000))),
        "no words": (words, pa.nulls(7000, pa.string())),
    }
    found = {}
    for name, (column, values) in shown.items():
        (found[name],) = compare_columns(
            {"x": column}, {"x": counted("x", column, values)}, {"x": 0.4}, WATCH
        ).columns
    assert {name for name, told in found.items() if told.alarm} == set(shown) - {"usual", "slightly moved"}
    assert found["slightly moved"].adjusted_p_value < 1e-4  # Surely moved, and not far enough to matter.
    assert found["usual"].psi < 0.02
    assert found["gone"].null_rate_change == pytest.approx(0.5, abs=0.02)
    assert found["far out"].out_of_range_share == pytest.approx(0.29, abs=0.03)
    assert found["new words"].new_category_share == pytest.approx(1 / 3, abs=0.03)
    assert found["no words"].null_rate_change == 1
    assert found["moved"].new_category_share is None


def test_few_rows_and_unimportant_columns_are_no_drift_of_the_model() -> None:
    dice = np.random.default_rng(3)
    profile = profile_number("x", dice.normal(size=20_000))
    profiles = {name: replace(profile, name=name) for name in ("big", "small", "score")}
    importance = {"big": 0.9, "small": 0.05}

    def told(rows: int, *moved: str) -> tuple[list[str], bool]:
        counts = {
            name: counted(name, p, pa.array(dice.normal(size=rows) + 2 * (name in moved)))
            for name, p in profiles.items()
        }
        found = compare_columns(profiles, counts, importance, WATCH)
        return found.names, found.has_drifted

    assert told(99, "big") == ([], False)
    assert told(2000, "small") == (["small"], False)
    assert told(2000, "small", "big") == (["big", "small"], True)
    assert told(2000, "score") == (["score"], True)


def test_a_window_of_no_drift_alarms_as_seldom_as_declared() -> None:
    """Twenty columns, 120 windows: days differ in what they are like, and the index alone would often alarm."""
    dice = np.random.default_rng(11)
    columns, rows, days = 20, 60, 7

    def draw(count: int) -> Floats:
        weather = dice.normal(size=(columns, count, 1))
        return 0.7 * weather + 0.7 * dice.normal(size=(columns, count, rows))

    profiles = {str(n): profile_number(str(n), values.ravel()) for n, values in enumerate(draw(300))}
    alarms = large = 0
    for _ in range(120):
        window = draw(days)
        counts = {}
        for number, profile in enumerate(profiles.values()):
            bins = np.searchsorted(profile.edges, window[number])
            by_day = np.array([np.bincount(day, minlength=len(profile.counts)) for day in bins])
            counts[str(number)] = Counted(np.column_stack([by_day, np.zeros(days)]), 0)
        found = compare_columns(profiles, counts, {}, WATCH)
        alarms += bool(found.names)
        large += any(column.psi >= WATCH.psi for column in found.columns)
    assert large > 60
    assert alarms <= 4


def lasting(dice: np.random.Generator, columns: int, days: int, rows: int, rho: float) -> Floats:
    """Columns by days by rows of which half the variance is the day's, and that goes on by ``rho``."""
    weather = dice.normal(size=(columns, days, 1))
    for n in range(1, days):
        weather[:, n] = rho * weather[:, n - 1] + (1 - rho**2) ** 0.5 * weather[:, n]
    return np.asarray((weather + dice.normal(size=(columns, days, rows))) * 0.5**0.5)


def test_days_in_a_row_vary_more_the_more_they_hang_together() -> None:
    dice = np.random.default_rng(2)
    days = np.repeat(np.arange(3000), 40)
    for rho in (0.0, 0.6):
        values = lasting(dice, 1, 3000, 40, rho).ravel()
        places = (values > 0).astype(np.int64)
        # By the definition: means of runs of ten days, beside means of ten days drawn at random.
        by_day = places.reshape(3000, 40).mean(axis=1)
        ratio = 10 * np.var(np.convolve(by_day, np.ones(10) / 10, "valid")) / np.var(by_day)
        assert persistence(places, days, 10) == pytest.approx(max(1.0, float(ratio)), rel=0.1)
    assert persistence(places, 0 * days, 10) == 1
    assert persistence(0 * places, days, 10) == 1


def test_days_that_hang_together_alarm_more_seldom_once_that_is_known() -> None:
    dice = np.random.default_rng(7)
    columns, rows, days = 20, 60, 14
    whole = lasting(dice, columns, 200, rows, 0.5)
    profiles = {str(n): profile_number(str(n), values.ravel()) for n, values in enumerate(whole)}
    edges = {name: np.array(p.edges) for name, p in profiles.items()}
    numbers = np.repeat(np.arange(200), rows)
    hanging = {
        name: persistence(np.searchsorted(edges[name], whole[int(name)].ravel()), numbers, days)
        for name in profiles
    }
    before = after = found = 0
    for moved in (0.0, 2.0):
        for _ in range(60):
            window = lasting(dice, columns, days, rows, 0.5)
            window[0] += moved
            counts = {}
            for name in profiles:
                bins = np.searchsorted(edges[name], window[int(name)])
                by_day = np.array([np.bincount(d, minlength=len(edges[name]) + 1) for d in bins])
                counts[name] = Counted(np.column_stack([by_day, np.zeros(days)]), 0)
            told = compare_columns(profiles, counts, {}, WATCH, hanging).names
            if moved:
                found += "0" in told
            else:
                after += bool(told)
                before += bool(compare_columns(profiles, counts, {}, WATCH).names)
    assert before > 12
    assert after <= before / 4
    assert found > 30


def sample(dice: np.random.Generator, days: int, slope: float) -> Sample:
    """Two features that look the same whatever the slope; only how they go together changes."""
    x = dice.normal(size=days * 150)
    y = slope * x + (1 - slope**2) ** 0.5 * dice.normal(size=days * 150)
    return Sample(np.column_stack([x, y]), np.repeat(np.arange(days), 150))


def test_what_no_column_shows_by_itself_a_classifier_sees() -> None:
    dice = np.random.default_rng(5)
    profiles = {name: profile_number(name, dice.normal(size=100)) for name in ("x", "y")}

    def told(slope: float, days: int = 7):  # type: ignore[no-untyped-def]
        return tell_apart(
            sample(dice, 30, 0.9), sample(dice, days, slope), profiles, significance=0.001, seed=1
        )

    same, turned = told(0.9), told(-0.9)
    assert same.low < 0.5
    assert same.area == pytest.approx(0.5, abs=0.05)
    assert turned.low > 0.7
    assert turned.p_value < 0.001 < same.p_value
    assert told(-0.9, days=2) is None


def test_a_sample_is_the_same_each_time_and_encoded_as_the_profile_says() -> None:
    size = 3000
    rows = pa.table(
        {
            "id": np.arange(size),
            "n": np.arange(size) / 2,
            "w": ["b", None, "zz"] * 1000,
            "f": [True, None, False] * 1000,
        }
    )
    profiles = {
        "n": profile_number("n", np.arange(3.0)),
        "w": texts("w", "category", ["a", "b"], ("a", "b")),
        "f": texts("f", "flag", ["true"], ("false", "true")),
    }
    with duckdb.connect() as con:
        con.register("rows", rows)
        query = sample_sql("rows", "date '2024-01-02'", profiles, "id", 600, size)
        first, again = read_sample(con, query), read_sample(con, query)
    assert np.array_equal(first.matrix, again.matrix, equal_nan=True)
    assert 450 < len(first.days) < 750
    assert len(np.unique(first.days)) == 1
    expected = {0.0: (2.0, 1.0), 1.0: (None, None), 2.0: (0.0, 0.0)}
    for n, w, flag in first.matrix:
        assert (None if np.isnan(w) else w, None if np.isnan(flag) else flag) == expected[(n * 2) % 3]
