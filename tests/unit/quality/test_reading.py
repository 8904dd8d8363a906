"""What a right contract is read as."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.declarations import Declarations, load_declarations
from orchestration.quality.contract import Contract
from orchestration.quality.loading import load_contracts
from tests.manifests import model_node
from tests.unit.quality.town import ROW_COUNT, town, write_contracts


def read(folder: Path, text: str) -> Contract:
    write_contracts(folder, {"raw/trips": text})
    return next(c for c in load_contracts(town(), folder) if c.target.table.name == "trips")


EVERYTHING = """
columns:
  - name: rider
    checks:
      - missing:
      - duplicate: {threshold: {level: warn}}
  - name: city
    checks:
      - invalid: {valid_values: [NO, Rome]}
      - invalid: {qualifier: known, valid_reference_data: {dataset: lake/raw/cities, column: city}}
  - name: fare
    checks:
      - aggregate: {function: avg, threshold: {must_be_less_than: 9}, attributes: {blocking: false}}
checks:
  - row_count:
  - schema:
  - freshness: {column: at, threshold: {unit: day, must_be_less_than: 9}}
  - duplicate: {columns: [trip, at]}
  - failed_rows:
      name: fare_not_negative
      expression: fare < 0
      attributes: {dimension: accuracy, description: Nobody is paid for a trip.}
