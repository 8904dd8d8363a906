"""Whether the checks of a contract hold, on a window or the whole table. Fails closed.

What belongs here: the decision for each check, exactly one, whatever happens. What does not: what it
looks like in Dagster (``results``) and how Soda is called (``soda``).
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import duckdb

from orchestration.lakehouse import describe_table
from orchestration.lakehouse.tables import Column
from orchestration.partitions import Window
from orchestration.quality import soda
from orchestration.quality.contract import Check, Contract
from orchestration.quality.declared_lake import LANDING_COLUMNS
from orchestration.quality.model import DuplicateRows, Schema
from orchestration.quality.samples import Sample

_DATABASE_ERROR = re.compile(r"[A-Z]\w+ (?:Input )?Error: .*")
_QUOTED = re.compile(r"'(?:[^']|'')*'")
_COUNTED = {
    "missing": "missing_count",
    "invalid": "invalid_count",
    "duplicate": "duplicate_count",
    "failed_rows": "failed_rows_count",
}


@dataclass(frozen=True)
class Verdict:
    """What became of one check.

    ``reason`` is given when the check could not be evaluated, or passed for want of rows; a check
    that could not be evaluated has not passed.
    """

    check: Check
    passed: bool
    evaluated: bool
    value: float | None = None
    rows_tested: int | None = None
    failed_rows: int | None = None
    reason: str = ""
    seconds: float = 0.0
    sample: Sample | None = field(default=None, repr=False)
    """Failing rows that came with the count; None when they must be asked for."""


def redacted(message: str) -> str:
    """A message without quoted texts, as a database error may quote a row's value."""
    lines = [line for line in message.split("\n\nLINE")[0].splitlines() if line.strip()]
    text = _QUOTED.sub("'***'", " ".join(line.strip() for line in lines))
    told = _DATABASE_ERROR.search(text)
    return (told[0] if told else text)[:600]


def _unevaluated(check: Check, reason: str, seconds: float = 0.0) -> Verdict:
    return Verdict(check, passed=False, evaluated=False, reason=reason, seconds=seconds)


def _schema_differences(contract: Contract, body: Schema, actual: Sequence[Column]) -> list[str]:
    """How the table's columns differ from the declared ones; types must be equal, not just alike."""
    expected = contract.target.expected
    found = {c.name: c.data_type for c in actual}
    landing = LANDING_COLUMNS if contract.target.table.layer == "raw" else {}
    differences = [f"column {name} is missing" for name in expected if name not in found]
    differences += [
        f"column {name} is {found[name]}, declared {kind}"
        for name, kind in expected.items()
        if name in found and found[name] != kind
    ]
    if not body.allow_extra_columns:
        extra = [name for name in found if name not in expected and name not in landing]
        differences += [f"column {name} is not declared" for name in extra]
    if not body.allow_other_column_order:
        declared = [name for name in expected if name in found]
        stored = [name for name in found if name in expected]
        if declared != stored:
            differences.append(f"columns are ordered {', '.join(stored)}")
    return differences


def _schema(contract: Contract, check: Check, actual: Sequence[Column]) -> Verdict:
    assert isinstance(check.body, Schema)
    differences = _schema_differences(contract, check.body, actual)
    return Verdict(
        check, passed=not differences, evaluated=True, value=len(differences), reason="; ".join(differences)
    )


def _judge(
    contract: Contract, check: Check, found: soda.Measurement | None, session: soda.Session
) -> Verdict:
    """The verdict on one check that Soda was asked about."""
    errors = "; ".join(dict.fromkeys(map(redacted, session.errors)))
    if (
        session.rows == 0
        and contract.admits_no_rows
        and (found is None or found.value is None)
        and not errors
    ):
        return Verdict(check, True, True, rows_tested=0, reason="no rows to test, which row_count allows")
    if found is None:
        return _unevaluated(check, errors or "Soda gave no result")
    if found.outcome not in {"PASSED", "WARN", "FAILED"} or found.value is None:
        return _unevaluated(check, errors or f"nothing was measured (Soda says {found.outcome})")
    if errors:
        return _unevaluated(check, errors)
    tested = found.diagnostics.get("check_rows_tested")
    counted = found.diagnostics.get(_COUNTED.get(check.type, ""))
    if counted is None and isinstance(check.body, DuplicateRows):
        counted = found.value
    value = float(found.value)
    # Both must agree: Soda's own comparison, and ours of the value it measured.
    passed = found.outcome == "PASSED" and check.threshold.admits(value)
    return Verdict(
        check,
        passed,
        evaluated=True,
        value=int(value) if value.is_integer() else value,
        rows_tested=_rows_tested(check, session, tested),
        failed_rows=None if counted is None else int(counted),
        sample=found.sample,
    )


def _rows_tested(check: Check, session: soda.Session, told: float | None) -> int | None:
    """How many rows a check looked at; unknown for a query of its own."""
    if told is not None:
        return int(told)
    return None if "query" in check.sql else session.rows


def _measure(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    checks: Sequence[Check],
    window: Window | None,
    now: datetime,
) -> list[Verdict]:
    """Verdicts on checks of one window; what went wrong together is tried again one by one."""
    if not checks:
        return []
    start = time.perf_counter()
    session = soda.verify(con, contract.target, checks, window, now)
    verdicts = [_judge(contract, c, session.measurements.get(i), session) for i, c in enumerate(checks)]
    if len(checks) > 1 and not all(v.evaluated for v in verdicts):
        return [verdict for check in checks for verdict in _measure(con, contract, [check], window, now)]
    share = (time.perf_counter() - start) / len(checks)
    return [replace(verdict, seconds=share) for verdict in verdicts]


def verify(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    checks: Sequence[Check],
    window: Window | None,
    now: datetime,
) -> list[Verdict]:
    """One verdict on each check, in the order given.

    Args:
        con: An open connection to the lakehouse.
        contract: The contract the checks are of.
        checks: The checks to evaluate.
        window: The run's window; None for a run without partitions.
        now: The platform's present instant.
    """
    table = contract.target.table
    actual = describe_table(con, table.schema, table.name)
    if not actual:
        reason = f"table {contract.target.relation} does not exist"
        return [_unevaluated(check, reason) for check in checks]
    names = {c.name for c in actual}
    verdicts: dict[str, Verdict] = {}
    windowed: list[Check] = []
    whole: list[Check] = []
    for check in checks:
        absent = sorted(check.columns - names)
        if isinstance(check.body, Schema):
            verdicts[check.name] = _schema(contract, check, actual)
        elif absent:
            reason = f"{contract.target.relation} has no column {', '.join(absent)}"
            verdicts[check.name] = _unevaluated(check, reason)
        else:
            is_whole = check.whole_table or window is None or contract.target.window_column is None
            (whole if is_whole else windowed).append(check)
    found = _measure(con, contract, windowed, window, now) + _measure(con, contract, whole, None, now)
    verdicts |= {verdict.check.name: verdict for verdict in found}
    return [verdicts[check.name] for check in checks]
