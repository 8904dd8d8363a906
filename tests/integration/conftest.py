from collections.abc import Iterator

import pytest

from orchestration.settings import Settings
from tests.integration.dbt_project.recorded_days import RecordedDays, unpack


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedDays:
    """The shipped project over recorded days; made once a test process, so that dbt parses it once."""
    root = tmp_path_factory.mktemp("recorded_days")
    (root / "files").mkdir()
    return RecordedDays(Settings(data_dir=root / "data"), unpack(root / "files"))


@pytest.fixture
def recorded_lake(recorded: RecordedDays) -> Iterator[RecordedDays]:
    """An empty lakehouse, the shipped files and the shipped dbt project."""
    recorded.clear()
    yield recorded
    recorded.clear()
