import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from orchestration.declarations import load_declarations
from orchestration.settings import Settings
from orchestration.transformation import load_manifest
from tests.integration.dbt_project.recorded_days import PARSED, RecordedDays, keep_typed, unpack
from tests.once import made_once
from tests.water_works import lay_out

RECORDED_DAY = date(2013, 7, 10)


def _unpack_and_parse(folder: Path) -> None:
    unpack(folder)
    declarations = load_declarations(load_manifest(Settings(data_dir=folder / "data")))
    keep_typed(declarations.sources, folder)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped files, and in ``data`` what dbt has parsed of the shipped project."""
    return made_once(tmp_path_factory, "shipped", _unpack_and_parse)


def _recorded(shipped: Path, data: Path) -> RecordedDays:
    shutil.copytree(shipped / "data" / PARSED, data / PARSED)
    return RecordedDays(Settings(data_dir=data), shipped)


@pytest.fixture(scope="session")
def recorded(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordedDays:
    """The shipped project over recorded days; made once a test process, so that dbt parses it once."""
    return _recorded(shipped, tmp_path_factory.mktemp("recorded_days") / "data")


@pytest.fixture
def recorded_lake(recorded: RecordedDays) -> Iterator[RecordedDays]:
    """An empty lakehouse, the shipped files and the shipped dbt project."""
    recorded.clear()
    yield recorded
    recorded.clear()


@pytest.fixture(scope="session")
def recorded_day(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordedDays:
    """``RECORDED_DAY`` in a lakehouse with every model built, which no test changes."""

    def make(folder: Path) -> None:
        day = _recorded(shipped, folder / "data")
        following = date.fromordinal(RECORDED_DAY.toordinal() + 1)
        day.land(RECORDED_DAY, following)
        day.run(RECORDED_DAY, following)

    data = made_once(tmp_path_factory, "recorded_day", make) / "data"
    return RecordedDays(Settings(data_dir=data), shipped)


def _lay_out_and_parse(folder: Path) -> None:
    lay_out(folder)
    load_manifest(Settings(data_dir=folder / "data", dbt_project_dir=folder / "dbt_project"))


@pytest.fixture(scope="session")
def water_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second domain, laid out and parsed, for tests that do not change it."""
    return made_once(tmp_path_factory, "water_project", _lay_out_and_parse)
