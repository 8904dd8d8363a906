"""How a check and its verdict look in Dagster.

What belongs here: names, descriptions, severity, metadata of specs and results. What does not: the
decision whether a check holds (``verification``).
"""

import warnings
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from orchestration.asset_specs import asset_key
from orchestration.dagster_ext.check_state import (
    EVALUATED,
    MATERIALIZED_UNTIL,
    TESTED_WINDOW,
    WHOLE_TABLE,
    OpenFailure,
    OpenFailures,
)
from orchestration.partitions import Window
from orchestration.quality.contract import Check, Contract
from orchestration.quality.model import Schema
from orchestration.quality.samples import fetch_sample
from orchestration.quality.statements import failed_rows_sql, measuring_sql, referenced_tables
from orchestration.quality.verification import Verdict, redacted

HIDDEN = "hidden: it may tell a classified value"


@cache
def code_reference(path: Path, file: str, line: int) -> dg.CodeReferencesMetadataValue:
    """Where a check is written, for the UI's link."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=f"{file}:{line}")
        return dg.CodeReferencesMetadataValue(code_references=[reference])


def check_spec(contract: Contract, check: Check) -> dg.AssetCheckSpec:
    """The Dagster check of a contract's check."""
    table = contract.target.table
    own = (table.schema, table.name)
    others = sorted(key for key in referenced_tables(check) if key != own)
    return dg.AssetCheckSpec(
        name=check.name,
        asset=asset_key(table),
        description=check.description,
        blocking=check.blocking,
        additional_deps=[dg.AssetKey([schema, name]) for schema, name in others],
        metadata={
            "dimension": check.dimension,
            "severity": "WARN" if check.warns else "ERROR",
            "threshold": check.expected,
            "contract": f"{contract.file}:{check.line}",
            "dagster/code_references": code_reference(contract.path, contract.file, check.line),
        },
    )


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _sentence(check: Check, verdict: Verdict) -> str:
    """What came out, in plain words."""
    if not verdict.evaluated:
        effect = "" if check.warns else ", so failed"
        return f"Not evaluated{effect}: {verdict.reason}."
    if verdict.value is None:
        return f"Passed: {verdict.reason}."
    if isinstance(check.body, Schema):
        return f"Differs from the declaration: {verdict.reason}." if verdict.reason else "As declared."
    shown = _number(verdict.value) if check.value_is_plain else "(hidden)"
    of = ""
    if verdict.rows_tested is not None and check.type not in {"row_count", "freshness"}:
        of = f" in {_number(verdict.rows_tested)} rows tested"
    measures = f"{check.measures[:1].upper()}{check.measures[1:]}"
    return f"{measures}: {shown}{of}; expected {check.expected}."


def check_result(
    con: duckdb.DuckDBPyConnection | None,
    contract: Contract,
    verdict: Verdict,
    window: Window | None,
    materialized_until: int = 0,
) -> dg.AssetCheckResult:
    """The Dagster result of a verdict, with a sample of failing rows if there are any.

    Args:
        con: An open connection to the lakehouse, to fetch the sample; None for no sample.
        contract: The contract of the check.
        verdict: What became of it.
        window: The run's window.
        materialized_until: Id of the newest materialization that was recorded before the check read.
    """
    check, target = verdict.check, contract.target
    scope = None if check.whole_table or target.window_column is None else window
    failing = failed_rows_sql(target, check, scope)
    metadata: dict[str, Any] = {
        "dimension": check.dimension,
        "level": check.threshold.level,
        "threshold": check.expected,
        EVALUATED: verdict.evaluated,
        MATERIALIZED_UNTIL: materialized_until,
        TESTED_WINDOW: "whole table"
        if scope is None
        else f"{scope.start.isoformat()} to {scope.end.isoformat()}",
        "contract": f"{contract.file}:{check.line}",
        "contract_sha256": contract.sha256,
        "dagster/code_references": code_reference(contract.path, contract.file, check.line),
        "seconds": round(verdict.seconds, 6),
    }
    if verdict.value is not None:
        plain = check.value_is_plain
        metadata["measured"] = dg.MetadataValue.float(float(verdict.value)) if plain else HIDDEN
    if verdict.rows_tested is not None:
        metadata["rows_tested"] = verdict.rows_tested
    if verdict.failed_rows is not None:
        metadata["failed_rows"] = verdict.failed_rows
    if verdict.reason:
        metadata["reason"] = verdict.reason
    sql = failing or measuring_sql(target, check, scope)
    key = "failed_rows_sql" if failing is not None else "measured_by_sql"
    metadata[key] = dg.MetadataValue.md(f"```sql\n{sql};\n```")
    if con is not None and failing is not None and verdict.evaluated and not verdict.passed:
        try:
            rows = verdict.sample if verdict.sample is not None else fetch_sample(con, failing)
        except duckdb.Error as error:
            metadata["failed_rows_sample"] = f"cannot be read: {redacted(str(error))}"
        else:
            if (table := rows.shown(check.shown)) is not None:
                metadata["failed_rows_sample"] = table
    return dg.AssetCheckResult(
        passed=verdict.passed,
        check_name=check.name,
        asset_key=asset_key(target.table),
        severity=dg.AssetCheckSeverity.WARN if check.warns else dg.AssetCheckSeverity.ERROR,
        description=_sentence(check, verdict),
        metadata=metadata,
    )


def with_open_failures(
    result: dg.AssetCheckResult, window: Window | None, failures: OpenFailures
) -> dg.AssetCheckResult:
    """Add the windows that still fail to the result, which fails as long as there is one.

    Dagster and its UI use the newest result of a check, whichever window it is about.

    Args:
        result: The result for ``window``.
        window: The tested window; None for the whole table.
        failures: The open failures before the run.
    """
    elsewhere = failures.outside(window)
    found = dict(elsewhere.by_window)
    if not result.passed:
        own = window or WHOLE_TABLE
        found[own] = OpenFailure(own, datetime.now(UTC), bool((result.metadata or {}).get(EVALUATED, True)))
    metadata = OpenFailures(found, elsewhere.unsettled).metadata
    if not metadata:
        return result
    description = result.description
    if elsewhere.by_window:
        description = f"{description} {elsewhere.description}"
    return result._replace(
        passed=result.passed and not elsewhere.by_window,
        severity=dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata={**(result.metadata or {}), **metadata},
    )
