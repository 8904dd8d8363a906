"""The shipped dbt project as SQL texts: what dbt itself makes of it, run once over an empty lakehouse.

What belongs here: getting the texts. What does not: running them (``lake``) or judging them.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings
from orchestration.transformation import dbt_environment, load_manifest
from orchestration.transformation.engine import Engine
from orchestration.transformation.manifest import executable_manifest, project_args

# A window in which nothing happened; tests put their own in its place.
_START, _END = "1901-02-03T04:05:06+00:00", "1902-03-04T05:06:07+00:00"
_LANDING_COLUMNS = {
    "_source_uri": "varchar",
    "_source_sha256": "varchar",
    "_row_number": "bigint",
    "_ingested_at": "timestamptz",
    "_run_id": "varchar",
    "_late_at": "timestamptz",
}
BUILT = "built_by_the_model"


@dataclass(frozen=True)
class Table:
    """A source or model: where it is, its columns and, of a model, its SQL."""

    schema: str
    name: str
    columns: dict[str, str]
    select: str = ""
    select_window: str = ""
    merge_window: str = ""

    @property
    def address(self) -> str:
        return f"lake.{self.schema}.{self.name}"

    def window(self, start: datetime, end: datetime) -> tuple[str, str]:
        """The model's select and its incremental strategy for a run of this window."""
        texts = (self.select_window, self.merge_window)
        select, merge = (
            text.replace(_START, start.isoformat()).replace(_END, end.isoformat()) for text in texts
        )
        return select, merge


def compile_project(settings: Settings, folder: Path) -> dict[str, Table]:
    """Sources and models by name, with the SQL that ``dbt run`` executes."""
    manifest = load_manifest(settings)
    sources = [Table("raw", s["name"], _columns(s) | _LANDING_COLUMNS) for s in manifest["sources"].values()]
    with LakehouseResource.from_settings(settings).get_connection() as con:
        con.execute("create schema if not exists lake.raw")
        for source in sources:
            con.execute(create_statement(source))
    whole, window = folder / "whole", folder / "window"
    _run_dbt(settings, whole, {})
    # The second run finds every table: its models are incremental.
    _run_dbt(settings, window, {"partition_start": _START, "partition_end": _END})
    models = [_model(n, whole, window) for n in manifest["nodes"].values() if n["resource_type"] == "model"]
    return {table.name: table for table in [*sources, *models]}


def create_statement(table: Table) -> str:
    columns = ", ".join(f"{name} {data_type}" for name, data_type in table.columns.items())
    return f"create table {table.address} ({columns})"


def _columns(node: dict[str, Any]) -> dict[str, str]:
    return {c["name"]: c["data_type"] for c in node["columns"].values()}


def _run_dbt(settings: Settings, target: Path, variables: dict[str, str]) -> None:
    args = ["--log-level", "none", "--log-level-file", "none", "run", "--vars", json.dumps(variables)]
    args += project_args(settings, target)
    with Engine(args, dbt_environment(settings), executable_manifest(settings)) as engine:
        for _ in engine.events():
            pass
    assert engine.succeeded, engine.error or [o for o in engine.outcomes if o.status != "success"]


def _model(node: dict[str, Any], whole: Path, window: Path) -> Table:
    file = Path(node["package_name"], node["original_file_path"])
    merge = (window / "run" / file).read_text()
    merge, replaced = re.subn(rf'"{node["name"]}__dbt_tmp\w*"', BUILT, merge)
    assert replaced, f"{file}: found no temporary table in\n{merge}"
    return Table(
        schema=node["schema"],
        name=node["name"],
        columns=_columns(node),
        select=(whole / "compiled" / file).read_text(),
        select_window=(window / "compiled" / file).read_text(),
        merge_window=merge,
    )
