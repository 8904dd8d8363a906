"""One dbt command as Dagster sees it: events as they happen, a few more tries, one clear failure.

What belongs here: from dbt's events to Dagster's. What does not: dbt's insides (``engine``). Importing
this module imports dbt and dagster-dbt.
"""

import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import yaml
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from orchestration.partitions import Window, run_window
from orchestration.settings import Settings
from orchestration.transformation.engine import Engine, LogLine, Measure, NodeResult
from orchestration.transformation.environment import dbt_environment
from orchestration.transformation.facts import compiled_path, compiled_sql, table_facts
from orchestration.transformation.manifest import executable_manifest, project_args
from orchestration.transformation.outcomes import Outcome, failure_message, is_conflict, to_repeat
from orchestration.transformation.records import keep_compiled, record_dir, results_file, target_dir
from orchestration.transformation.selection import TOLD_VARIABLES, select_args, selected_nodes
from orchestration.transformation.translator import LayerTranslator

DagsterEvent = (
    dg.Output[Any]
    | dg.AssetMaterialization
    | dg.AssetObservation
    | dg.AssetCheckResult
    | dg.AssetCheckEvaluation
)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class DbtRunError(dg.Failure):
    """A dbt command that failed; the message has every failed node, its file and dbt's own words."""


class DbtInvocation:
    """A dbt command to be streamed once: ``dbt.cli([...], context=context).stream()``."""

    def __init__(
        self,
        args: Sequence[str],
        settings: Settings,
        *,
        context: dg.AssetExecutionContext | None = None,
        manifest: Mapping[str, Any] | None = None,
        translator: LayerTranslator | None = None,
        raise_on_error: bool = True,
        keep_open: bool = False,
    ) -> None:
        self._keep_open = keep_open
        self._args = list(args)
        self._settings = settings
        self._context = context
        self._manifest = manifest
        self._translator = translator
        self._raise_on_error = raise_on_error
        self._nodes = selected_nodes(context) if context is not None else None
        given = self._args[self._args.index("--vars") + 1] if "--vars" in self._args else "{}"
        self._told = {name: value for name, value in yaml.safe_load(given).items() if name in TOLD_VARIABLES}
        self._error: str | None = None
        self._outcomes: dict[str, Outcome] = {}
        run_id = context.run_id if context is not None else f"by_hand_{time.time_ns()}"
        step = context.op_execution_context.op_handle.name if context is not None else self._args[0]
        self.records: Path = record_dir(settings, run_id, step)
        self.log = context.log if context is not None else dg.get_dagster_logger()

    def stream(self) -> Iterator[DagsterEvent]:
        """Dagster's events, the same that dagster-dbt makes, as dbt's nodes end.

        Raises:
            DbtRunError: A node failed, or dbt did; after all events of the other nodes.
        """
        nodes = self._nodes
        deadline = time.monotonic() + self._settings.lake_lock_timeout_seconds
        pause, attempt = _FIRST_PAUSE, 1
        with target_dir(self._settings) as target:
            while True:
                held: list[NodeResult] = []
                engine = self._engine(nodes, target)
                try:
                    with engine:
                        yield from self._events(engine, target, held)
                finally:
                    engine.write_results(results_file(self.records, attempt))
                    keep_compiled(target, self.records)
                again = self._to_repeat(engine, nodes) if time.monotonic() + pause < deadline else []
                for result in held:
                    if result.unique_id not in again:
                        yield from self._convert(result, target)
                self._error = engine.error
                self._outcomes |= {o.unique_id: o for o in engine.outcomes}
                if not again:
                    break
                self.log.warning(f"another writer was in the way; running {len(again)} dbt nodes again")
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause, attempt, nodes = min(pause * 2, _LONGEST_PAUSE), attempt + 1, again
        if self._raise_on_error and (failure := self.get_error()) is not None:
            raise failure

    def _engine(self, nodes: Sequence[str] | None, target: Path) -> Engine:
        selection = [] if nodes is None else select_args(self._known_manifest, nodes)
        flags = ["--log-level", "none", "--log-level-file", "debug", "--no-use-colors", "--no-write-json"]
        return Engine(
            [*flags, *self._args, *selection, *project_args(self._settings, target, self.records)],
            dbt_environment(self._settings),
            executable_manifest(self._settings),
            self._measure() if self._context is not None else None,
            keep_open=self._keep_open,
        )

    @property
    def _known_manifest(self) -> Mapping[str, Any]:
        if self._manifest is None:
            raise ValueError("a dbt command with a context needs the manifest its assets were made from")
        return self._manifest

    def _events(self, engine: Engine, target: Path, held: list[NodeResult]) -> Iterator[DagsterEvent]:
        for item in engine.events():
            if isinstance(item, LogLine):
                self._tell(item)
            elif item.status == "error":
                held.append(item)  # told once it is clear that it is not run again
            else:
                yield from self._convert(item, target)

    def _tell(self, line: LogLine) -> None:
        if line.level == "warn":
            self.log.warning(line.text)
        elif line.level == "error":
            self.log.error(line.text)
        else:
            sys.stdout.write(line.text + "\n")
            sys.stdout.flush()

    def _to_repeat(self, engine: Engine, nodes: Sequence[str] | None) -> list[str]:
        if nodes is None:
            return []
        if engine.error is not None:
            return list(nodes) if is_conflict(engine.error) else []
        return to_repeat(self._known_manifest, engine.outcomes)

    def _convert(self, result: NodeResult, target: Path) -> Iterator[DagsterEvent]:
        if self._manifest is None or self._translator is None:
            return
        if result.fault is not None:
            raise result.fault
        message = DbtCoreCliEventMessage(raw_event=result.event, event_history_metadata={})
        for event in message.to_default_asset_events(
            self._manifest, self._translator, self._context, target_path=target
        ):
            facts = self._sql(result.unique_id, target) | self._told | result.facts
            yield event.with_metadata({**event.metadata, **facts})

    def _sql(self, unique_id: str, target: Path) -> dict[str, Any]:
        """The SQL that ran; its path where a run writes an event for each of many partitions."""
        node = self._known_manifest["nodes"][unique_id]
        if self._in_full:
            return compiled_sql(target, node)
        return {"compiled_sql": dg.MetadataValue.path(compiled_path(self.records, node))}

    def _measure(self) -> Measure:
        """What to ask the lakehouse about a table once it is built."""
        translator, in_full, (single, window) = self._translator, self._in_full, self._partition

        def facts(unique_id: str, con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
            table = translator.table(unique_id) if translator is not None else None
            return (
                {} if table is None else table_facts(con, table, window if single else None, in_full=in_full)
            )

        return facts

    @property
    def _in_full(self) -> bool:
        single, window = self._partition
        return single or window is None

    @property
    def _partition(self) -> tuple[bool, Window | None]:
        """Whether the run is of one partition, and its window."""
        if self._context is None:
            return False, None
        window = run_window(self._context)
        op = self._context.op_execution_context
        return window is not None and op.partition_key_range.start == op.partition_key_range.end, window

    def wait(self) -> "DbtInvocation":
        """Run the command to its end, events unseen."""
        for _ in self.stream():
            pass
        return self

    def is_successful(self) -> bool:
        """Whether the command, once streamed, ended well."""
        return self.get_error() is None

    def get_error(self) -> DbtRunError | None:
        """Why the command, once streamed, failed; None when it did not."""
        outcomes = list(self._outcomes.values())
        if self._error is None and not any(o.failed for o in outcomes):
            return None
        return DbtRunError(
            failure_message(outcomes, self._error),
            metadata={"dbt_log": dg.MetadataValue.path(self.records / "dbt.log")},
        )

    def get_artifact(self, artifact: str) -> dict[str, Any]:
        """An artifact of the command, such as ``run_results.json``."""
        content: dict[str, Any] = json.loads((self.records / artifact).read_bytes())
        return content
