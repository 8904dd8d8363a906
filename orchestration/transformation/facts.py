"""What the lakehouse knows of a table that dbt has just built, as metadata of its materialization.

What belongs here: questions that the catalog answers without reading rows. What does not: quality
(that is measured by contracts).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from orchestration.declarations import Table
from orchestration.lakehouse import describe_table, row_count
from orchestration.lakehouse.tables import relation
from orchestration.partitions import Window


def built_schema(con: duckdb.DuckDBPyConnection, table: Table) -> dg.TableSchema:
    """The columns as they are stored, described as they are declared."""
    columns = []
    for stored in describe_table(con, table.schema, table.name):
        declared = table.column(stored.name)
        columns.append(
            dg.TableColumn(
                stored.name,
                stored.data_type.lower(),
                description=declared.description if declared else None,
                tags={"classification": declared.classification} if declared else None,
            )
        )
    return dg.TableSchema(columns)


def _rows_in(con: duckdb.DuckDBPyConnection, table: Table, window: Window) -> int | None:
    """Rows of a feature view, or of a table with ``event_at``, that belong to a window."""
    view = table.meta.feature_view
    column = view.timestamp if view is not None else "event_at"
    if table.column(column) is None:
        return None
    # Literals: for a parameter DuckDB imports pandas, which takes a second.
    start, end = (f"timestamptz '{instant.isoformat()}'" for instant in (window.start, window.end))
    rows = con.execute(
        f"select count(*) from {relation(table.schema, table.name)} "
        f'where "{column}" >= {start} and "{column}" < {end}'
    ).fetchall()
    return int(rows[0][0])


def table_facts(
    con: duckdb.DuckDBPyConnection, table: Table, partition: Window | None, *, in_full: bool
) -> dict[str, Any]:
    """Row count, and for one partition its own; in full the column schema too."""
    facts: dict[str, Any] = {"dagster/row_count": row_count(con, table.schema, table.name)}
    if partition is not None:
        rows = _rows_in(con, table, partition)
        facts |= {} if rows is None else {"dagster/partition_row_count": rows}
    if in_full:
        facts["dagster/column_schema"] = built_schema(con, table)
    return facts


def compiled_path(target: Path, node: Mapping[str, Any]) -> Path:
    """Where dbt writes the SQL of a node; a file that declares many nodes is a folder there."""
    file = Path(node["original_file_path"])
    if Path(node["path"]).name != file.name:
        file = file / node["path"]
    return target / "compiled" / str(node["package_name"]) / file


def compiled_sql(target: Path, node: Mapping[str, Any]) -> dict[str, Any]:
    """The SQL that ran, for the UI."""
    path = compiled_path(target, node)
    if not path.is_file():
        return {}
    return {"compiled_sql": dg.MetadataValue.md(f"```sql\n{path.read_text().strip()}\n```")}
