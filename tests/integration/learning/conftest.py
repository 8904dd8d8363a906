"""A registry in a lakehouse of its own."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestration.lakehouse import LakehouseResource
from orchestration.learning.registry import Registry
from orchestration.settings import Clock, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", duckdb_threads=1)


@pytest.fixture
def lakehouse(settings: Settings) -> LakehouseResource:
    return LakehouseResource.from_settings(settings)


@pytest.fixture
def registry(settings: Settings, lakehouse: LakehouseResource) -> Registry:
    return Registry(lakehouse, settings.data_dir / "models", Clock(datetime(2024, 3, 1, tzinfo=UTC)))
