"""The shipped project's SQL, made by dbt once a test run, over a lake in memory."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.settings import Settings
from tests.integration.dbt_project.recorded_days import PARSED
from tests.integration.point_in_time.lake import Lake
from tests.integration.point_in_time.project import compile_project
from tests.once import made_once


@pytest.fixture(scope="session")
def lake(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    def make(folder: Path) -> None:
        settings = Settings(data_dir=folder / "data")
        shutil.copytree(shipped / "data" / PARSED, settings.data_dir / PARSED)
        (folder / "tables").write_bytes(pickle.dumps(compile_project(settings, folder)))

    tables = made_once(tmp_path_factory, "point_in_time", make) / "tables"
    lake = Lake(pickle.loads(tables.read_bytes()))
    yield lake
    lake.close()
