"""An automation condition on the check history."""

import weakref

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView

from orchestration.dagster_ext.check_gate import GraphChecks


class BlockingChecksHold(dg.AutomationCondition[dg.AssetKey]):
    """True for an asset whose blocking checks hold for its current data.

    Dagster's own condition uses the newest record of each check: a run that was killed before a check keeps
    it false for data that the run never built, and a result counts for data that was built after it.

    Args:
        checks: The checks of the graph.
    """

    def __init__(self, checks: GraphChecks) -> None:
        self._checks = checks
        self._answers: weakref.WeakKeyDictionary[AssetGraphView, dict[dg.AssetKey, bool]]
        self._answers = weakref.WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The condition's name in the UI."""
        return "blocking_checks_hold"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """All candidates or none; each asset is looked up once per evaluation of the graph."""
        view, key = context.asset_graph_view, context.key
        answers = self._answers.setdefault(view, {})
        if key not in answers:
            answers[key] = not self._checks.not_holding(view.instance, [key])
        subset = context.candidate_subset if answers[key] else context.get_empty_subset()
        return dg.AutomationResult(context, subset)
