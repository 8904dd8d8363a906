"""What counts as failed, as a warning and as not evaluated."""

import dagster as dg
import pytest

from orchestration.dagster_ext.check_gate import counted
from orchestration.dagster_ext.check_state import EVALUATED, CheckState, CheckStatus, evaluation_status

KEY = dg.AssetCheckKey(dg.AssetKey(["features", "t"]), "complete")
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize(
    ("severity", "passed", "evaluated", "expected"),
    [
        (ERROR, True, True, "passed"),
        (ERROR, False, True, "failed"),
        (ERROR, False, False, "not evaluated"),
        (WARN, True, True, "passed"),
        (WARN, False, True, "warned"),
        (WARN, False, False, "warned"),
    ],
)
def test_a_check_that_warns_only_warns_even_if_it_was_not_evaluated(
    severity: dg.AssetCheckSeverity, passed: bool, evaluated: bool, expected: str, blocking: bool
) -> None:
    evaluation = dg.AssetCheckEvaluation(
        asset_key=KEY.asset_key,
        check_name=KEY.name,
        passed=passed,
        severity=severity,
        metadata={EVALUATED: evaluated},
        blocking=blocking,
    )
    status = evaluation_status(evaluation)
    assert status.value == expected
    assert CheckState(KEY, status, None).holds == (expected in ("passed", "warned"))


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["failed"], "1 failed"),
        (["not evaluated", "not evaluated"], "2 not evaluated"),
        (["failed", "not evaluated", "failed", "pending"], "2 failed, 2 not evaluated"),
    ],
)
def test_messages_count_what_failed_apart_from_what_was_not_evaluated(
    statuses: list[str], expected: str
) -> None:
    assert counted([CheckState(KEY, CheckStatus(status), None) for status in statuses]) == expected
