"""Raw and quarantine assets, generated from the declared sources.

What belongs here: what Dagster sees of ingestion. What does not: how anything lands.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration.asset_specs import POOL, asset_key, spec_attributes
from orchestration.declarations import Declarations, Table
from orchestration.ingestion.contract import declared_values
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.files import FileRun, Outcome, Run, temporary_folder
from orchestration.ingestion.quarantine import COLUMNS, SCHEMA
from orchestration.ingestion.table_run import TableRun
from orchestration.ingestion.uris import find_place
from orchestration.lakehouse import LakehouseResource
from orchestration.partitions import partitions_def, run_window
from orchestration.settings import Clock, Settings

LANDS = "land_"
"""How the names of the steps begin that land a source."""

_STRICTNESS = ("public", "internal", "confidential", "personal")
# The network, a disk or the lakehouse's catalog may be back soon; an IngestFault is not tried again.
_RETRY = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def code_version(table: Table) -> str:
    """A hash of what is declared of a source: another one means it may be read differently."""
    declared = {
        "ingest": declared_values(table.ingest),
        "columns": [(c.name, c.data_type) for c in table.columns],
    }
    text = json.dumps(declared, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def raw_spec(table: Table) -> dg.AssetSpec:
    """The asset ``raw/<table>``."""
    attributes = spec_attributes(table)
    attributes["metadata"] |= {"dagster/relation_identifier": f"lake.{table.schema}.{table.name}"}
    return dg.AssetSpec(asset_key(table), code_version=code_version(table), **attributes)


def quarantine_spec(table: Table) -> dg.AssetSpec:
    """The asset ``quarantine/<table>``: what is missing from ``raw/<table>``, made in the same step."""
    strictest = max((c.classification for c in table.columns), key=_STRICTNESS.index)
    columns = [
        dg.TableColumn(
            n, t, description=text, tags={"classification": strictest if n == "raw_text" else "internal"}
        )
        for n, (t, text) in COLUMNS.items()
    ]
    return dg.AssetSpec(
        dg.AssetKey([SCHEMA, table.name]),
        deps=[asset_key(table)],
        code_version=code_version(table),
        group_name=SCHEMA,
        owners=[table.meta.owner],
        description=f"Rows of {table.name} that could not be read as declared, with line and reason.",
        kinds={"duckdb", "parquet"},
        tags={"layer": SCHEMA},
        metadata={
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "dagster/table_name": f"lake.{SCHEMA}.{table.name}",
            "dagster/relation_identifier": f"lake.{SCHEMA}.{table.name}",
            "declared_in": table.file,
        },
    )


def land_source(run: Run) -> Outcome:
    """Land what is new in a source, all of it or nothing.

    Raises:
        IngestFault: Something cannot be landed as declared.
        ConnectionError: The network, or a server on it, failed.
    """
    place = find_place(run.table.ingest, run.settings, run.declared_at)
    with temporary_folder(run.settings) as folder:
        if run.table.ingest.format == "table":
            return TableRun(run, place, folder).land()
        return FileRun(run, place, folder).land()


def _report(
    run: Run, outcome: Outcome, seconds: float, is_one_partition: bool
) -> Iterator[dg.MaterializeResult[Any]]:
    """The events of a run: counts, files and totals."""
    table, totals = run.table, outcome.totals
    if totals is None:
        raise RuntimeError(f"the landing of {table.name} counted nothing")
    files: list[dict[str, Any]] = [
        {
            "file": landing.source_uri,
            "sha256": (landing.sha256 or "")[:12],
            "landed": landing.rows,
            "removed": landing.removed,
            "unchanged": landing.unchanged,
            "quarantined": landing.quarantined,
        }
        for landing in outcome.landings
    ]
    files += [{"file": name, "sha256": sha[:12], "already_landed": True} for name, sha in outcome.unchanged]
    shared = {"snapshot": totals.snapshot, "seconds": round(seconds, 3)}
    metadata: dict[str, Any] = {
        "dagster/row_count": totals.rows,
        "rows_landed": outcome.total("rows"),
        "rows_removed": outcome.total("removed"),
        "rows_unchanged": outcome.total("unchanged"),
        "rows_quarantined": outcome.total("quarantined"),
        "files": dg.MetadataValue.json(files[:100]),
        "deliveries": len(files),
        **shared,
    }
    if run.window is not None:
        # An event of a run over many partitions is recorded for each of them: this is no count of one.
        metadata["dagster/partition_row_count" if is_one_partition else "rows_of_the_run"] = (
            totals.rows_in_window
        )
    if not outcome.landings:
        metadata["result"] = "nothing new: every delivery had landed before"
    if outcome.gone:
        metadata["files_no_longer_there"] = dg.MetadataValue.json(outcome.gone[:100])
    yield dg.MaterializeResult(asset_key=asset_key(table), metadata=metadata)
    yield dg.MaterializeResult(
        asset_key=dg.AssetKey([SCHEMA, table.name]),
        metadata={
            "dagster/row_count": totals.quarantined,
            "rows_quarantined": outcome.total("quarantined"),
            **shared,
        },
    )


def _materialize(run: Run, *, is_one_partition: bool) -> Iterator[dg.MaterializeResult[Any]]:
    started = time.monotonic()
    try:
        outcome = land_source(run)
    except IngestFault as fault:
        # Not chained to the fault: Dagster would print its text a second time, as the cause.
        raise dg.Failure(str(fault), metadata=fault.metadata, allow_retries=False) from None
    yield from _report(run, outcome, time.monotonic() - started, is_one_partition)


def _in_words(result: dg.MaterializeResult[Any]) -> str:
    """A line for the run's log."""
    path = "/".join(result.asset_key.path) if result.asset_key is not None else ""
    metadata = result.metadata or {}
    counts = [
        f"{metadata[n]:,} {n[5:]}"
        for n in ("rows_landed", "rows_removed", "rows_quarantined")
        if n in metadata
    ]
    return f"{path}: {metadata['dagster/row_count']:,} rows now; {', '.join(counts)}"


