"""The tiny project as a platform: what a test does with it and asks about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from orchestration.declarations import Declarations, load_declarations
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Clock, Settings
from orchestration.transformation import DbtResource, build_layer_assets, load_manifest
from tests.integration.transformation.tiny_project import RAW

DAY = "2024-01-02"


@dataclass
class Platform:
    """Settings of a tiny platform, and what a test wants to do with it."""

    settings: Settings

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return load_manifest(self.settings)

    @cached_property
    def declarations(self) -> Declarations:
        return load_declarations(self.manifest)

    @cached_property
    def layers(self) -> list[dg.AssetsDefinition]:
        return [
            build_layer_assets(layer, self.declarations, self.manifest, self.settings, Clock())
            for layer in ("staged", "features")
        ]

    @property
    def dbt(self) -> DbtResource:
        return DbtResource.from_settings(self.settings)

    def run(
        self, *, days: tuple[str, str] = (DAY, DAY), selection: Any = None, tags: dict[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            self.layers,
            resources={"dbt": self.dbt},
            selection=selection,
            tags=window_tags(*days) | (tags or {}),
            raise_on_error=False,
        )

    def execute(self, *statements: str) -> None:
        with LakehouseResource.from_settings(self.settings).get_connection() as con:
            for statement in statements:
                con.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with LakehouseResource.from_settings(self.settings).reader() as con:
            return con.execute(query).fetchall()

    def replace(self, file: str, old: str, new: str) -> None:
        path = self.settings.dbt_project_dir / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def with_raw(settings: Settings) -> Platform:
    platform = Platform(settings)
    platform.execute(*RAW)
    return platform


def window_tags(first: str, last: str) -> dict[str, str]:
    """Run tags of a span of days."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def materializations(result: dg.ExecuteInProcessResult) -> dict[str, list[dg.AssetMaterialization]]:
    """By asset key, in order."""
    found: dict[str, list[dg.AssetMaterialization]] = {}
    for event in result.all_events:
        if event.event_type_value == "ASSET_MATERIALIZATION":
            event_data = event.step_materialization_data.materialization
            found.setdefault(event_data.asset_key.to_user_string(), []).append(event_data)
    return found


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """By check name."""
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step said."""
    errors: Sequence[Any] = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    return "\n".join(str(e.user_failure_data.description if e.user_failure_data else e.error) for e in errors)
