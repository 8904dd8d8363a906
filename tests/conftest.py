"""Fixtures that any test may use."""

import gc
from collections.abc import Iterator

import pytest

from tests.order import in_parts
from tests.programs import skipped_line
from tests.servers import fresh_database, postgres_server, redis_server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in order for so many workers."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = in_parts(items, int(workers))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Last of all, say how many tests were skipped for want of which program."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    line = skipped_line(str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple))
    if line is not None:
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def quick() -> None:
    """Do once a test process what DuckDB and Dagster do again and again."""
    # Imported by the processes that test only, not by the one that hands tests out.
    from tests.quick_dagster import read_migrations_once  # noqa: PLC0415
    from tests.quick_duckdb import check_extensions_once  # noqa: PLC0415

    check_extensions_once()
    read_migrations_once()
    # Millions of objects stay and next to none are cycles: to look for some would cost a twentieth.
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """A PostgreSQL server of this test process."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """An empty PostgreSQL database."""
    with fresh_database(postgres_server_url) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server of this test process; each test takes a prefix of its own."""
    with redis_server() as url:
        yield url
