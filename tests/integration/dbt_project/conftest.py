from pathlib import Path

import pytest

from tests.integration.dbt_project.recorded_days import RecordedDays


@pytest.fixture
def lake(recorded_lake: RecordedDays) -> RecordedDays:
    """An empty lakehouse, the shipped files and the shipped dbt project."""
    return recorded_lake


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path
