"""The dbt project as the platform reads it: manifest, declarations and clock, read together.

What belongs here: what both the code location and the command line read first. What does not: any
Dagster definition.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestration.declarations import Declarations, load_declarations
from orchestration.ingestion.raw_table import STAMPS
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
        DeclarationError: Its declarations have faults.
        ValueError: It declares a clock that is none.
    """
    manifest = load_manifest(settings)
    variables = _declared_variables(settings)
    clock = make_clock(settings, (variables.get("groundwork") or {}).get("clock"))
    declarations = load_declarations(manifest)
    check_measures(settings, manifest, declarations, STAMPS)
    return Project(settings, manifest, declarations, clock, variables)
