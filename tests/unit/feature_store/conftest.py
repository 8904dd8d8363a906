"""Fixtures of the feature store's unit tests."""

import duckdb
import pytest


@pytest.fixture(scope="session")
def duck():
    """A DuckDB in UTC."""
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("set timezone = 'UTC'")
        yield con
