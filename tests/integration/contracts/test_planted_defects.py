"""There is no check that cannot fail: each one finds the defect it is there for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from orchestration.quality.contract import Contract
from orchestration.quality.verification import verify
from orchestration.settings import Settings
from tests.integration.contracts.planted import COMPANIONS, DEFECTS
from tests.integration.contracts.shipped import contracts, lakehouse, materialize

DAY = "2013-07-10"
NOW = datetime(2013, 7, 11, 4, tzinfo=UTC)


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


def test_each_check_finds_the_defect_it_is_there_for(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    materialize(settings, DAY, DAY, ("raw", "staged", "features"))
    wrong: list[str] = []
    with lakehouse(settings).get_connection() as con:
        for contract in contracts(settings):
            table = f"{contract.target.table.layer}/{contract.target.table.name}"
            before = failing(con, contract)
            defects = defects_of(contract)
            unproven = {check.name for check in contract.checks} - before - defects.keys()
            wrong += [f"{table}:{name} passes, and nothing is planted for it" for name in sorted(unproven)]
            for name, defect in defects.items():
                con.execute("begin")
                con.execute(defect)
                found = failing(con, contract) - before
                con.execute("rollback")
                expected = {name, *COMPANIONS.get(table, {}).get(name, ())}
                if (name not in found) if name == "row_count" else (found != expected):
                    wrong.append(f"{table}:{name}: expected {sorted(expected)} to fail, found {sorted(found)}")
    assert not wrong, "\n" + "\n".join(wrong)
