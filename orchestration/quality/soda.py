"""Soda itself: one contract in, one measurement a check out, and nothing left behind.

What belongs here: Soda's contract text, its session, its logs, and the guards around its global state.
What does not: deciding what a measurement means for a check (``verification``).

Soda is imported on the first verification, as the import takes about a second.
"""

import contextvars
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from orchestration.lakehouse import LAKE
from orchestration.partitions import Window
from orchestration.quality.contract import Check
from orchestration.quality.declared_lake import DeclaredTable
from orchestration.quality.model import DuplicateRows, Invalid
from orchestration.quality.samples import Sample, SamplingConnection
from orchestration.quality.statements import duplicates_sql, filters, in_window, wrapped

_LOCK = threading.Lock()
"""Soda keeps state in modules (its logs, its environment): one verification at a time in a process."""

_OURS = {"name", "qualifier", "attributes"}


@dataclass(frozen=True)
class Measurement:
    """What Soda says of one check."""

    outcome: str
    value: float | None
    diagnostics: Mapping[str, Any]
    sample: Sample | None = None


@dataclass(frozen=True)
class Session:
    """What Soda says of one contract: a measurement for each check it answered, and its errors."""

    measurements: Mapping[int, Measurement]
    rows: int | None
    errors: tuple[str, ...]


def _check_text(target: DeclaredTable, check: Check, index: int, window: Window | None) -> dict[str, Any]:
    """A check as Soda reads it; the qualifier makes its identity its place in the list."""
    body = check.body
    if isinstance(body, DuplicateRows):
        # Soda's own way hashes a text of all columns: 2.5 times slower than grouping by them.
        groups = duplicates_sql(target, list(body.columns), filters(check, window), window)
        threshold = check.threshold.model_dump(exclude_none=True)
        query = f"select coalesce(sum(copies - 1), 0) from ({groups})"
        return {"metric": {"query": query, "threshold": threshold, "qualifier": f"c{index}"}}
    # Only what the author wrote: Soda has the same defaults, and is slow to read a key.
    keys = body.model_dump(exclude_defaults=True, mode="json", exclude=_OURS)
    keys["qualifier"] = f"c{index}"
    for key, part in check.sql.items():
        text = in_window(part, window)
        keys[key] = text if key.endswith("query") else wrapped(text)
    if isinstance(body, Invalid) and body.valid_reference_data is not None:
        keys["valid_reference_data"]["dataset"] = f"{LAKE}/{body.valid_reference_data.dataset}"
    return {check.type: keys}


def contract_text(target: DeclaredTable, checks: Sequence[Check], window: Window | None) -> str:
    """The Soda contract (JSON is YAML) that measures some checks of a table, of a window or whole.

    The data set is named with its catalog, so that no other attached database can stand in for it.
    """
    columns: dict[str, list[dict[str, Any]]] = {}
    table_checks: list[dict[str, Any]] = []
    for index, check in enumerate(checks):
        text = _check_text(target, check, index, window)
        (table_checks if check.column is None else columns.setdefault(check.column, [])).append(text)
    contract: dict[str, Any] = {
        "dataset": "/".join((LAKE, LAKE, target.table.schema, target.table.name)),
        "columns": [{"name": name, "checks": found} for name, found in columns.items()],
    }
    if window is not None and target.window_column is not None:
        contract["filter"] = target.window_column.predicate(window)
    if table_checks:
        contract["checks"] = table_checks
    return json.dumps(contract, ensure_ascii=False)


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _contained() -> Iterator[list[str]]:
    """Soda's traces, kept inside: its errors collected, its log handler and environment taken back.

    Its log lines do not reach the console: an error of the database may quote a row's value.
    """
    soda = logging.getLogger("soda")
    handler = _Errors()
    propagate, before = soda.propagate, list(logging.root.handlers)
    disabled = os.environ.get("PYTHON_DOTENV_DISABLED")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    soda.addHandler(handler)
    soda.propagate = False
    try:
        yield handler.messages
    finally:
        soda.propagate = propagate
        soda.removeHandler(handler)
        if disabled is None:
            del os.environ["PYTHON_DOTENV_DISABLED"]
        else:
            os.environ["PYTHON_DOTENV_DISABLED"] = disabled
        for left in [h for h in logging.root.handlers if h not in before]:
            if type(left).__module__.startswith("soda_core"):
                logging.root.removeHandler(left)


def import_soda() -> None:
    """Import Soda, which the first verification does otherwise; half a second."""
    with _LOCK, _contained():
        from soda_core.contracts import contract_verification  # noqa: F401, PLC0415
        from soda_duckdb.common.data_sources import duckdb_data_source  # noqa: F401, PLC0415


def _verify(con: SamplingConnection, text: str, now: datetime) -> tuple[Any, list[str]]:
    with _contained() as errors:
        from soda_core.common.yaml import ContractYamlSource  # noqa: PLC0415
        from soda_core.contracts.contract_verification import ContractVerificationSession  # noqa: PLC0415
        from soda_duckdb.common.data_sources.duckdb_data_source import (  # noqa: PLC0415
            DuckDBDataSourceConnectionWrapper,
            DuckDBDataSourceImpl,
        )

        source = DuckDBDataSourceImpl.from_existing_cursor(con.plain, name=LAKE)
        source.data_source_connection.connection = DuckDBDataSourceConnectionWrapper(con)
        try:
            session = ContractVerificationSession.execute(
                contract_yaml_sources=[ContractYamlSource.from_str(text)],
                data_source_impls=[source],
                data_timestamp=now.isoformat(),
            )
        except Exception as error:  # noqa: BLE001 - whatever Soda raises is a check not evaluated
            return None, [*errors, f"{type(error).__name__}: {error}"]
        return session, errors


def verify(
    con: duckdb.DuckDBPyConnection,
    target: DeclaredTable,
    checks: Sequence[Check],
    window: Window | None,
    now: datetime,
) -> Session:
    """Let Soda measure some checks of one table.

    Args:
        con: An open connection to the lakehouse; stays open.
        target: The table.
        checks: The checks; schema checks are none of Soda's business.
        window: Only the rows of this window; None for all rows.
        now: The platform's present instant, for freshness.
    """
    text = contract_text(target, checks, window)
    sampling = SamplingConnection(con)
    with _LOCK:
        session, errors = contextvars.copy_context().run(_verify, sampling, text, now)
    measurements: dict[int, Measurement] = {}
    rows = None
    for result in session.contract_verification_results if session is not None else ():
        for found in result.check_results:
            diagnostics = dict(found.diagnostic_metric_values or {})
            rows = diagnostics.get("dataset_rows_tested", rows)
            index = int(found.check.qualifier[1:])
            query = checks[index].sql.get("query")
            sample = None if query is None else sampling.samples.get(in_window(query, window).strip())
            measurements[index] = Measurement(found.outcome.name, found.threshold_value, diagnostics, sample)
    return Session(measurements, rows, tuple(errors))
