"""The promotion gate: what a challenger must show before it may serve, in order, each with its evidence.

What belongs here: the conditions, as functions from evidence to a result that becomes an asset check. What
does not: gathering the evidence (``contest``), or the promotion (``registry``). Whatever cannot be told
is not passed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from orchestration.learning.conditions import CONDITIONS
from orchestration.learning.contest import Contender, Contest, learnt_until
from orchestration.learning.profile import profile_number
from orchestration.learning.spec import ModelSpec
from orchestration.learning.splitting import SplitError, check_part
from orchestration.learning.statistics.comparison import Comparison, compare
from orchestration.learning.statistics.delong import SingleClassError
from orchestration.learning.statistics.metrics import GREATER_IS_BETTER, measure
from orchestration.learning.training import slices_of

_TIMED_ROWS = 200
_FEWEST_SCORES = 10
"""Fewer different scores than this tell rows apart no better than a handful of rules would."""
_LARGEST_SHARE = 0.5
"""Of rows that may have one and the same score."""


@dataclass(frozen=True)
class GateResult:
    """One condition: whether it holds, in a sentence, and what that rests on."""

    name: str
    passed: bool
    description: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


_FIRST = ("inputs_hold", "same_frozen_window")


@dataclass(frozen=True)
class Shadow:
    """Since when a challenger scores beside the champion, and how many predictions it has made."""

    since: datetime
    predictions: int


@dataclass(frozen=True)
class Situation:
    """What the gate is told beside the contest.

    ``checks`` tells of each blocking check whether it holds, None when it has not been evaluated; ``forced``
    is what forces a retrain that need not be better, such as ``age``.
    """

    checks: Mapping[str, bool | None]
    now: datetime
    forced: str | None = None
    shadow: Shadow | None = None


def judge(spec: ModelSpec, contest: Contest, situation: Situation) -> list[GateResult]:
    """Every condition in order; when one of the first two fails, the others cannot be told and fail too."""
    told: dict[str, Callable[[], tuple[bool, str, Mapping[str, Any]]]] = {
        "inputs_hold": lambda: inputs_hold(situation.checks),
        "same_frozen_window": lambda: same_frozen_window(spec, contest),
        "floors_reached": lambda: floors_reached(spec, contest),
        "slices_unharmed": lambda: slices_unharmed(spec, contest),
        "scores_sane": lambda: scores_sane(spec, contest),
        "small_and_fast": lambda: small_and_fast(spec, contest),
        "better_than_champion": lambda: better_than_champion(spec, contest, situation.forced),
        "shadow_period": lambda: shadow_period(spec, situation),
    }
    results: list[GateResult] = []
    for name in CONDITIONS:
        failed = [r.name for r in results if r.name in _FIRST and not r.passed]
        if failed and name not in _FIRST:
            results.append(GateResult(name, False, f"not evaluated, as {failed[0]} does not hold"))
        else:
            results.append(GateResult(name, *told[name]()))
    return results


Told = tuple[bool, str, Mapping[str, Any]]


def inputs_hold(checks: Mapping[str, bool | None]) -> Told:
    """Whether every blocking check of the inputs holds."""
    failed = sorted(name for name, holds in checks.items() if holds is False)
    unknown = sorted(name for name, holds in checks.items() if holds is None)
    evidence = {"checks": len(checks), "failed": failed, "not_evaluated": unknown}
    if not checks:
        return False, "found no blocking check on any input, expected some", evidence
    if failed or unknown:
        return False, not_holding(checks), evidence
    return True, f"{len(checks)} blocking checks hold", evidence


def not_holding(checks: Mapping[str, bool | None]) -> str:
    """The checks that failed and, separately, those that were not evaluated; empty if all hold."""
    kinds = ((False, "failed"), (None, "not evaluated"))
    found = [(what, sorted(name for name, holds in checks.items() if holds is kind)) for kind, what in kinds]
    return "; ".join(f"{len(names)} {what}: {', '.join(names)}" for what, names in found if names)


def same_frozen_window(spec: ModelSpec, contest: Contest) -> Told:
    """Whether both models were scored on enough rows from after what either has learnt."""
    evidence = {
        **contest.facts(),
        "challenger_learnt_until": learnt_until(contest.challenger.model).isoformat(),
        "opponent_learnt_until": learnt_until(contest.opponent.model).isoformat(),
    }
    try:
        check_part("evaluation rows", contest.part.window, contest.part.labels, spec.declared.split.min_rows)
    except SplitError as fault:
        return False, str(fault), evidence
    start = contest.part.window.start
    for who, contender in (("challenger", contest.challenger), (contest.against, contest.opponent)):
        until = learnt_until(contender.model)
        if start is None or start < until:
            return False, f"the {who} has learnt from rows up to {until.isoformat()}", evidence
    days = len(np.unique(contest.part.days))
    if days < 2:
        return False, f"found rows of {days} day, expected at least 2", evidence
    return (
        True,
        f"{len(contest.part.labels):,} rows of {days} days, against the {contest.against} "
        f"{contest.opponent.model.version}",
        evidence,
    )


def floors_reached(spec: ModelSpec, contest: Contest) -> Told:
    """Whether each metric with a floor reaches it."""
    part, challenger = contest.part, contest.challenger
    found = measure(
        part.labels, challenger.scores, part.days, challenger.model.threshold, seed=spec.declared.seed
    )
    evidence: dict[str, Any] = {}
    missed = []
    for name, floor in spec.declared.floors.metrics.items():
        estimate = found.get(name)
        greater = GREATER_IS_BETTER[name]
        value = None if estimate is None else estimate.value
        reached = value is not None and (value >= floor if greater else value <= floor)
        evidence[name] = {
            "floor": floor,
            "at": "least" if greater else "most",
            **(asdict(estimate) if estimate is not None else {"value": None}),
        }
        if not reached:
            said = "nothing" if value is None else f"{value:.4f}"
            missed.append(f"{name}: found {said}, expected at {'least' if greater else 'most'} {floor:g}")
    return not missed, "; ".join(missed) or f"{len(evidence)} floors reached", evidence


def slices_unharmed(spec: ModelSpec, contest: Contest) -> Told:
    """Whether no slice of enough rows may have lost more than declared."""
    floors, part = spec.declared.floors, contest.part
    evidence: list[dict[str, Any]] = []
    harmed = []
    for column in spec.declared.slices:
        for value, chosen in slices_of(part.rows, column):
            row: dict[str, Any] = {"slice": f"{column}={value}", "rows": int(chosen.sum())}
            try:
                test = _compared(spec, contest, chosen)
            except (SingleClassError, ValueError) as fault:
                test, row["untold"] = None, str(fault)
            if test is not None:
                row |= {"gain": test.gain, "low": test.low}
            row["decides"] = int(chosen.sum()) >= floors.smallest_slice
            evidence.append(row)
            if row["decides"] and (test is None or not test.not_inferior(floors.slice_loss)):
                said = row.get("untold") or f"the loss may be {-row['low']:.4f}"
                harmed.append(f"{row['slice']}: {said}, expected less than {floors.slice_loss:g}")
    decided = sum(bool(row["decides"]) for row in evidence)
    return not harmed, "; ".join(harmed) or f"{decided} slices unharmed", {"slices": evidence}


def scores_sane(spec: ModelSpec, contest: Contest) -> Told:
    """Whether the challenger's scores look like probabilities of this label."""
    scores, labels = contest.challenger.scores, contest.part.labels
    usable = bool(np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1)
    if not usable:
        return False, "found scores that are not from 0 to 1", {"finite": int(np.isfinite(scores).sum())}
    values, counts = np.unique(scores, return_counts=True)
    gap = abs(float(scores.mean() - labels.mean()))
    largest = float(counts.max() / len(scores))
    evidence = {
        "mean_score": float(scores.mean()),
        "share_of_positives": float(labels.mean()),
        "different_scores": len(values),
        "largest_share_of_one_score": largest,
        "challenger": profile_number("score", scores).as_json(),
        "opponent": profile_number("score", contest.opponent.scores).as_json(),
    }
    faults = []
    if len(values) < _FEWEST_SCORES:
        faults.append(f"found {len(values)} different scores, expected at least {_FEWEST_SCORES}")
    if largest > _LARGEST_SHARE:
        faults.append(f"found one score on {largest:.0%} of the rows, expected at most {_LARGEST_SHARE:.0%}")
    if gap > spec.declared.floors.score_gap:
        faults.append(
            f"found scores of {scores.mean():.4f} on average for {labels.mean():.4f} positive labels, "
            f"expected at most {spec.declared.floors.score_gap:g} between them"
        )
    return not faults, "; ".join(faults) or "scores are spread, and as high as labels are frequent", evidence


