"""Lakehouses as the previous release created them, on both kinds of catalog."""

from collections.abc import Iterable
from contextlib import closing

import duckdb
import pytest

from orchestration.lakehouse import Attachment
from orchestration.settings import Settings

CATALOGS = ("sqlite", "postgres")


def settings_of(catalog: str, tmp_path, request: pytest.FixtureRequest) -> Settings:
    """Settings of an empty data folder with this kind of catalog."""
    if catalog == "sqlite":
        return Settings(data_dir=tmp_path / "data", lake_lock_timeout_seconds=30)
    url = request.getfixturevalue("postgres_url")
    return Settings(data_dir=tmp_path / "data", lake_catalog_postgres=url, lake_lock_timeout_seconds=30)


def bare_duckdb(settings: Settings, *, inlined_rows: int = 10) -> duckdb.DuckDBPyConnection:
    """A DuckDB that attaches the lakehouse as the previous release did: without triggers, rows inlined."""
    attachment = Attachment(settings)
    con = duckdb.connect(config=attachment.config())
    option = "data_inlining_row_limit '{}'"
    assert option.format(0) in attachment.attach_sql()
    attach = attachment.attach_sql().replace(option.format(0), option.format(inlined_rows))
    for statement in (*attachment.setup_sql(), attach, *attachment.session_sql()):
        con.execute(statement)
    return con


def write_bare(settings: Settings, statements: Iterable[str], *, inlined_rows: int = 10) -> None:
    """Run statements in the DuckDB of ``bare_duckdb``."""
    with closing(bare_duckdb(settings, inlined_rows=inlined_rows)) as con:
        for statement in statements:
            con.execute(statement)
