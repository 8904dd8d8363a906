"""A tiny dbt project over a real lakehouse, parsed once a test process."""

import shutil
from pathlib import Path

import pytest

from orchestration.settings import Settings
from tests.integration.transformation.tiny_platform import Platform, with_raw
from tests.integration.transformation.tiny_project import write_project


@pytest.fixture(scope="session")
def parsed_once(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The project nobody changes, with a warm manifest cache."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = Settings(dbt_project_dir=write_project(folder / "dbt_project"), data_dir=folder / "data")
    platform = with_raw(settings)
    assert platform.manifest
    return platform


@pytest.fixture
def platform(parsed_once: Platform, tmp_path: Path) -> Platform:
    """The unchanged project over a lakehouse of the test's own."""
    settings = Settings(dbt_project_dir=parsed_once.settings.dbt_project_dir, data_dir=tmp_path / "data")
    cache = Path("dbt", "manifest")
    shutil.copytree(parsed_once.settings.data_dir / cache, settings.data_dir / cache)
    return with_raw(settings)


@pytest.fixture
def own_project(parsed_once: Platform, tmp_path: Path) -> Platform:
    """A copy of project and lakehouse that a test may change."""
    settings = Settings(dbt_project_dir=tmp_path / "dbt_project", data_dir=tmp_path / "data")
    shutil.copytree(parsed_once.settings.dbt_project_dir, settings.dbt_project_dir)
    return with_raw(settings)
