"""Triggers are quiet where nothing changes and see what does, on simulated streams of known truth."""

from benchmarks.triggers import CASES, CHANGE, EXACT, Settings, delays, follow
from orchestration.declarations import Retrain

DECLARED = Settings(
    Retrain.model_validate(
        {
            "performance": {"loss": 0.02},
            "drift": {"alarms": 3, "of": 5},
            "new_labels": {"share": 0.25},
            "age": "60 days",
            "cooldown": "7 days",
            "budget": {"trainings": 2, "per": "14 days"},
        }
    )
)


def test_a_large_change_is_seen_within_weeks_and_nothing_before_it() -> None:
    performance, drift = CASES
    for case, size, most in ((performance, 0.08, 21), (drift, 1.0, 15)):
        told = follow(DECLARED, case.stream, size, CHANGE + 40, CHANGE, seed=3)
        assert told.before == 0
        assert told.delay is not None
        assert 2 <= told.delay <= most


def test_what_can_be_told_exactly_fires_on_the_day_itself() -> None:
    for case in EXACT:
        assert delays(DECLARED, case, 1.0, 1) == [0], case.name