def small_and_fast(spec: ModelSpec, contest: Contest) -> Told:
    """Whether the artifact is small, and single rows are scored fast."""
    floors, challenger = spec.declared.floors, contest.challenger
    size = sum(facts["bytes"] for facts in challenger.model.manifest["files"].values()) / 1e6
    seconds = single_row_seconds(challenger, contest)
    # The median: how busy the machine is with other work must not decide who serves.
    slow = float(np.median(seconds) * 1000)
    evidence = {
        "megabytes": size,
        "most_megabytes": floors.megabytes,
        "milliseconds": slow,
        "milliseconds_p99": float(np.quantile(seconds, 0.99) * 1000),
        "most_milliseconds": floors.milliseconds,
        "rows_timed": len(seconds),
    }
    faults = []
    if size > floors.megabytes:
        faults.append(f"found an artifact of {size:.1f} MB, expected at most {floors.megabytes:g}")
    if slow > floors.milliseconds:
        faults.append(f"found {slow:.1f} ms for a row, expected at most {floors.milliseconds:g}")
    return not faults, "; ".join(faults) or f"{size:.1f} MB, {slow:.1f} ms for a row", evidence


def single_row_seconds(contender: Contender, contest: Contest) -> list[float]:
    """How long each of some rows takes by itself, from columns to probability."""
    rows = contest.part.rows.select(list(contender.model.scorer.columns))
    seconds = []
    for number in range(min(_TIMED_ROWS, rows.num_rows)):
        started = time.perf_counter()
        contender.model.scorer.score(rows.slice(number, 1))
        seconds.append(time.perf_counter() - started)
    return seconds


