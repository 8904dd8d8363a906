"""The state of a check: its status, its newest result and the windows that still fail."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from orchestration.partitions import Window

OPEN_WINDOWS = "unmended_windows"
"""Metadata of a result: start, end, instant and kind of every window that still fails."""
UNSETTLED = "unsettled_from"
"""Metadata of a result: id of the oldest record whose run was still in progress."""
MATERIALIZED_UNTIL = "materialized_until"
"""Metadata of a result: id of the newest materialization that was recorded before the check read."""
TESTED_WINDOW = "window"
"""Metadata of a result: the window that it tested."""
EVALUATED = "evaluated"
"""Metadata of a result: false when the check could not be evaluated."""

WHOLE_TABLE = Window(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


class CheckStatus(StrEnum):
    """The status of a check for the current data."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    NOT_EVALUATED = "not evaluated"
    PENDING = "pending"
    """A run in progress has built the data and is about to evaluate the check."""


def covers(window: Window, other: Window) -> bool:
    """Whether one window contains another."""
    return window.start <= other.start and other.end <= window.end


def window_text(window: Window) -> str:
    """A window as text for messages."""
    if window == WHOLE_TABLE:
        return "the whole table"
    return f"{window.start.isoformat()} to {window.end.isoformat()}"


@dataclass(frozen=True)
class OpenFailure:
    """A window that failed, or was built and not evaluated, and that no later result covers."""

    window: Window
    since: datetime
    evaluated: bool
    run_id: str = ""


@dataclass(frozen=True)
class Materialization:
    """One materialization of an asset: its storage id, run, instant and window."""

    id: int
    run_id: str
    at: datetime
    window: Window


@dataclass(frozen=True)
class Result:
    """One result of a check.

    ``window`` is None for a result that only repeats what other results found; ``horizon`` is the id of the
    newest materialization that it tested, None if neither the check nor Dagster recorded one.
    """

    record_id: int
    run_id: str
    planned_at: datetime
    at: datetime
    evaluation: dg.AssetCheckEvaluation

    @classmethod
    def of(cls, record: AssetCheckExecutionRecord) -> "Result | None":
        """The result in a record; None for a check that is only planned."""
        if record.event is None or record.event.asset_check_evaluation is None:
            return None
        return cls(
            record.id,
            record.run_id,
            datetime.fromtimestamp(record.create_timestamp, UTC),
            datetime.fromtimestamp(record.event.timestamp, UTC),
            record.event.asset_check_evaluation,
        )

    @property
    def evaluated(self) -> bool:
        """Whether the check could be evaluated."""
        return _is_evaluated(self.evaluation)

    @property
    def warns(self) -> bool:
        """Whether its failure counts only as a warning."""
        return self.evaluation.severity != dg.AssetCheckSeverity.ERROR

    @property
    def status(self) -> CheckStatus:
        """The recorded outcome, failures of other windows included."""
        return evaluation_status(self.evaluation)

    @property
    def window(self) -> Window | None:
        """The window that it tested."""
        text = _plain(self.evaluation, TESTED_WINDOW)
        if text is None:
            return None if OPEN_WINDOWS in self.evaluation.metadata else WHOLE_TABLE
        start, _, end = str(text).partition(" to ")
        return Window(datetime.fromisoformat(start), datetime.fromisoformat(end)) if end else WHOLE_TABLE

    @property
    def open_windows(self) -> dict[Window, OpenFailure]:
        """The windows that fail as of this result, including its own."""
        spans: Any = _plain(self.evaluation, OPEN_WINDOWS) or []
        found = {}
        for start, end, since, *kind in spans:
            window = Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
            evaluated = not kind or kind[0] == CheckStatus.FAILED.value
            found[window] = OpenFailure(window, datetime.fromisoformat(since), evaluated, self.run_id)
        return found

    @property
    def passed_its_window(self) -> bool:
        """Whether its own window passed, whatever fails in other windows."""
        if self.status in (CheckStatus.PASSED, CheckStatus.WARNED):
            return True
        carried = self.open_windows
        return bool(carried) and self.window not in carried

    @property
    def unsettled(self) -> int | None:
        """Id of the oldest record whose run was still in progress."""
        value = _plain(self.evaluation, UNSETTLED)
        return None if value is None else int(str(value))

    @property
    def horizon(self) -> int | None:
        """Id of the newest materialization when the check began."""
        value = _plain(self.evaluation, MATERIALIZED_UNTIL)
        if value is not None:
            return int(str(value))
        target = self.evaluation.target_materialization_data
        return None if target is None else target.storage_id

    @property
    def reach(self) -> int:
        """Id of the oldest record that it does not account for."""
        return self.record_id if self.unsettled is None else min(self.record_id, self.unsettled)

    def covers(self, window: Window) -> bool:
        """Whether its window contains another one."""
        return self.window is not None and covers(self.window, window)

    def is_later_than(self, other: "Result") -> bool:
        """Whether it ended later or tested later data."""
        return self.at > other.at or (self.horizon or 0) > (other.horizon or 0)

    def tested(self, made: Materialization) -> bool:
        """Whether it read what a materialization wrote, as far as its window reaches."""
        if self.run_id and made.run_id == self.run_id:
            return True
        if self.horizon is not None:
            return made.id <= self.horizon
        return made.at < (self.planned_at if self.run_id else self.at)


