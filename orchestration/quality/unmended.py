"""Windows whose blocking check failed and that no later run has mended.

Dagster goes by a check's newest result, whichever partition it was about: a day that passes would hide
the bad day before it, and what is built next would stand on a layer with a hole. So each result of a
blocking check carries the windows that still fail, until a run that covers them passes. What belongs
here: that list. What does not: whether a check holds on its own window (``verification``).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orchestration.partitions import Window

UNMENDED = "unmended_windows"
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


WHOLE_TABLE = Window(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def _from_metadata(metadata: Mapping[str, Any]) -> list[Window]:
    value = metadata.get(UNMENDED)
    spans: Any = value.value if isinstance(value, dg.JsonMetadataValue) else []
    return [Window(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in spans]


def _words(window: Window) -> str:
    if window == WHOLE_TABLE:
        return "the whole table"
    return f"{window.start.isoformat()} to {window.end.isoformat()}"


def unmended_elsewhere(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, window: Window | None
) -> list[Window]:
    """Windows for which the check's newest result says that it fails, but for those the run covers.

    Args:
        instance: Where the check's history is.
        check: A blocking check.
        window: The window that the run tests; None for the whole table, which covers all.
    """
    if window is None:
        return []
    records = instance.event_log_storage.get_asset_check_execution_history(check, limit=1, status=_EVALUATED)
    evaluation = records[0].evaluation if records else None
    if evaluation is None:
        return []
    return [
        held
        for held in _from_metadata(evaluation.metadata)
        if not (window.start <= held.start and held.end <= window.end)
    ]


def carry(
    result: dg.AssetCheckResult, window: Window | None, elsewhere: Iterable[Window]
) -> dg.AssetCheckResult:
    """The result with the windows that are not mended: failed as long as there is one.

    Args:
        result: What came out for ``window``.
        window: The window it is about; None for the whole table.
        elsewhere: Windows that failed before and lie outside it.
    """
    held = sorted(set(elsewhere), key=lambda w: w.start)
    own = [] if result.passed else [window or WHOLE_TABLE]
    if not held and not own:
        return result
    description = result.description
    if held:
        places = ", ".join(map(_words, held))
        description = f"{description} Not mended elsewhere: {places}; run the check there again."
    spans = [(w.start.isoformat(), w.end.isoformat()) for w in (*held, *own)]
    return result._replace(
        passed=result.passed and not held,
        severity=dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata={**(result.metadata or {}), UNMENDED: dg.MetadataValue.json(spans)},
    )
