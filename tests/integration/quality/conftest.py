"""A town for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.quality.town import Town, build_town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = build_town(tmp_path)
    yield made
    made.con.close()
