"""What the contracts find in the shipped data is what the README says."""

import re
from datetime import UTC, date, datetime
from typing import get_args

from orchestration.quality.contract import Contract
from orchestration.quality.model import Dimension
from orchestration.quality.verification import verify
from orchestration.settings import PROJECT_DIR
from tests.integration.dbt_project.recorded_days import RecordedDays

HEADING = "What the checks found in the shipped data"
NOW = datetime(2014, 1, 1, 5, tzinfo=UTC)
"""Where the shipped replay clock stands."""


def told_by(readme: str) -> dict[str, tuple[str, str]]:
    """The table under the heading: dimension and number by check."""
    section = re.split(rf"^#+ {HEADING}$", readme, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    columns, _rule, *body = rows
    found = [dict(zip(columns, row, strict=True)) for row in body]
    return {
        row["Check"].strip("`"): (row["Dimension"], row["Rows"].split()[0].replace(",", "")) for row in found
    }


def test_readme_tells_what_the_checks_found_in_the_shipped_data(
    lake: RecordedDays, contracts: tuple[Contract, ...]
) -> None:
    lake.land(date(2013, 1, 1), date(2014, 1, 1))
    lake.run(select=["staged"])
    measured: dict[str, tuple[str, str]] = {}
    blocked: list[str] = []
    with lake.lakehouse.reader() as con:
        for contract in contracts:
            table = f"{contract.target.table.layer}/{contract.target.table.name}"
            if contract.target.table.layer not in {"raw", "staged"}:
                continue
            for verdict in verify(con, contract, contract.checks, None, NOW):
                name = f"{table}:{verdict.check.name}"
                if verdict.passed:
                    continue
                if verdict.check.blocking or verdict.value is None:
                    blocked.append(f"{name} {verdict.reason}")
                else:
                    measured[name] = (verdict.check.dimension, f"{verdict.value:.10g}")
    assert blocked == []
    assert measured == told_by((PROJECT_DIR / "README.md").read_text(encoding="utf-8"))


def test_the_contracts_of_each_layer_cover_every_dimension(contracts: tuple[Contract, ...]) -> None:
    for layer in ("raw", "staged", "features", "training"):
        checks = [check for c in contracts if c.target.table.layer == layer for check in c.checks]
        assert {check.dimension for check in checks} == set(get_args(Dimension))


def test_every_check_says_why_it_matters(contracts: tuple[Contract, ...]) -> None:
    silent = [
        f"{contract.file}:{check.line}"
        for contract in contracts
        for check in contract.checks
        if not check.body.attributes.description
    ]
    assert silent == []
