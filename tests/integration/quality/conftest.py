"""A town for each test."""

from pathlib import Path

import pytest

from tests.unit.quality.town import Town, build_town


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return build_town(tmp_path)
