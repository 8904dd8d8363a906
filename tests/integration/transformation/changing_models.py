"""A dbt project of small models over a real lakehouse; tests change its declarations between runs."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from orchestration.lakehouse import LakehouseResource
from orchestration.settings import PROJECT_DIR, Settings
from orchestration.transformation import dbt_environment
from orchestration.transformation.engine import Engine
from orchestration.transformation.manifest import executable_manifest, project_args

SHIPPED = PROJECT_DIR / "dbt_project"
PROJECT = """
name: changing
version: "1.0"
profile: groundwork
models:
  changing:
    +contract: {enforced: true}
    +on_schema_change: append_new_columns
    +pre-hook: "select 1"
    staged: {+schema: staged}
    features: {+schema: features}
"""


@dataclass(frozen=True)
class Model:
    """A model: its SQL, the columns of its YAML with their types, and its dbt config."""

    name: str
    sql: str
    columns: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)
    not_null: Sequence[str] = ()
    layer: str = "staged"

    def changed(self, **changes: Any) -> "Model":
        return replace(self, **changes)

    @property
    def sheet(self) -> dict[str, Any]:
        defaults = {"materialized": "incremental", "incremental_strategy": "window", "unique_key": "k"}
        config = {"meta": {"owner": "team:operators"}, **defaults, **self.config}
        columns: list[dict[str, Any]] = [
            {"name": name, "data_type": kind, "description": "It."} for name, kind in self.columns.items()
        ]
        for column in columns:
            if column["name"] in self.not_null:
                column["constraints"] = [{"type": "not_null"}]
        return {"name": self.name, "description": "One row.", "config": config, "columns": columns}


@dataclass(frozen=True)
class Outcome:
    status: str
    message: str


class Project:
    """The project in a folder, with its own lakehouse."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            dbt_project_dir=folder / "dbt_project", data_dir=folder / "data", duckdb_threads=1
        )
        root = self.settings.dbt_project_dir
        shutil.copytree(SHIPPED / "macros" / "groundwork", root / "macros" / "groundwork")
        shutil.copy(SHIPPED / "profiles.yml", root)
        (root / "dbt_project.yml").write_text(PROJECT)
        self.execute("create schema if not exists staged")

    def write(self, *models: Model) -> None:
        """Replace all models of the project."""
        shutil.rmtree(self.settings.dbt_project_dir / "models", ignore_errors=True)
        for model in models:
            folder = self.settings.dbt_project_dir / "models" / model.layer
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{model.name}.sql").write_text(model.sql)
            (folder / f"{model.name}.yml").write_text(yaml.safe_dump({"models": [model.sheet]}))

    def run(self, *flags: str, **variables: str) -> dict[str, Outcome]:
        """The outcome of each model of one ``dbt run``, by name."""
        target = self.settings.data_dir / "target"
        args = ["--log-level", "none", "--log-level-file", "none", "run", "--vars", json.dumps(variables)]
        args += [*flags, *project_args(self.settings, target)]
        environment = dbt_environment(self.settings)
        with Engine(args, environment, executable_manifest(self.settings)) as engine:
            for _ in engine.events():
                pass
        assert engine.error is None, engine.error
        return {o.unique_id.split(".")[-1]: Outcome(o.status, o.message) for o in engine.outcomes}

    def execute(self, *statements: str) -> None:
        with LakehouseResource.from_settings(self.settings).get_connection() as con:
            for statement in statements:
                con.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with LakehouseResource.from_settings(self.settings).reader() as con:
            return con.execute(query).fetchall()

    def types(self, table: str) -> dict[str, str]:
        return {row[0]: row[1].lower() for row in self.rows(f"describe {table}")}
