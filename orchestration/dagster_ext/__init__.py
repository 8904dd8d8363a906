"""Extensions of Dagster: the check history, which decides whether a check holds."""

from orchestration.dagster_ext.check_gate import GraphChecks
from orchestration.dagster_ext.check_history import CheckHistory
from orchestration.dagster_ext.check_state import CheckState, CheckStatus, OpenFailure

__all__ = ["CheckHistory", "CheckState", "CheckStatus", "GraphChecks", "OpenFailure"]
