from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.settings import Settings
from tests.integration.dbt_project.recorded_days import RecordedDays, unpack


@pytest.fixture(scope="session")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> RecordedDays:
    """Made once a test process, so that dbt parses the project once."""
    root = tmp_path_factory.mktemp("recorded_days")
    (root / "files").mkdir()
    return RecordedDays(Settings(data_dir=root / "data"), unpack(root / "files"))


@pytest.fixture
def lake(shared_lake: RecordedDays) -> Iterator[RecordedDays]:
    """An empty lakehouse, the shipped files and the shipped dbt project."""
    shared_lake.clear()
    yield shared_lake
    shared_lake.clear()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path
