"""The policy that holds triggers back: what it promises is kept for any stream of signals."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from orchestration.automation.retraining.policy import Decision, Situation, decide, is_news
from orchestration.automation.retraining.signals import FORCING, TRIGGERS, Signal, State
from orchestration.declarations import Retrain

START = datetime(2024, 1, 1, tzinfo=UTC)
POLICY = Retrain.model_validate({"cooldown": "3 days", "budget": {"trainings": 2, "per": "14 days"}})
STATES: tuple[State, ...] = ("alarm", "calm", "between", "unknown")


def signal(trigger: str, state: State, episode: str = "champion") -> Signal:
    return Signal(trigger, state, episode, f"{trigger} says {state}")  # type: ignore[arg-type]


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[timedelta, list[Signal], Situation, bool]]:
    """Moments with the signals of some triggers, what holds trainings back, and whether one would fail."""
    names = draw(st.lists(st.sampled_from(TRIGGERS), min_size=1, max_size=3, unique=True))
    moments = []
    for _ in range(draw(st.integers(1, 25))):
        signals = [
            signal(name, draw(st.sampled_from(STATES)), draw(st.sampled_from(["one", "other"])))
            for name in names
        ]
        situation = Situation(
            draw(st.sampled_from([None, None, None, "run"])),
            draw(st.sampled_from([(), (), (), ("raw/a:rows",)])),
            draw(st.sampled_from([False, False, True])),
        )
        moments.append((timedelta(hours=draw(st.integers(1, 100))), signals, situation, draw(st.booleans())))
    return moments


def walk(
    moments: Sequence[tuple[timedelta, list[Signal], Situation, bool]], policy: Retrain = POLICY
) -> tuple[list[Decision], list[Situation], frozenset[str]]:
    """Every decision on a stream, written down or not, with the situation of each."""
    past: list[Decision] = []
    every: list[Decision] = []
    failed: frozenset[str] = frozenset()
    now = START
    for step, signals, situation, fails in moments:
        now += step
        made = decide(policy, "m", "c", signals, situation, past, failed, now)
        if is_news(made, past):
            past.append(made)
            if made.outcome == "fired" and fails:
                failed |= {made.id}
        every.append(made)
    return every, [situation for _, _, situation, _ in moments], failed


@given(streams())
def test_cooldown_budget_and_one_at_a_time_hold_for_any_stream(
    moments: list[tuple[timedelta, list[Signal], Situation, bool]],
) -> None:
    decisions, situations, _ = walk(moments)
    fired = [d for d in decisions if d.outcome == "fired"]
    for earlier, later in itertools.pairwise(fired):
        assert "manual" in later.triggers or later.decided_at - earlier.decided_at >= POLICY.cooldown
    for decision in fired:
        lately = [d for d in fired if timedelta(0) <= decision.decided_at - d.decided_at < timedelta(days=14)]
        assert len(lately) <= 2
    for decision, situation in zip(decisions, situations, strict=True):
        if decision.outcome == "fired":
            assert situation == Situation()
            assert decision.triggers


@given(streams())
def test_an_episode_starts_one_training_until_it_was_calm(
    moments: list[tuple[timedelta, list[Signal], Situation, bool]],
) -> None:
    decisions, _, failed = walk(moments)
    for trigger in TRIGGERS:
        answered: set[str] = set()
        for decision in decisions:
            told = next((s for s in decision.signals if s.trigger == trigger), None)
            if told is None:
                continue
            if told.state == "calm":
                answered.clear()
            if decision.outcome == "fired" and trigger in decision.triggers:
                assert told.state == "alarm"
                assert told.episode not in answered
            if (
                decision.outcome == "fired"
                and told.state == "alarm"
                and (trigger == "manual" or decision.id not in failed)
            ):
                answered.add(told.episode)


@given(streams())
def test_what_is_held_back_is_told_and_not_forgotten(
    moments: list[tuple[timedelta, list[Signal], Situation, bool]],
) -> None:
    decisions, _, failed = walk(moments)
    for decision in decisions:
        alarms = {s.trigger for s in decision.signals if s.state == "alarm"}
        assert (decision.outcome == "quiet") == (not alarms)
        assert (decision.outcome == "suppressed") == bool(decision.holds)
        assert set(decision.triggers) <= alarms
        assert decision.forced is None or decision.forced in FORCING
    # An alarm that is held back goes on to be one: as soon as nothing holds it back, it fires.
    last = decisions[-1]
    held = [s for s in last.signals if s.trigger in last.triggers and last.outcome == "suppressed"]
    if held and "answered" not in last.holds:
        later = decide(
            POLICY, "m", "c", held, Situation(), decisions, failed, last.decided_at + timedelta(days=30)
        )
        assert later.outcome == "fired"


def test_every_hold_is_named_in_order_and_in_words() -> None:
    now = START + timedelta(days=1)
    fired = decide(POLICY, "m", "c", [signal("age", "alarm", "v1")], Situation(), [], frozenset(), START)
    assert (fired.outcome, fired.triggers, fired.forced) == ("fired", ("age",), "age")
    again = decide(
        POLICY,
        "m",
        "c",
        [signal("age", "alarm", "v1"), signal("drift", "alarm")],
        Situation("r1", ("raw/a:rows",), True),
        [fired, replace(fired, id="other", sequence=2)],
        frozenset(),
        now,
    )
    assert again.outcome == "suppressed"
    assert again.triggers == ("drift",)
    assert again.holds == ("one_at_a_time", "quality", "nothing_new", "cooldown", "budget")
    assert again.reason == (
        "held back: run r1 is training; held back: raw/a:rows do not hold; "
        "held back: there is nothing new to learn from; "
        "held back: trained last on 2024-01-01 00:00, 3 days must pass; "
        "held back: 2 trainings in 14 days, no more are allowed; drift: drift says alarm"
    )
    # A training that failed has answered nothing, but it counts for the cooldown.
    retried = decide(POLICY, "m", "c", fired.signals, Situation(), [fired], frozenset({fired.id}), now)
    assert retried.holds == ("cooldown",)
    later = START + timedelta(days=3)
    assert decide(POLICY, "m", "c", fired.signals, Situation(), [fired], frozenset({fired.id}), later).outcome == "fired"  # fmt: skip
    assert decide(POLICY, "m", "c", fired.signals, Situation(), [fired], frozenset(), later).holds == ("answered",)  # fmt: skip
    # Who asks by hand need not wait for the cooldown.
    asked = decide(POLICY, "m", "c", [signal("manual", "alarm", "r")], Situation(), [fired], frozenset(), now)
    assert asked.outcome == "fired"


def test_what_comes_out_the_same_is_not_written_again() -> None:
    first = decide(POLICY, "m", "c", [signal("drift", "calm")], Situation(), [], frozenset(), START)
    second = decide(
        POLICY, "m", "c", [replace(signal("drift", "calm"), measured=2.0)], Situation(), [first], frozenset(),
        START + timedelta(minutes=1),
    )  # fmt: skip
    assert is_news(first, [])
    assert not is_news(second, [first])
    changed = decide(POLICY, "m", "other", first.signals, Situation(), [first], frozenset(), START)
    assert is_news(changed, [first])
    assert changed.id != first.id