"""


def test_checks_have_names_that_say_what_holds(tmp_path: Path) -> None:
    assert [check.name for check in read(tmp_path, EVERYTHING).checks] == [
        "no_missing_rider",
        "unique_rider",
        "valid_city",
        "valid_city_known",
        "avg_fare",
        "row_count",
        "schema",
        "fresh_at",
        "unique_trip_at",
        "fare_not_negative",
    ]


def test_a_check_that_warns_never_blocks_and_one_that_fails_blocks_unless_told(tmp_path: Path) -> None:
    checks = {check.name: check for check in read(tmp_path, EVERYTHING).checks}
    assert checks["no_missing_rider"].blocking
    assert checks["unique_rider"].warns
    assert not checks["unique_rider"].blocking
    assert not checks["avg_fare"].warns
    assert not checks["avg_fare"].blocking


def test_a_dimension_follows_from_the_type_unless_told(tmp_path: Path) -> None:
    checks = {check.name: check.dimension for check in read(tmp_path, EVERYTHING).checks}
    assert checks == {
        "no_missing_rider": "completeness",
        "unique_rider": "uniqueness",
        "valid_city": "validity",
        "valid_city_known": "consistency",
        "avg_fare": "accuracy",
        "row_count": "completeness",
        "schema": "validity",
        "fresh_at": "timeliness",
        "unique_trip_at": "uniqueness",
        "fare_not_negative": "accuracy",
    }


def test_a_check_knows_its_file_and_line_and_a_plain_description(tmp_path: Path) -> None:
    contract = read(tmp_path, EVERYTHING)
    lines = (tmp_path / "raw/trips.yml").read_text().splitlines()
    for check in contract.checks:
        assert lines[check.line - 1].strip().startswith(f"- {check.type}:")
    assert contract.checks[-1].description == (
        "Nobody is paid for a trip. Failing rows: expected none. A failure stops what is downstream."
    )


def test_a_threshold_with_only_a_level_keeps_the_types_comparison(tmp_path: Path) -> None:
    contract = read(tmp_path, "columns: []\nchecks:\n  - row_count: {threshold: {level: warn}}\n")
    assert contract.checks[0].threshold.words() == "more than 0"
    assert not contract.admits_no_rows


def test_no_is_a_text_as_soda_reads_it(tmp_path: Path) -> None:
    check = read(tmp_path, EVERYTHING).checks[2]
    assert check.body.model_dump()["valid_values"] == ("NO", "Rome")


def test_whole_table_checks_are_freshness_schema_and_those_that_say_so(tmp_path: Path) -> None:
    text = EVERYTHING.replace("columns: [trip, at]", "columns: [trip, at], attributes: {scope: table}")
    whole = {check.name for check in read(tmp_path, text).checks if check.whole_table}
    assert whole == {"schema", "fresh_at", "unique_trip_at"}


@pytest.mark.parametrize(
    ("measure", "is_plain"),
    [
        ("expression: max(length(rider))", False),
        ("expression: count(distinct rider)", True),
        ("expression: sum(case when rider is null then 1 else 0 end)", True),
        ("expression: sum(fare)", True),
        ("query: select max(length(r.rider)) from raw.trips as r", False),
        ("query: select count(*) from raw.trips where rider = 'x'", True),
        ("query: select count(*) from raw.cities", True),
    ],
)
def test_a_value_made_of_classified_values_is_not_shown(tmp_path: Path, measure: str, is_plain: bool) -> None:
    rest = "threshold: {must_be: 1}, attributes: {dimension: accuracy}"
    text = f"columns: []\nchecks:\n  - row_count:\n  - metric: {{name: m, {measure}, {rest}}}\n"
    assert read(tmp_path, text).checks[-1].value_is_plain is is_plain


def test_loading_imports_neither_soda_nor_pandas(tmp_path: Path) -> None:
    write_contracts(tmp_path, {"raw/trips": EVERYTHING})
    code = (
        "import sys; from pathlib import Path; from tests.unit.quality.town import town; "
        "from orchestration.quality import load_contracts; load_contracts(town(), Path(sys.argv[1])); "
        "print({'soda_core', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_checks_of_one_type_need_different_names_only(tmp_path: Path) -> None:
    rest = "attributes: {dimension: accuracy}"
    text = (
        "columns:\n  - name: fare\n    checks:\n"
        "      - missing: {name: paid}\n      - missing: {name: paid_late, filter: seats > 1}\n"
        "      - aggregate: {function: min, threshold: {must_be: 0}}\n"
        "      - aggregate: {function: max, threshold: {must_be: 9}}\n"
        "checks:\n  - row_count:\n  - row_count: {name: some_in_rome, filter: city = 'Rome'}\n"
        f"  - failed_rows: {{name: fare_not_negative, expression: fare < 0, {rest}}}\n"
        f"  - failed_rows: {{name: seats_not_negative, expression: seats < 0, {rest}}}\n"
        "  - duplicate: {columns: [trip]}\n  - duplicate: {columns: [trip, at]}\n"
        f"  - metric: {{name: total, expression: sum(fare), threshold: {{must_be: 1}}, {rest}}}\n"
        f"  - metric: {{name: most, expression: max(fare), threshold: {{must_be: 1}}, {rest}}}\n"
    )
    assert [check.name for check in read(tmp_path, text).checks] == [
        "paid", "paid_late", "min_fare", "max_fare", "row_count", "some_in_rome", "fare_not_negative",
        "seats_not_negative", "unique_trip", "unique_trip_at", "total", "most",
    ]  # fmt: skip


def test_a_spine_is_tested_by_the_day_that_it_declares(tmp_path: Path) -> None:
    spine = model_node(
        "spine", "training", {"trip": "integer", "leaves_at": "timestamptz"},
        spine={"key": ["trip"], "partition_by": "leaves_at"},
    )  # fmt: skip
    spine["depends_on"]["nodes"] = ["raw.trips"]
    (table,) = load_declarations({"sources": {}, "nodes": {"spine": spine}}).tables.values()
    declarations = Declarations({**town().tables, table.unique_id: table})
    write_contracts(tmp_path, {})
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "spine.yml").write_text("dataset: lake/training/spine\n" + ROW_COUNT)
    contract = load_contracts(declarations, tmp_path)[-1]
    assert contract.target.window_column is not None
    assert (contract.target.table.name, contract.target.window_column.name) == ("spine", "leaves_at")
