"""The shipped contracts over the shipped data, as the platform itself lands and builds it."""

from collections.abc import Sequence

import dagster as dg

from orchestration.definitions import build_definitions
from orchestration.lakehouse import LakehouseResource
from orchestration.project import read_project
from orchestration.quality.contract import Contract
from orchestration.quality.loading import load_contracts
from orchestration.settings import Settings


def contracts(settings: Settings) -> tuple[Contract, ...]:
    """Every shipped contract."""
    return load_contracts(read_project(settings).declarations, settings.soda_checks_dir)


def materialize(
    settings: Settings, first: str, last: str, layers: Sequence[str]
) -> list[dg.AssetCheckEvaluation]:
    """Build some layers (raw with quarantine) for the days from ``first`` to ``last``; what their checks found."""
    job = build_definitions(settings).get_repository_def().get_job("all_assets")
    keys = [key for key in job.asset_layer.executable_asset_keys if key.path[0] in {*layers, "quarantine"}]
    span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, tags=span, asset_selection=keys)
    return result.get_asset_check_evaluations()


def lakehouse(settings: Settings) -> LakehouseResource:
    """The lakehouse that was built."""
    return LakehouseResource.from_settings(settings)
