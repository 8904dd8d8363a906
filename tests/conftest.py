"""Fixtures that any test may use."""

from collections.abc import Iterator

import pytest

from tests.servers import fresh_database, postgres_server


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