def better_than_champion(spec: ModelSpec, contest: Contest, forced: str | None) -> Told:
    """The paired test on the primary metric."""
    gate = spec.declared.gate
    test = _compared(spec, contest, np.ones(len(contest.part.labels), dtype=np.bool_))
    against = f"the {contest.against} {contest.opponent.model.version}"
    evidence: dict[str, Any] = {**asdict(test), "error_rate": gate.error_rate, "against": against}
    if forced is not None and contest.against == "champion":
        evidence |= {"forced_by": forced, "margin": gate.non_inferiority_margin}
        limit = -gate.non_inferiority_margin
        passed = test.not_inferior(gate.non_inferiority_margin)
    else:
        # Whoever is first has only to be better than what is simpler.
        limit = gate.minimum_gain if contest.against == "champion" else 0.0
        evidence["minimum_gain"] = limit
        passed = test.superior(limit)
    return (
        passed,
        f"{test.metric} is better by {test.gain:.5f} than that of {against}, at least {test.low:.5f} with an "
        f"error rate of {gate.error_rate:.0%}; expected more than {limit:g}",
        evidence,
    )


def shadow_period(spec: ModelSpec, situation: Situation) -> Told:
    """Whether a declared shadow period is over."""
    declared, shadow = spec.declared.gate.shadow, situation.shadow
    if declared is None:
        return True, "none is declared", {}
    evidence: dict[str, Any] = {"declared_seconds": declared.total_seconds()}
    if shadow is None:
        return False, f"it has not begun; {declared} are declared", evidence
    evidence |= {"since": shadow.since.isoformat(), "predictions": shadow.predictions}
    lasted = situation.now - shadow.since
    if lasted < declared or not shadow.predictions:
        return False, f"{shadow.predictions} predictions in {lasted}; {declared} are declared", evidence
    return True, f"{shadow.predictions} predictions in {lasted}", evidence


def _compared(spec: ModelSpec, contest: Contest, chosen: Any) -> Comparison:
    return compare(
        spec.declared.metric,
        contest.part.labels[chosen],
        contest.opponent.scores[chosen],
        contest.challenger.scores[chosen],
        contest.part.days[chosen],
        spec.declared.gate.error_rate,
        seed=spec.declared.seed,
    )


def passed(results: Sequence[GateResult]) -> bool:
    """Whether the gate is open: every condition was told, and holds."""
    return [r.name for r in results] == list(CONDITIONS) and all(r.passed for r in results)
