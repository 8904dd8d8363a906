from collections.abc import Iterator

import pytest

from orchestration.quality.contract import Contract
from orchestration.quality.loading import load_contracts
from orchestration.settings import Settings
from tests.integration.dbt_project.recorded_days import RecordedDays, unpack


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedDays:
    """Made once a test process, so that dbt parses the project once."""
    root = tmp_path_factory.mktemp("contracts")
    (root / "files").mkdir()
    return RecordedDays(Settings(data_dir=root / "data"), unpack(root / "files"))


@pytest.fixture
def lake(recorded: RecordedDays) -> Iterator[RecordedDays]:
    """An empty lakehouse, the shipped files and the shipped dbt project."""
    recorded.clear()
    yield recorded
    recorded.clear()


@pytest.fixture
def contracts(recorded: RecordedDays) -> tuple[Contract, ...]:
    """Every shipped contract."""
    return load_contracts(recorded.declarations(), recorded.settings.soda_checks_dir)
