"""How a declared table looks as a Dagster asset: one answer for every layer.

What belongs here: keys, owners, groups, kinds, tags, column schema. What does not: how the asset is
computed, or when.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from orchestration.declarations import Declarations, Partition, Table

POOL = "lakehouse_write"
"""Pool of every op that writes to the lakehouse; its limit of 1 is set in dagster.yaml."""

SUMMARY = "summary"
"""Metadata of a materialization: what it says in a line."""

WITHHELD = "withheld"
"""Metadata of a result or a materialization: what was not published because checks did not pass."""

KINDS: Mapping[str, frozenset[str]] = {
    "raw": frozenset({"duckdb", "parquet"}),
    "staged": frozenset({"dbt", "duckdb"}),
    "features": frozenset({"dbt", "duckdb"}),
    "training": frozenset({"dbt", "duckdb"}),
}


def asset_key(table: Table) -> dg.AssetKey:
    """``<layer>/<table>``."""
    return dg.AssetKey(list(table.asset_path))


def asset_partitions(declarations: Declarations) -> dict[dg.AssetKey, Partition]:
    """The partitions of each partitioned table, by asset."""
    found = {asset_key(t): declarations.partition(name) for name, t in declarations.tables.items()}
    return {key: partition for key, partition in found.items() if partition is not None}


def declared_schema(table: Table) -> dg.TableSchema:
    """The documented columns, for the UI's column list."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name, c.data_type, description=c.description, tags={"classification": c.classification}
            )
            for c in table.columns
        ]
    )


def spec_attributes(table: Table) -> dict[str, Any]:
    """Arguments of ``AssetSpec`` (but key, deps and partitions) that follow from the declaration."""
    kinds = set(KINDS[table.layer])
    if table.meta.ingest is not None:
        kinds |= {table.meta.ingest.format} - {"table"}
    metadata: dict[str, Any] = {
        "dagster/column_schema": declared_schema(table),
        "dagster/table_name": f"lake.{table.schema}.{table.name}",
        "declared_in": table.file,
    }
    view = table.meta.feature_view
    if view is not None:
        metadata |= {
            "timestamp": view.timestamp,
            "online": view.online,
        }
    return {
        "group_name": table.layer,
        "owners": [table.meta.owner],
        "description": table.description,
        "kinds": kinds,
        "tags": {"layer": table.layer, **dict.fromkeys(table.tags, "")},
        "metadata": metadata,
    }


def own_check(name: str, asset: dg.AssetKey, description: str) -> dg.AssetCheckSpec:
    """A check that the step of its asset evaluates itself.

    Its condition never holds. That it has one is what counts: a run that automation asks for has no check but
    these if none of them has a condition, and the contracts on its assets are left out.
    """
    first = dg.AutomationCondition.initial_evaluation()
    return dg.AssetCheckSpec(
        name, asset=asset, description=description, automation_condition=(first & ~first).with_label("never")
    )
