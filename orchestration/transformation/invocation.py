"""One dbt command as Dagster sees it: events as they happen, a few more tries, one clear failure.

What belongs here: from dbt's events to Dagster's. What does not: dbt's insides (``engine``). Importing
this module imports dbt and dagster-dbt.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dagster as dg
import duckdb
import yaml
from dagster_dbt import DagsterDbtTranslator
from dagster_dbt.asset_utils import get_manifest_and_translator_from_dbt_assets
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage
from dagster_dbt.dbt_manifest import validate_manifest

from orchestration.declarations import Table, load_declarations
from orchestration.lakehouse import LakehouseResource
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


class DbtEvents(Generator[DagsterEvent, None, None]):
    """Dagster's events of a command, to be asked for more of them as dagster-dbt's are.

    Row counts and column schemas are there unasked.
    """

    def __init__(self, events: Generator[DagsterEvent, None, None]) -> None:
        self._events = events

    def fetch_row_counts(self) -> Self:
        """The same events: each table's materialization has its row count."""
        return self

    def fetch_column_metadata(self, with_column_lineage: bool = False) -> Self:
        """The same events: each table's materialization has its column schema.

        Raises:
            ValueError: ``with_column_lineage``: there is none.
        """
        if with_column_lineage:
            raise ValueError("with_column_lineage: found True, expected False: no lineage of columns is made")
        return self

    def send(self, value: None, /) -> DagsterEvent:
        """The next event."""
        return self._events.send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> DagsterEvent:
        """Raise where the command is; to close is to raise GeneratorExit."""
        if isinstance(typ, type):
            typ = val if isinstance(val, BaseException) else typ()
        return self._events.throw(typ.with_traceback(tb) if tb else typ)


def _of_assets(
    context: dg.AssetExecutionContext, settings: Settings
) -> tuple[Mapping[str, Any], DagsterDbtTranslator]:
    """The manifest and the translator that a step's ``@dbt_assets`` were made with."""
    manifest, translator, project = get_manifest_and_translator_from_dbt_assets([context.assets_def])
    if project is not None and project.project_dir.resolve() != settings.dbt_project_dir.resolve():
        raise ValueError(
            f"project: found assets of the dbt project {project.project_dir}, "
            f"expected those of {settings.dbt_project_dir}, the one that the resource runs"
        )
    return manifest, translator


class DbtInvocation:
    """A dbt command to be streamed once: ``dbt.cli([...], context=context).stream()``."""

    def __init__(
        self,
        args: Sequence[str],
        settings: Settings,
        *,
        context: dg.AssetExecutionContext | dg.OpExecutionContext | None = None,
        manifest: Mapping[str, Any] | str | Path | None = None,
        translator: DagsterDbtTranslator | None = None,
        target_path: Path | None = None,
        raise_on_error: bool = True,
        keep_open: bool = False,
    ) -> None:
        if context is not None and not isinstance(context, dg.AssetExecutionContext):
            context = dg.AssetExecutionContext(op_execution_context=context)
        self._keep_open = keep_open
        self._args = list(args)
        self._settings = settings
        self._context = context
        self._manifest: Mapping[str, Any] | None = validate_manifest(manifest) if manifest else None
        self._translator = translator or DagsterDbtTranslator()
        if context is not None and self._manifest is None:
            self._manifest, self._translator = _of_assets(context, settings)
        self._raise_on_error = raise_on_error
        self._nodes = selected_nodes(context) if context is not None else None
        given = self._args[self._args.index("--vars") + 1] if "--vars" in self._args else "{}"
        self._told = {name: value for name, value in yaml.safe_load(given).items() if name in TOLD_VARIABLES}
        self._error: str | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._has_started = False
        self._kept: list[DagsterEvent] = []
        run_id = context.run_id if context is not None else f"by_hand_{time.time_ns()}"
        step = context.op_execution_context.op_handle.name if context is not None else self._args[0]
        self.target_path: Path = record_dir(settings, run_id, step, target_path)
        """The folder of what the command leaves: its log, results and compiled SQL."""
        self.log = context.log if context is not None else dg.get_dagster_logger()

    def stream(self) -> DbtEvents:
        """Dagster's events, the same that dagster-dbt makes, as dbt's nodes end.

        Raises:
            DbtRunError: A node failed, or dbt did; after all events of the other nodes.
        """
        return DbtEvents(self._stream())

    def _stream(self) -> Generator[DagsterEvent, None, None]:
        yield from self._kept if self._has_started else self._run()
        if self._raise_on_error and (failure := self.get_error()) is not None:
            raise failure

    def _run(self) -> Iterator[DagsterEvent]:
        self._has_started = True
        LakehouseResource.from_settings(self._settings).prepare()
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
                    engine.write_results(results_file(self.target_path, attempt))
                    keep_compiled(target, self.target_path)
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

    def _engine(self, nodes: Sequence[str] | None, target: Path) -> Engine:
        selection = [] if nodes is None else select_args(self._known_manifest, nodes)
        flags = ["--log-level", "none", "--log-level-file", "debug", "--no-use-colors", "--no-write-json"]
        return Engine(
            [*flags, *self._args, *selection, *project_args(self._settings, target, self.target_path)],
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
        if self._manifest is None:
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
        return {"compiled_sql": dg.MetadataValue.path(compiled_path(self.target_path, node))}

    def _measure(self) -> Measure:
        """What to ask the lakehouse about a table once it is built."""
        table_of, in_full, (single, window) = self._tables(), self._in_full, self._partition

        def facts(unique_id: str, con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
            table = table_of(unique_id)
            return (
                {} if table is None else table_facts(con, table, window if single else None, in_full=in_full)
            )

        return facts

    def _tables(self) -> Callable[[str], Table | None]:
        if isinstance(self._translator, LayerTranslator):
            return self._translator.table
        return load_declarations(self._known_manifest).tables.get

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

    def wait(self) -> Self:
        """Run the command to its end; its events can be streamed then.

        Raises:
            DbtRunError: A node failed, or dbt did.
        """
        if (failure := self.get_error()) is not None and self._raise_on_error:
            raise failure
        return self

    def is_successful(self) -> bool:
        """Whether the command ends well; it is run now if it has not been streamed."""
        return self.get_error() is None

    def get_error(self) -> DbtRunError | None:
        """Why the command fails, None if it does not; it is run now if it has not been streamed."""
        if not self._has_started:
            self._kept = list(self._run())
        outcomes = list(self._outcomes.values())
        if self._error is None and not any(o.failed for o in outcomes):
            return None
        return DbtRunError(
            failure_message(outcomes, self._error),
            metadata={"dbt_log": dg.MetadataValue.path(self.target_path / "dbt.log")},
        )

    def get_artifact(self, artifact: str) -> dict[str, Any]:
        """An artifact of the command, such as ``run_results.json``."""
        content: dict[str, Any] = json.loads((self.target_path / artifact).read_bytes())
        return content