def evaluation_status(evaluation: dg.AssetCheckEvaluation) -> CheckStatus:
    """The status of an evaluation; a check of level WARN only warns if it could not be evaluated."""
    if evaluation.passed:
        return CheckStatus.PASSED
    if evaluation.severity != dg.AssetCheckSeverity.ERROR:
        return CheckStatus.WARNED
    return CheckStatus.FAILED if _is_evaluated(evaluation) else CheckStatus.NOT_EVALUATED


def _is_evaluated(evaluation: dg.AssetCheckEvaluation) -> bool:
    return _plain(evaluation, EVALUATED) is not False


def _plain(evaluation: dg.AssetCheckEvaluation, name: str) -> Any:
    value = evaluation.metadata.get(name)
    return None if value is None else value.value


@dataclass(frozen=True)
class OpenFailures:
    """Every open failure of a check, and the oldest record that was not settled when it was read."""

    by_window: Mapping[Window, OpenFailure]
    unsettled: int | None = None
    is_pending: bool = False
    settled: Result | None = None

    def outside(self, window: Window | None) -> "OpenFailures":
        """The same without the windows that a run over ``window`` tests; None means all windows."""
        kept = {} if window is None else {w: f for w, f in self.by_window.items() if not covers(window, w)}
        return OpenFailures(kept, self.unsettled, self.is_pending, self.settled)

    @property
    def description(self) -> str:
        """The windows, as text for messages."""
        failed = _places(f for f in self.by_window.values() if f.evaluated)
        missing = _places(f for f in self.by_window.values() if not f.evaluated)
        parts = [f"{label} {places}" for label, places in
                 (("Still failing for:", failed), ("Not evaluated for:", missing)) if places]  # fmt: skip
        return f"{'. '.join(parts)}; rerun the check on these partitions." if parts else ""

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of a result, which the next result reads."""
        spans = [
            (
                f.window.start.isoformat(),
                f.window.end.isoformat(),
                f.since.isoformat(),
                (CheckStatus.FAILED if f.evaluated else CheckStatus.NOT_EVALUATED).value,
            )
            for f in sorted(self.by_window.values(), key=lambda f: f.window.start)
        ]
        unsettled = {} if self.unsettled is None else {UNSETTLED: self.unsettled}
        return ({OPEN_WINDOWS: dg.MetadataValue.json(spans)} if spans else {}) | unsettled


_LISTED = 10
"""How many windows a message lists."""


def _places(failures: Iterable[OpenFailure]) -> str:
    windows = [window_text(f.window) for f in sorted(failures, key=lambda f: f.window.start)]
    more = len(windows) - _LISTED
    return ", ".join(windows[:_LISTED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class CheckState:
    """The state of a check for the current data.

    ``settled`` is its newest result; ``was_built`` is whether its asset was ever materialized.
    """

    key: dg.AssetCheckKey
    status: CheckStatus
    settled: Result | None
    open: tuple[OpenFailure, ...] = ()
    was_built: bool = False

    @property
    def holds(self) -> bool:
        """Whether it passed or only warned."""
        return self.status in (CheckStatus.PASSED, CheckStatus.WARNED)

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is recorded of the check or its asset."""
        return self.settled is None and not self.open and not self.was_built

    @property
    def name(self) -> str:
        """``asset:check``."""
        return f"{self.key.asset_key.to_user_string()}:{self.key.name}"

    @property
    def reason(self) -> str:
        """Why it does not hold, as text for messages; empty if it does."""
        if self.holds:
            return ""
        if self.status is CheckStatus.PENDING:
            return "not evaluated yet: the run that built the data is in progress"
        said = ""
        if self.settled is not None and not (self.settled.evaluation.passed or self.settled.warns):
            said = self.settled.evaluation.description or ""
        if self.status is CheckStatus.FAILED:
            return f"failed: {said or OpenFailures({f.window: f for f in self.open}).description}".rstrip(
                ": "
            )
        if said:
            return f"not evaluated: {said}"
        runs = ", ".join(dict.fromkeys(f.run_id for f in self.open if f.run_id))
        if not self.open:
            return "not evaluated: no run has evaluated it"
        places = _places(self.open)
        by = f"; run {runs} built it and recorded no result of the check" if runs else ""
        return f"not evaluated for {places}{by}"
