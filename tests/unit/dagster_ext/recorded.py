"""An instance whose events a test writes: runs that plan, build, check, end or die in any order."""

from dataclasses import dataclass, field
from datetime import date, timedelta

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
from dagster._core.utils import make_new_run_id

from orchestration.dagster_ext import CheckHistory, CheckState
from orchestration.dagster_ext.check_state import (
    EVALUATED,
    MATERIALIZED_UNTIL,
    TESTED_WINDOW,
    WHOLE_TABLE,
    window_text,
)
from orchestration.declarations import Partition
from orchestration.partitions import Window, day_window
from orchestration.quality.results import with_open_failures

ASSET = dg.AssetKey(["features", "t"])
CHECK = dg.AssetCheckKey(ASSET, "complete")
DAYS = Partition(frequency="daily", start="2024-01-01", end="2024-02-01", timezone="Europe/Berlin")


def day(number: int) -> str:
    return (date(2024, 1, 1) + timedelta(days=number)).isoformat()


def window(first: int, last: int | None = None) -> Window:
    start, end = (
        day_window(DAYS, date.fromisoformat(day(n))) for n in (first, first if last is None else last)
    )
    return Window(start.start, end.end)


@dataclass
class Run:
    """One run; ``until`` is the newest materialization when its check began."""

    id: str
    instance: dg.DagsterInstance
    until: int = 0

    def _report(self, kind: DagsterEventType, data: object) -> None:
        self.instance.report_dagster_event(DagsterEvent(kind.value, "j", event_specific_data=data), self.id)

    def plan(self) -> "Run":
        self._report(
            DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
            AssetCheckEvaluationPlanned(asset_key=ASSET, check_name=CHECK.name),
        )
        return self

    def build(self, *days: int) -> "Run":
        for partition in map(day, days) if days else [None]:
            made = dg.AssetMaterialization(ASSET, partition=partition)
            self._report(DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(made))
        return self

    def begin_check(self) -> "Run":
        self.until = self.history().newest_materialization(ASSET)
        return self

    def history(self) -> CheckHistory:
        return CheckHistory(self.instance, {ASSET: DAYS}, self.id)

    def end_check(self, passed: bool, over: Window | None, *, evaluated: bool = True) -> "Run":
        """Report a result as the check of a contract does."""
        result = dg.AssetCheckResult(
            passed=passed,
            asset_key=ASSET,
            check_name=CHECK.name,
            metadata={
                MATERIALIZED_UNTIL: self.until,
                EVALUATED: evaluated,
                TESTED_WINDOW: "whole table" if over is None else window_text(over),
            },
        )
        history = self.history()
        found = with_open_failures(
            result, over, history.open_failures(CHECK, self.until, over or WHOLE_TABLE)
        )
        evaluation = dg.AssetCheckEvaluation(
            asset_key=ASSET,
            check_name=CHECK.name,
            passed=found.passed,
            metadata=found.metadata or {},
            severity=found.severity,
            description=found.description,
            blocking=True,
        )
        self._report(DagsterEventType.ASSET_CHECK_EVALUATION, evaluation)
        self.history().republish([CHECK])
        return self

    def check(self, passed: bool, over: Window | None = None) -> "Run":
        return self.begin_check().end_check(passed, over)

    def end(self, *, succeeded: bool = True) -> None:
        kind = DagsterEventType.RUN_SUCCESS if succeeded else DagsterEventType.RUN_FAILURE
        self.instance.report_dagster_event(DagsterEvent(kind.value, "j"), self.id)


@dataclass
class Recorded:
    instance: dg.DagsterInstance
    runs: list[Run] = field(default_factory=list)

    def run(self) -> Run:
        run = dg.DagsterRun("j", make_new_run_id(), status=dg.DagsterRunStatus.STARTED)
        self.instance.add_run(run)
        self.runs.append(Run(run.run_id, self.instance))
        return self.runs[-1]

    def state(self, run_id: str = "") -> CheckState:
        return CheckHistory(self.instance, {ASSET: DAYS}, run_id).states([CHECK])[CHECK]

    @property
    def status(self) -> str:
        return self.state().status.value
