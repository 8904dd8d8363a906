"""A folder in which one side of a benchmark works: its own lakehouse, dbt project and Dagster history."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.timing import Measured, measure
from orchestration.settings import PROJECT_DIR, Settings
from orchestration.transformation import dbt_environment


@dataclass(frozen=True)
class Workspace:
    """One side's folder; ``flights`` replaces where the shipped flights come from."""

    root: Path
    flights: Path | None = None

    @property
    def dbt_project(self) -> Path:
        """The dbt project of this side: the shipped one, or a copy that reads other flights."""
        return PROJECT_DIR / "dbt_project" if self.flights is None else self.root / "dbt_project"

    @property
    def settings(self) -> Settings:
        """The platform's settings for this folder."""
        return Settings(data_dir=self.root / "data", dbt_project_dir=self.dbt_project)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a command that works here."""
        return {
            "GROUNDWORK_DATA_DIR": str(self.root / "data"),
            "GROUNDWORK_DBT_PROJECT_DIR": str(self.dbt_project),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "PYTHONPATH": str(PROJECT_DIR),
        }

    def prepare(self) -> "Workspace":
        """Start from nothing."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        if self.flights is not None:
            shutil.copytree(PROJECT_DIR / "dbt_project", self.dbt_project)
            sources = self.dbt_project / "models/raw/sources.yml"
            declared = yaml.safe_load(sources.read_text())
            ingest = next(t for t in declared["sources"][0]["tables"] if t["name"] == "flights")["config"][
                "meta"
            ]["ingest"]
            ingest |= {"uri": str(self.flights), "compression": "none"}
            sources.write_text(yaml.safe_dump(declared, sort_keys=False))
        return self

    def drop_lake(self) -> None:
        """Forget the data, keep what is warm: parsed projects and Dagster's history."""
        shutil.rmtree(self.root / "data" / "lake", ignore_errors=True)

    def python(self, *arguments: str, log: str, extra: Mapping[str, str] | None = None) -> Measured:
        """Measure a Python command, with ``extra`` variables."""
        environment = {**self.environment, **(extra or {})}
        return measure([sys.executable, *arguments], environment, self.root / "logs" / f"{log}.log")

    def groundwork(self, *arguments: str) -> Measured:
        """Measure ``groundwork run``."""
        command = [str(Path(sys.executable).with_name("groundwork")), "run", "--force", *arguments]
        return measure(command, self.environment, self.root / "logs" / "groundwork.log")

    def dbt(self, *arguments: str) -> Measured:
        """Measure dbt's own command line."""
        environment = {
            **self.environment,
            **dbt_environment(self.settings),
            "DBT_TARGET_PATH": str(self.root / "target"),
            "DBT_LOG_PATH": str(self.root / "logs"),
            "DBT_PROFILES_DIR": str(self.dbt_project),
        }
        dbt = str(Path(sys.executable).with_name("dbt"))
        command = [dbt, *arguments, "--project-dir", str(self.dbt_project)]
        return measure(command, environment, self.root / "logs" / "dbt.out")