def build_raw_asset(table: Table, settings: Settings, clock: Clock) -> dg.AssetsDefinition:
    """The op that lands one source and materializes ``raw/<table>`` and ``quarantine/<table>``.

    ``raw/<table>`` can be selected alone: unreadable rows still go to quarantine, and the op logs that
    materialization too. ``quarantine/<table>`` alone is refused, as its run would land rows without the
    checks on them.
    """

    @dg.multi_asset(
        name=f"{LANDS}{table.name}",
        specs=[raw_spec(table), quarantine_spec(table)],
        partitions_def=partitions_def(table.ingest.partition, clock),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
        can_subset=True,
        retry_policy=_RETRY,
    )
    def land(
        context: dg.AssetExecutionContext, lakehouse: LakehouseResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        selected = context.selected_asset_keys
        if asset_key(table) not in selected:
            raise dg.Failure(
                f"quarantine/{table.name}: found it selected alone, expected raw/{table.name} with it: "
                "landing the source fills both",
                allow_retries=False,
            )
        run = Run(table, settings, lakehouse, context.run_id, run_window(context), clock.now())
        for result in _materialize(run, is_one_partition=context.has_partition_key):
            context.log.info(_in_words(result))
            if result.asset_key in selected:
                yield result
            else:
                _log_materialization(context, result, table.ingest.partition is not None)

    return land


def _log_materialization(
    context: dg.AssetExecutionContext, result: dg.MaterializeResult[Any], is_partitioned: bool
) -> None:
    """Record an asset that the run did not select, for each partition of the run."""
    assert result.asset_key is not None
    has_partitions = is_partitioned and (context.has_partition_key or context.has_partition_key_range)
    for partition in context.partition_keys if has_partitions else [None]:
        context.log_event(
            dg.AssetMaterialization(result.asset_key, metadata=result.metadata, partition=partition)
        )


def build_raw_assets(
    declarations: Declarations, settings: Settings, clock: Clock
) -> list[dg.AssetsDefinition]:
    """One op a declared source; resource key ``lakehouse``."""
    return [build_raw_asset(table, settings, clock) for table in declarations.sources]
