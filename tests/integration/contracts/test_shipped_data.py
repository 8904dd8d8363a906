"""What the contracts find in the shipped data is what the README says."""

import re
from pathlib import Path

from orchestration.settings import PROJECT_DIR, Settings
from tests.integration.contracts.shipped import contracts, materialize

HEADING = "What the checks found in the shipped data"
DIMENSIONS = {
    "completeness",
    "validity",
    "uniqueness",
    "consistency",
    "timeliness",
    "accuracy",
    "representation",
}


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


def test_readme_tells_what_the_checks_found_in_the_shipped_data(tmp_path: Path) -> None:
    evaluations = materialize(Settings(data_dir=tmp_path), "2013-01-01", "2013-12-31", ("raw", "staged"))
    assert [e.check_name for e in evaluations if not e.passed and e.severity.value == "ERROR"] == []
    measured = {
        f"{e.asset_key.to_user_string()}:{e.check_name}": (
            e.metadata["dimension"].value,
            f"{e.metadata['measured'].value:g}",
        )
        for e in evaluations
        if not e.passed and e.check_name != "freshness"
    }
    assert measured == told_by((PROJECT_DIR / "README.md").read_text(encoding="utf-8"))


def test_the_contracts_of_raw_and_staged_tables_cover_every_dimension(tmp_path: Path) -> None:
    shipped = contracts(Settings(data_dir=tmp_path))
    for layer in ("raw", "staged", "features"):
        checks = [check for c in shipped if c.target.table.layer == layer for check in c.checks]
        assert {check.dimension for check in checks} == DIMENSIONS


def test_every_check_says_why_it_matters(tmp_path: Path) -> None:
    silent = [
        f"{contract.file}:{check.line}"
        for contract in contracts(Settings(data_dir=tmp_path))
        for check in contract.checks
        if not check.body.attributes.description
    ]
    assert silent == []
