"""dagster-dbt's translator over our specs, for its event conversion and for its stock ``@dbt_assets``.

Importing this module imports dagster-dbt, and with it dbt.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject

from orchestration.asset_specs import asset_key
from orchestration.declarations import Declarations, Table
from orchestration.settings import Clock, Settings
from orchestration.transformation.specs import asset_spec


class LayerTranslator(DagsterDbtTranslator):  # type: ignore[misc]  # untyped for mypy
    """Every dbt node is the asset that ``specs`` says it is; a source is its raw table."""

    def __init__(self, declarations: Declarations, settings: Settings, clock: Clock) -> None:
        super().__init__()
        self._declarations = declarations
        self._platform = (settings, clock)
        self._specs: dict[str, dg.AssetSpec] = {}

    def table(self, unique_id: str) -> Table | None:
        """The declared table of a dbt node; None for a test."""
        return self._declarations.tables.get(unique_id)

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        """Our spec of a node, with dagster-dbt's own bookkeeping among its metadata."""
        if unique_id not in self._specs:
            stock = super().get_asset_spec(manifest, unique_id, project)
            self._specs[unique_id] = self._ours(manifest, unique_id, stock)
        return self._specs[unique_id]

    def _ours(self, manifest: Mapping[str, Any], unique_id: str, stock: dg.AssetSpec) -> dg.AssetSpec:
        table = self.table(unique_id)
        if table is None:
            return stock
        if unique_id in manifest["sources"]:
            return dg.AssetSpec(key=asset_key(table))
        ours = asset_spec(manifest, self._declarations, table, *self._platform)
        return ours.merge_attributes(
            metadata={k: v for k, v in stock.metadata.items() if k.startswith("dagster_dbt/")}
        )
