"""dbt inside this process: one invocation at a time, its events as they happen, nothing left behind.

What belongs here: everything that touches dbt's insides and its process-wide state. What does not:
what an event means to Dagster (``invocation`` decides). Importing this module imports dbt, about
two seconds: only code that is about to run dbt does so.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.factory import FACTORY
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt.contracts.graph.manifest import Manifest
from dbt_common.events.event_manager_client import cleanup_event_logger
from dbt_common.events.functions import env_scrubber, msg_to_dict

from orchestration.transformation.environment import applied
from orchestration.transformation.outcomes import Outcome

RESULT_EVENTS = frozenset({"LogModelResult", "LogSeedResult", "LogTestResult"})
_START_EVENT = "LogStartLine"
_TOLD_LEVELS = frozenset({"info", "warn", "error"})
_ONE_AT_A_TIME = threading.Lock()


class StoppedError(Exception):
    """Raised inside dbt, at the start of a node, once the invocation is to stop."""


@dataclass(frozen=True)
class LogLine:
    """A line dbt wrote for people: level ``info``, ``warn`` or ``error``."""

    level: str
    text: str


Measure = Callable[[str, duckdb.DuckDBPyConnection], dict[str, Any]]
"""Facts of a node that has just been built, by its id and a cursor on what dbt has attached."""


@dataclass(frozen=True)
class NodeResult:
    """The end of one node, as the structured event of dbt's JSON log, and what was measured of it."""

    event: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    fault: duckdb.Error | None = None

    @property
    def unique_id(self) -> str:
        """The node."""
        return str(self.event["data"]["node_info"]["unique_id"])

    @property
    def status(self) -> str:
        """``success``, ``pass``, ``warn``, ``fail``, ``error`` or ``skipped``."""
        return str(self.event["data"]["node_info"]["node_status"])


class Engine:
    """One dbt invocation, as a context manager around its stream of events.

    dbt keeps its flags, adapters, loggers and working directory in globals of the process: a lock
    lets one invocation run at a time, and leaving the context puts everything back. Leaving before
    the end (an interrupt, a closed generator) interrupts the running query, which rolls its
    transaction back, and lets no further node start. ``keep_open`` leaves DuckDB to the next invocation,
    as opening it takes 0.3 seconds; whoever asks for it calls ``close_lakehouse`` in the end.
    """

    def __init__(
        self,
        args: Sequence[str],
        environment: Mapping[str, str],
        manifest: Manifest | None = None,
        measure: Measure | None = None,
        *,
        keep_open: bool = False,
    ) -> None:
        self._measure = measure
        self._keep_open = keep_open
        self._args = list(args)
        self._environment = applied(environment)
        self._manifest = manifest
        self._queue: queue.SimpleQueue[LogLine | NodeResult | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dbt", daemon=True)
        self._result: dbtRunnerResult | None = None
        self.error: str | None = None
        """What ended the invocation as a whole, such as a project that cannot be parsed."""
        self.outcomes: list[Outcome] = []
        """How each node ended."""

    def __enter__(self) -> Self:
        _ONE_AT_A_TIME.acquire()
        self._folder = os.getcwd()
        self._environment.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop()
        finally:
            _release(keep_open=self._keep_open and kind is None)
            os.chdir(self._folder)
            self._environment.__exit__(kind, error, trace)
            _ONE_AT_A_TIME.release()

    def _run(self) -> None:
        try:
            self._result = dbtRunner(self._manifest, callbacks=[self._hear]).invoke(self._args)
            self.error = _error(self._result)
            self.outcomes = _outcomes(self._result)
        finally:
            self._queue.put(None)

    def _hear(self, message: Any) -> None:
        name, level = message.info.name, message.info.level
        if name == _START_EVENT and self._stopping.is_set():
            raise StoppedError("the run was stopped")
        if level in _TOLD_LEVELS and message.info.msg.strip():
            self._queue.put(LogLine(level, env_scrubber(message.info.msg)))
        if name in RESULT_EVENTS:
            self._queue.put(self._measured(NodeResult(msg_to_dict(message))))

    def _measured(self, result: NodeResult) -> NodeResult:
        """The result with its facts, measured in dbt's own thread before its next node begins.

        Not beside it: DuckLake 1.5 keeps what a transaction knows of the schema in a cache of the whole
        DuckDB, and a question from another thread can take it away from under the transaction.
        """
        environment = DuckDBConnectionManager._ENV
        if self._measure is None or result.status != "success" or environment is None or not environment.conn:
            return result
        try:
            with environment.conn.cursor() as cursor:
                return replace(result, facts=self._measure(result.unique_id, cursor))
        except duckdb.Error as error:
            return replace(result, fault=error)  # raised where the result is read, not inside dbt

    def _stop(self) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            for adapter in list(FACTORY.adapters.values()):
                try:
                    adapter.cancel_open_connections()
                except duckdb.Error:
                    continue  # closed in this very moment
            self._thread.join(0.05)

    def events(self) -> Iterator[LogLine | NodeResult]:
        """What dbt says, as it says it, until it has ended."""
        while (item := self._queue.get()) is not None:
            yield item
        self._thread.join()

    @property
    def succeeded(self) -> bool:
        """Whether dbt ended well."""
        return self._result is not None and bool(self._result.success)

    def write_results(self, path: Path) -> None:
        """Write dbt's ``run_results.json``; nothing for a command that ran no node.

        dbt itself would write the whole manifest beside it, a tenth of a second each time.
        """
        write = getattr(self._result and self._result.result, "write", None)
        if write is not None and self.outcomes:
            write(str(path))

    @property
    def compiled(self) -> dict[str, str]:
        """The SQL of each node that was compiled, by unique id."""
        results = getattr(self._result and self._result.result, "results", ())
        return {r.node.unique_id: getattr(r.node, "compiled_code", None) or "" for r in results}

    @property
    def parsed(self) -> Manifest:
        """What ``dbt parse`` has made.

        Raises:
            LookupError: The invocation was another command, or failed.
        """
        if self._result is None or not isinstance(self._result.result, Manifest):
            raise LookupError(f"dbt {self._args[:1]} made no manifest: {self.error}")
        return self._result.result


def _error(result: dbtRunnerResult) -> str | None:
    if result.exception is None:
        return None
    return str(env_scrubber(str(result.exception) or type(result.exception).__name__))


def _outcomes(result: dbtRunnerResult) -> list[Outcome]:
    return [
        Outcome(r.node.unique_id, str(r.status), env_scrubber(r.message or ""), r.node.original_file_path)
        for r in getattr(result.result, "results", ())
    ]


def close_lakehouse() -> None:
    """Close the DuckDB that dbt works in, if one is open."""
    environment = DuckDBConnectionManager._ENV
    if environment is not None:
        environment.close()
        DuckDBConnectionManager.close_all_connections()


def _release(*, keep_open: bool) -> None:
    """Close what dbt leaves open after an invocation: connections, log files and, unless kept, DuckDB."""
    FACTORY.reset_adapters()
    if not keep_open:
        close_lakehouse()
    cleanup_event_logger()
    for name in ("file_log", "stdout_log"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            handler.close()
            logger.removeHandler(handler)
