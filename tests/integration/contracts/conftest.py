import pytest

from orchestration.quality.contract import Contract
from orchestration.quality.loading import load_contracts
from tests.integration.dbt_project.recorded_days import RecordedDays


@pytest.fixture
def lake(recorded_lake: RecordedDays) -> RecordedDays:
    """An empty lakehouse, the shipped files and the shipped dbt project."""
    return recorded_lake


@pytest.fixture
def contracts(recorded: RecordedDays) -> tuple[Contract, ...]:
    """Every shipped contract."""
    return load_contracts(recorded.declarations(), recorded.settings.soda_checks_dir)
