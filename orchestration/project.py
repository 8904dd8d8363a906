"""The dbt project as the platform reads it: manifest, declarations and clock, read together.

What belongs here: what both the code location and the command line read first. What does not: any
Dagster definition.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestration.declarations import DeclarationError, Declarations, load_declarations
from orchestration.ingestion.raw_table import STAMPS
from orchestration.partitions import newest_day
from orchestration.settings import Clock, Settings, make_clock
from orchestration.transformation import load_manifest
from orchestration.transformation.measures import check_measures


@dataclass(frozen=True)
class Project:
    """What was read, under which settings."""

    settings: Settings
    manifest: Mapping[str, Any]
    declarations: Declarations
    clock: Clock
    variables: Mapping[str, Any] = field(default_factory=dict)


def _declared_variables(settings: Settings) -> dict[str, Any]:
    """``vars`` of dbt_project.yml."""
    text = (settings.dbt_project_dir / "dbt_project.yml").read_text(encoding="utf-8")
    return (yaml.safe_load(text) or {}).get("vars") or {}


def read_project(settings: Settings) -> Project:
    """Read the dbt project that the settings name.

    Raises:
        DbtParseError: dbt cannot parse it.
        DeclarationError: Its declarations have faults, or its data starts after the replay clock.
        ValueError: It declares a clock that is none.
    """
    manifest = load_manifest(settings)
    variables = _declared_variables(settings)
    clock = make_clock(settings, (variables.get("groundwork") or {}).get("clock"))
    declarations = load_declarations(manifest)
    _check_clock(declarations, clock)
    check_measures(settings, manifest, declarations, STAMPS)
    return Project(settings, manifest, declarations, clock, variables)


def _check_clock(declarations: Declarations, clock: Clock) -> None:
    """Refuse a replay clock set before the data: partitioned assets would never have a partition.

    Raises:
        DeclarationError: A source's partitions start after the clock.
    """
    if clock.mode != "replay":
        return
    faults = [
        f"{table.file}: sources.{table.schema}.{table.name}.config.meta.ingest.partition.start: "
        f"found {partition.start}, expected a day that has ended on the replay clock, which is set to "
        f"{clock.now():%Y-%m-%d %H:%M} UTC: "
        "set GROUNDWORK_CLOCK=wall, or set vars.groundwork.clock in dbt_project.yml to {mode: wall} or to an "
        "instant after that day"
        for table in declarations.sources
        if (partition := table.ingest.partition) is not None
        and newest_day(partition, clock) < partition.start
    ]
    if faults:
        raise DeclarationError(faults)
