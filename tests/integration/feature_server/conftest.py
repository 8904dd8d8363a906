"""The real Feast, in an environment of its own that is made once."""

from pathlib import Path

import pytest

from benchmarks import feast_environment
from tests.programs import missing


@pytest.fixture(scope="session")
def feast_python() -> Path:
    """A Python that has Feast; its environment stays in ``.feast/`` for later runs."""
    try:
        return feast_environment.feast_python()
    except feast_environment.NoPackageIndexError as error:
        missing("package index", f"to install {error}")
