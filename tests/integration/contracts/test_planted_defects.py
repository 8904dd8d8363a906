"""There is no check that cannot fail: each one finds the defect it is there for."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import duckdb

from orchestration.quality.contract import Contract
from orchestration.quality.verification import verify
from tests.integration.contracts.planted import COMPANIONS, DEFECTS
from tests.integration.dbt_project.recorded_days import RecordedDays

NOW = datetime(2014, 1, 1, tzinfo=UTC)


def in_memory(con: duckdb.DuckDBPyConnection) -> None:
    """Put a copy of the lakehouse, under its name, in its place: planting is quicker there."""
    con.execute("attach ':memory:' as copied")
    tables = "select schema_name, table_name from duckdb_tables() where database_name = 'lake'"
    for schema, table in con.execute(tables).fetchall():
        con.execute(f"create schema if not exists copied.{schema}")
        con.execute(f"create table copied.{schema}.{table} as from lake.{schema}.{table}")
    con.execute("use memory")
    con.execute("detach lake")
    con.execute("attach ':memory:' as lake")
    con.execute("copy from database copied to lake")
    con.execute("use lake")


def failing(con: duckdb.DuckDBPyConnection, contract: Contract) -> set[str]:
    """The checks of a contract that fail; one that could not be evaluated proves nothing."""
    return {
        v.check.name if v.evaluated else f"{v.check.name} (not evaluated: {v.reason})"
        for v in verify(con, contract, contract.checks, None, NOW)
        if not v.passed
    }


def defects_of(contract: Contract) -> Mapping[str, str]:
    """SQL by check: a column too many, no rows at all, and what is planted for the others."""
    table = contract.target.table
    relation = f"{table.schema}.{table.name}"
    return {
        "schema": f"alter table {relation} add column planted integer",
        "row_count": f"delete from {relation}",
        **DEFECTS[f"{table.layer}/{table.name}"],
    }


def unexpected(con: duckdb.DuckDBPyConnection, contract: Contract) -> Iterator[str]:
    """Where planting does not end as it should, a line each."""
    table = f"{contract.target.table.layer}/{contract.target.table.name}"
    before = failing(con, contract)
    defects = defects_of(contract)
    for name in sorted({check.name for check in contract.checks} - before - defects.keys()):
        yield f"{table}:{name} passes, and nothing is planted for it"
    for name, defect in defects.items():
        con.execute("begin")
        con.execute(defect)
        found = failing(con, contract) - before
        con.execute("rollback")
        expected = {name, *COMPANIONS.get(table, {}).get(name, ())}
        # No rows at all break whatever else they break.
        if (name not in found) if name == "row_count" else (found != expected):
            yield f"{table}:{name}: expected {sorted(expected)} to fail, found {sorted(found)}"


def test_each_check_finds_the_defect_it_is_there_for(
    recorded_day: RecordedDays, contracts: tuple[Contract, ...]
) -> None:
    wrong: list[str] = []
    with recorded_day.lakehouse.get_connection() as con:
        in_memory(con)
        for contract in contracts:
            wrong += unexpected(con, contract)
    assert not wrong, "\n" + "\n".join(wrong)
