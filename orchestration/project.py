"""The dbt project as the platform reads it: manifest, declarations and clock, read together.

What belongs here: what both the code location and the command line read first. What does not: any
Dagster definition.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from orchestration.declarations import Declarations, load_declarations
from orchestration.settings import Clock, Settings, make_clock
from orchestration.transformation import load_manifest


@dataclass(frozen=True)
class Project:
    """What was read, under which settings."""

    settings: Settings
    manifest: Mapping[str, Any]
    declarations: Declarations
    clock: Clock


def _declared_clock(settings: Settings) -> dict[str, Any] | None:
    text = (settings.dbt_project_dir / "dbt_project.yml").read_text(encoding="utf-8")
    variables = (yaml.safe_load(text) or {}).get("vars") or {}
    clock: dict[str, Any] | None = (variables.get("groundwork") or {}).get("clock")
    return clock


def read_project(settings: Settings) -> Project:
    """Read the dbt project that the settings name.

    Raises:
        DbtParseError: dbt cannot parse it.
        DeclarationError: Its declarations have faults.
        ValueError: It declares a clock that is none.
    """
    manifest = load_manifest(settings)
    clock = make_clock(settings, _declared_clock(settings))
    return Project(settings, manifest, load_declarations(manifest), clock)
