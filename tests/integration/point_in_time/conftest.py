"""The shipped project's SQL, made by dbt once a test process, over a lake in memory."""

from collections.abc import Iterator

import pytest

from orchestration.settings import Settings
from tests.integration.point_in_time.lake import Lake
from tests.integration.point_in_time.project import compile_project


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("point_in_time")
    lake = Lake(compile_project(Settings(data_dir=folder / "data"), folder))
    yield lake
    lake.close()
