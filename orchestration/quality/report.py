"""The quality report asset: scores by table and dimension, now and over time.

What belongs here: the asset and its tables in words. What does not: the history (``history``) and the
picture (``plot``).
"""

from collections.abc import Sequence

import dagster as dg

from orchestration.asset_specs import POOL, asset_key
from orchestration.lakehouse import LakehouseResource, retry_on_conflict
from orchestration.pictures import as_markdown_image
from orchestration.quality.contract import Contract
from orchestration.quality.history import (
    HISTORY,
    Failing,
    Score,
    append,
    check_keys,
    check_levels,
    check_states,
    failing,
    known_evaluations,
    new_evaluations,
    scores,
)
from orchestration.quality.plot import percent, scores_png
from orchestration.settings import Clock, Settings

REPORT_KEY = dg.AssetKey(["quality", "quality_report"])
POINTS = 40
"""Of how many runs the report tells."""

DIMENSIONS = (
    "completeness",
    "validity",
    "uniqueness",
    "consistency",
    "timeliness",
    "accuracy",
    "representation",
)


def _cell(found: Sequence[Score]) -> str:
    if not found:
        return ""
    value = percent(found)
    return "100" if value == 100 else f"**{value:.1f}**"


def scores_table(found: Sequence[Score], contracts: Sequence[Contract]) -> str:
    """The newest scores as a markdown table: a row a table, a column a dimension."""
    if not found:
        return "No check has been evaluated yet."
    newest = max(score.at for score in found)
    now = [score for score in found if score.at == newest]
    lines = [
        "| table | " + " | ".join(DIMENSIONS) + " | **score** | checks |",
        "|:--|" + "--:|" * (len(DIMENSIONS) + 2),
    ]
    for contract in contracts:
        table = contract.target.table
        own = [s for s in now if (s.layer, s.table) == (table.layer, table.name)]
        cells = [_cell([s for s in own if s.dimension == name]) for name in DIMENSIONS]
        lines.append(
            f"| {table.layer}/{table.name} | {' | '.join(cells)} | {_cell(own)} | {len(contract.checks)} |"
        )
    cells = [_cell([s for s in now if s.dimension == name]) for name in DIMENSIONS]
    total = sum(len(c.checks) for c in contracts)
    lines.append(f"| **all** | {' | '.join(cells)} | {_cell(now)} | {total} |")
    return "\n".join(lines)


def failing_table(found: Sequence[Failing]) -> str:
    """The checks that do not hold now, as a markdown table."""
    if not found:
        return "Every check holds."
    lines = ["| table | check | effect | since (UTC) | measured | rows tested |", "|:--|:--|:--|:--|--:|--:|"]
    for one in found:
        effect = "not evaluated" if not one.evaluated else "warns" if one.level == "warn" else "fails"
        measured = "" if one.measured is None else f"{one.measured:,.6g}"
        tested = "" if one.rows_tested is None else f"{one.rows_tested:,}"
        lines.append(
            f"| {one.layer}/{one.table} | {one.check} | {effect} | {one.since:%Y-%m-%d %H:%M} "
            f"| {measured} | {tested} |"
        )
    return "\n".join(lines)


def build_quality_report(
    contracts: Sequence[Contract], settings: Settings, clock: Clock, *, owner: str = "team:platform"
) -> dg.AssetsDefinition:
    """The asset ``quality/quality_report``, downstream of every checked table.

    Each run takes the evaluations that are new in Dagster's event log into the lakehouse, so it
    costs what is new, not what there ever was; run twice, it adds nothing.
    """

    @dg.asset(
        key=REPORT_KEY,
        deps=[asset_key(contract.target.table) for contract in contracts],
        group_name="quality",
        owners=[owner],
        kinds={"soda", "duckdb"},
        tags={"layer": "quality"},
        pool=POOL,
        description=(
            "How good each table is, by quality dimension: the share of its contract's checks that pass, "
            f"a check that warns counting half. Keeps every evaluation in {HISTORY}."
        ),
        metadata={"dagster/table_name": HISTORY},
    )
    def quality_report(
        context: dg.AssetExecutionContext, lakehouse: LakehouseResource
    ) -> dg.MaterializeResult[None]:
        with lakehouse.get_connection() as con:
            known = known_evaluations(con)
            fresh = list(new_evaluations(context.instance, check_keys(contracts), known))
            added = retry_on_conflict(lambda: append(con, fresh), settings.lake_lock_timeout_seconds)
            found = scores(con, contracts, POINTS)
            states = check_states(context.instance, contracts, context.run_id)
            broken = failing(con, states, check_levels(contracts))
            rows = con.execute(f"select count(*) from {HISTORY}").fetchall()[0][0]
        metadata: dict[str, dg.MetadataValue] = {
            "scores": dg.MetadataValue.md(scores_table(found, contracts)),
            "not_holding": dg.MetadataValue.md(failing_table(broken)),
            "evaluations_added": dg.MetadataValue.int(added),
            "dagster/row_count": dg.MetadataValue.int(rows),
            "as_of": dg.MetadataValue.text(clock.now().isoformat()),
        }
        if found:
            newest = max(score.at for score in found)
            metadata["score"] = dg.MetadataValue.float(percent([s for s in found if s.at == newest]))
            metadata["scores_over_time"] = dg.MetadataValue.md(
                as_markdown_image(scores_png(found), "share of checks passed over time")
            )
        return dg.MaterializeResult(metadata=metadata)

    return quality_report
