"""What a person sees while a run of the command line works.

What belongs here: turning Dagster's events into lines, and the summary at the end. What does not:
running anything. The same lines appear with and without a terminal; a terminal also gets a moving
line that says what is being worked on.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster import DagsterEventType, EventLogEntry
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from orchestration.asset_specs import SUMMARY, WITHHELD
from orchestration.dagster_ext.check_state import CheckStatus, evaluation_status

_ALWAYS_SHOWN = (CheckStatus.PASSED.value, CheckStatus.WARNED.value, CheckStatus.FAILED.value)
_OUTCOMES = (*_ALWAYS_SHOWN, CheckStatus.NOT_EVALUATED.value)
_DETAILS = ("measured", "threshold", "rows_tested", "failed_rows", "contract")


def _plain(value: Any) -> Any:
    found = getattr(value, "value", value)
    return int(found) if isinstance(found, float) and found.is_integer() else found


def _facts(evaluation: dg.AssetCheckEvaluation) -> str:
    """What the check measured, as far as it says so."""
    found = {name: _plain(evaluation.metadata[name]) for name in _DETAILS if name in evaluation.metadata}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.items())


@dataclass
class AssetLine:
    """What is known of one asset."""

    rows: int | None = None
    seconds: float = 0.0
    is_built: bool = False
    checks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_OUTCOMES, 0))


class Progress:
    """Follows one run by its events and prints what they say."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._since = time.monotonic()
        self._waiting = False
        self._step_checks: dict[dg.AssetKey, Counter[str]] = {}
        self.assets: dict[dg.AssetKey, AssetLine] = {}
        self.errors: list[str] = []
        self.blocked: list[str] = []
        self.withheld: list[str] = []
        self.evaluated: set[dg.AssetCheckKey] = set()
        self._failed_steps: list[str] = []

    @contextmanager
    def shown(self) -> Iterator["Progress"]:
        """Show the moving line while the run goes on; a no-op without a terminal."""
        if not self._console.is_terminal:
            yield self
            return
        with self._console.status("starting") as self._status:
            yield self

    def __call__(self, entry: EventLogEntry) -> None:
        """Take one event of the run in."""
        if not entry.is_dagster_event:
            self._told(entry)
            return
        event = entry.get_dagster_event()
        kind = event.event_type
        if kind == DagsterEventType.STEP_START:
            self._started(event.step_key or "")
        elif kind == DagsterEventType.ASSET_MATERIALIZATION:
            self._materialized(event.step_materialization_data.materialization)
        elif kind == DagsterEventType.ASSET_CHECK_EVALUATION:
            self._checked(event.asset_check_evaluation_data)
        elif kind == DagsterEventType.STEP_SUCCESS:
            self._ended()
        elif kind == DagsterEventType.STEP_FAILURE:
            self._ended()
            self._failed(event)
        elif kind == DagsterEventType.ENGINE_EVENT and "blocked by" in (event.message or ""):
            self._wait()
        elif kind in (DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED) and not self.errors:
            self.errors.append((event.message or "the run failed").strip())

    def _started(self, step: str) -> None:
        self._since = time.monotonic()
        self._step_checks = {}
        if self._status is not None:
            self._status.update(step)

    def _told(self, entry: EventLogEntry) -> None:
        """What a step says while it works, on the moving line."""
        if self._status is not None and entry.step_key:
            self._status.update(f"{entry.step_key}: {escape(entry.user_message)}")

    def _lap(self) -> float:
        """Seconds since this was last asked, or the step began."""
        before, self._since = self._since, time.monotonic()
        return self._since - before

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def _line(self, layer: str, name: str, text: str, style: str | None = None) -> None:
        self._print(f"  {layer:<12} {name:<30} {text}", style)

    def _wait(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._print("  another run is writing: waiting for it", "yellow")

    def _materialized(self, materialization: dg.AssetMaterialization) -> None:
        key, seconds = materialization.asset_key, self._lap()
        known = key in self.assets
        line = self.assets.setdefault(key, AssetLine())
        line.seconds += seconds
        line.is_built = True
        self._note_withheld(materialization.metadata)
        rows = _plain(materialization.metadata.get("dagster/row_count"))
        line.rows = int(rows) if rows is not None else line.rows
        # A range of partitions is one event a partition: the first says it all. An empty quarantine
        # is no news.
        if not known and (line.rows or key.path[0] != "quarantine"):
            count = "" if line.rows is None else f"{line.rows:,} rows"
            said = _plain(materialization.metadata.get(SUMMARY, ""))
            self._line(*_place(key), f"{count:>18}  {line.seconds:6.1f} s  {said}".rstrip())

    def _checked(self, evaluation: dg.AssetCheckEvaluation) -> None:
        severe = evaluation.severity == dg.AssetCheckSeverity.ERROR
        outcome = evaluation_status(evaluation).value
        self.evaluated.add(evaluation.asset_check_key)
        self._note_withheld(evaluation.metadata)
        self.assets.setdefault(evaluation.asset_key, AssetLine()).checks[outcome] += 1
        self._step_checks.setdefault(evaluation.asset_key, Counter())[outcome] += 1
        if evaluation.passed:
            return
        style = "red" if severe else "yellow"
        text = f"{outcome} {evaluation.check_name}: {evaluation.description or ''}".rstrip(": ")
        self._line(*_place(evaluation.asset_key), text, style)
        if not severe:
            return
        where = f"{'/'.join(evaluation.asset_key.path)} > Checks > {evaluation.check_name}"
        for detail in filter(None, (_facts(evaluation), f"look at: {where}")):
            self._print(" " * 45 + detail, style)
        if evaluation.blocking:
            self.blocked.append(f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}")

    def _note_withheld(self, metadata: Mapping[str, Any]) -> None:
        said = str(_plain(metadata[WITHHELD])) if WITHHELD in metadata else ""
        if said and said not in self.withheld:
            self.withheld.append(said)

    def _ended(self) -> None:
        """Print how the checks of the step went."""
        if not self._step_checks:
            return
        totals: Counter[str] = sum(self._step_checks.values(), Counter())
        text = ", ".join(f"{totals[outcome]} {outcome}" for outcome in _OUTCOMES if totals[outcome])
        keys = list(self._step_checks)
        layer, name = _place(keys[0])
        if len(keys) > 1:
            name = f"{len(keys)} tables"
        style = (
            "red"
            if totals["failed"] or totals[CheckStatus.NOT_EVALUATED.value]
            else "yellow"
            if totals["warned"]
            else None
        )
        self._line(layer, name, f"{'checks':>18}  {self._lap():6.1f} s  {text}", style)

    def _failed(self, event: dg.DagsterEvent) -> None:
        error, said = event.step_failure_data.error, event.step_failure_data.user_failure_data
        if error is None or error.cls_name == "DagsterAssetCheckFailedError":
            return
        description = said.description if said is not None else None
        text = (description or (error.cause or error).message or "the step failed").strip()
        self.errors.append(f"{event.step_key}: {text}")
        self._failed_steps.append(event.step_key or "")
        self._print(f"  {event.step_key} failed: {text}", "red")

    def why_failed(self) -> list[str]:
        """One line for each cause of the failure; an error that is already printed is only named."""
        steps = [f"{step} failed: its error is printed above" for step in self._failed_steps]
        return [*(f"blocked by {name}" for name in self.blocked), *(steps or self.errors)]

    def summary(self) -> str:
        """The table at the end, as plain text: one line a layer."""
        layers: dict[str, list[AssetLine]] = {}
        for key, line in self.assets.items():
            layers.setdefault(key.path[0], []).append(line)
        table = Table(box=None, pad_edge=False)
        table.add_column("layer")
        found = [line.checks for line in self.assets.values()]
        shown = [o for o in _OUTCOMES if o in _ALWAYS_SHOWN or any(checks[o] for checks in found)]
        checks = (f"checks {o}" if o == CheckStatus.PASSED.value else o for o in shown)
        for name in ("assets", "rows", *checks, "seconds"):
            table.add_column(name, justify="right")
        for layer, lines in layers.items():
            table.add_row(layer, *_totals(lines, shown))
        table.add_row("all", *_totals(list(self.assets.values()), shown))
        console = Console(width=100, color_system=None)
        with console.capture() as captured:
            console.print(table)
        return captured.get().rstrip()


def _place(key: dg.AssetKey) -> tuple[str, str]:
    """Layer and name."""
    return key.path[0], "/".join(key.path[1:])


def _totals(lines: list[AssetLine], shown: Sequence[str]) -> list[str]:
    return [
        str(len(lines)),
        f"{sum(line.rows or 0 for line in lines):,}",
        *(str(sum(line.checks[outcome] for line in lines)) for outcome in shown),
        f"{sum(line.seconds for line in lines):.1f}",
    ]
