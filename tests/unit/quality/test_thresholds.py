"""Thresholds mean what they mean to Soda."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from soda_core.contracts.impl.contract_verification_impl import ThresholdImpl, ThresholdType

from orchestration.quality.thresholds import Range, Threshold

SINGLE = [name for name in Threshold.model_fields if name.startswith("must_") and "between" not in name]
NUMBERS = st.integers(-3, 3) | st.floats(-3, 3, allow_nan=False)


@settings(deadline=None)
@given(name=st.sampled_from(SINGLE), bound=NUMBERS, value=NUMBERS)
def test_a_comparison_admits_what_soda_passes(name: str, bound: float, value: float) -> None:
    soda = ThresholdImpl(type=ThresholdType.SINGLE_COMPARATOR, **{name: bound})
    assert Threshold(**{name: bound}).admits(value) == soda.passes(value)


@settings(deadline=None)
@given(
    low=st.sampled_from(["greater_than", "greater_than_or_equal"]),
    high=st.sampled_from(["less_than", "less_than_or_equal"]),
    bounds=st.tuples(st.integers(-3, 3), st.integers(-3, 3)).filter(lambda pair: pair[0] != pair[1]),
    value=NUMBERS,
)
def test_a_range_admits_what_soda_passes(low: str, high: str, bounds: tuple[int, int], value: float) -> None:
    inside = bounds[0] < bounds[1]
    kind = ThresholdType.INNER_RANGE if inside else ThresholdType.OUTER_RANGE
    soda = ThresholdImpl(type=kind, **{f"must_be_{low}": bounds[0], f"must_be_{high}": bounds[1]})
    span = Range(**{low: bounds[0], high: bounds[1]})
    ours = Threshold(must_be_between=span) if inside else Threshold(must_be_not_between=span)
    assert ours.admits(value) == soda.passes(value)


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_not_a_number_passes_only_a_difference(name: str) -> None:
    assert Threshold(**{name: 0}).admits(float("nan")) is (name == "must_not_be")
