"""A contract that says something else than its author meant must not load."""

from pathlib import Path

import pytest

from orchestration.quality.loading import ContractError, load_contracts
from tests.unit.quality.town import TRIPS, town, write_contracts


def faults_of(folder: Path, text: str) -> list[str]:
    write_contracts(folder, {"raw/trips": text})
    with pytest.raises(ContractError) as caught:
        load_contracts(town(), folder)
    return list(caught.value.faults)


def on_column(check: str, column: str = "fare") -> str:
    return f"columns:\n  - name: {column}\n    checks:\n      - {check}\nchecks:\n  - row_count:\n"


def on_table(check: str) -> str:
    return f"columns: []\nchecks:\n  - row_count:\n  - {check}\n"


ATTRIBUTES = "attributes: {dimension: accuracy}"

FAULTS = {
    "an unknown check type": (
        on_column("mising:"),
        ":5: columns.0.checks.0: found unknown check type 'mising'",
    ),
    "an unknown key": (
        on_column("missing: {treshold: {must_be: 0}}"),
        ":5: columns.0.checks.0.missing.treshold: found unknown key 'treshold', expected one of attributes, filter",
    ),
    "an unknown key in a threshold": (
        on_column("missing: {threshold: {must_be_les_than: 0}}"),
        ":5: columns.0.checks.0.missing.threshold.must_be_les_than: found unknown key",
    ),
    "an unknown attribute": (
        on_column("missing: {attributes: {blocked: false}}"),
        ":5: columns.0.checks.0.missing.attributes.blocked: found unknown key 'blocked'",
    ),
    "an unknown dimension": (
        on_column("missing: {attributes: {dimension: beauty}}"),
        "attributes.dimension: found 'beauty', expected 'completeness', 'validity'",
    ),
    "an unknown level": (
        on_column("missing: {threshold: {level: warning}}"),
        "level: found 'warning', expected",
    ),
    "two comparisons": (
        on_column("missing: {threshold: {must_be: 0, must_be_less_than: 3}}"),
        "exactly one must_... key, not must_be and must_be_less_than",
    ),
    "a threshold that is a text": (
        on_column("missing: {threshold: {must_be: '0'}}"),
        ":5: columns.0.checks.0.missing.threshold.must_be: found '0', expected a number",
    ),
    "a threshold that is not finite": (
        on_column("missing: {threshold: {must_be_less_than: .inf}}"),
        "found inf, expected a finite number",
    ),
    "a range the wrong way round": (
        on_column("missing: {threshold: {must_be_between: {greater_than: 5, less_than: 1}}}"),
        "must_be_between with a lower bound below the upper one",
    ),
    "a range with one bound": (
        on_column("missing: {threshold: {must_be_between: {greater_than: 5}}}"),
        "exactly one of less_than and less_than_or_equal",
    ),
    "a second level": (
        on_column("missing: {threshold: {must_be: 0, additional: {must_be: 1, level: warn}}}"),
        "threshold.additional: found unknown key 'additional'",
    ),
    "a warning that blocks": (
        on_column("missing: {threshold: {level: warn}, attributes: {blocking: true}}"),
        "attributes.blocking: found true beside level warn",
    ),
    "no threshold where there is no default": (
        on_column("aggregate: {function: avg}"),
        "threshold: found nothing",
    ),
    "a threshold without a comparison": (
        on_column("aggregate: {function: avg, threshold: {level: warn}}"),
        "threshold: found no comparison",
    ),
    "an unknown function": (
        on_column("aggregate: {function: median, threshold: {must_be: 1}}"),
        "function: found 'median', expected 'avg'",
    ),
    "an aggregate with validity rules, which Soda does not apply": (
        on_column("aggregate: {function: avg, valid_min: 0, threshold: {must_be: 1}}"),
        "found unknown key 'valid_min'",
    ),
    "an aggregate of a text": (
        on_column("aggregate: {function: sum, threshold: {must_be: 1}}", "city"),
        "function: found sum of a VARCHAR column, expected a numeric column",
    ),
    "rules without a rule": (on_column("invalid:"), "expected at least one rule"),
    "a text rule on a number": (
        on_column("invalid: {valid_min_length: 1}"),
        "valid_min_length: found a DOUBLE column, expected a text column",
    ),
    "a number rule on a text": (
        on_column("invalid: {valid_min: 1}", "city"),
        "valid_min: found a VARCHAR column, expected a numeric column",
    ),
    "values of another type": (
        on_column("invalid: {valid_values: [1, 2]}", "city"),
        "valid_values: found 1 for a VARCHAR column",
    ),
    "an empty list of values": (on_column("invalid: {valid_values: []}", "city"), "valid_values: found []"),
    "a broken regular expression": (
        on_column("invalid: {valid_format: {regex: '[', name: code}}", "city"),
        "valid_format.regex: found",
    ),
    "reference data beside a filter, which Soda joins wrongly": (
        on_column(
            "invalid: {filter: fare > 1, valid_reference_data: {dataset: lake/raw/cities, column: city}}",
            "city",
        ),
        "valid_reference_data without other rules and without a filter",
    ),
    "reference data of an unknown table": (
        on_column("invalid: {valid_reference_data: {dataset: lake/raw/towns, column: city}}", "city"),
        "dataset: found 'lake/raw/towns', expected lake/<schema>/<table> of a declared table",
    ),
    "reference data of a later layer": (
        on_column("invalid: {valid_reference_data: {dataset: lake/staged/stg_trips, column: trip}}"),
        "expected a table of this layer or of one before it",
    ),
    "an unknown column": (
        on_column("missing:", "fair"),
        ":3: columns.0.name: found unknown column 'fair', expected one of trip, rider",
    ),
    "an unknown column of a duplicate": (
        on_table("duplicate: {columns: [trip, tripp]}"),
        "columns: found unknown column 'tripp'",
    ),
    "freshness of something that is no time": (
        on_table("freshness: {column: fare, threshold: {must_be_less_than: 1}}"),
        "freshness.column: found DOUBLE, expected a timestamp or a date",
    ),
    "an unknown unit": (
        on_table("freshness: {column: at, threshold: {unit: week, must_be_less_than: 1}}"),
        "unit: found 'week', expected 'minute', 'hour' or 'day'",
    ),
    "a filter on a metric, which Soda ignores": (
        on_table(
            f"metric: {{name: m, expression: sum(fare), filter: fare > 1, threshold: {{must_be: 1}}, {ATTRIBUTES}}}"
        ),
        "found unknown key 'filter'",
    ),
    "a filter beside a query, which Soda ignores": (
        on_table(f"failed_rows: {{name: f, query: select 1, filter: fare > 1, {ATTRIBUTES}}}"),
        "the filter inside the query",
    ),
    "a filter on the schema, which Soda ignores": (
        on_table("schema: {filter: fare > 1}"),
        "found unknown key 'filter'",
    ),
    "scopes, which never run": (
        "scopes: {late: {name: Late, filter: fare > 1}}\n" + on_table("schema:"),
        ":2: scopes: found unknown key 'scopes'",
    ),
    "a scope on a check": (on_column("missing: {scope: late}"), "found unknown key 'scope'"),
    "a filter on the whole contract": (
        "filter: fare > 1\n" + on_table("schema:"),
        ":2: filter: found unknown key",
    ),
    "variables": ("variables: {x: {default: 1}}\n" + on_table("schema:"), "found unknown key 'variables'"),
    "a reference to the environment": (
        on_column("missing: {filter: \"city = '${env.HOME}'\"}"),
        "text without ${...}",
    ),
    "SQL that is no SQL": (
        on_table(f"failed_rows: {{name: f, expression: (fare, {ATTRIBUTES}}}"),
        ":5: checks.1.failed_rows.expression: found syntax error",
    ),
    "an expression that is no condition": (
        on_table(f"failed_rows: {{name: f, expression: fare + 1, {ATTRIBUTES}}}"),
        "found DOUBLE, expected a BOOLEAN expression",
    ),
    "an expression with a misspelt column": (
        on_table(f"failed_rows: {{name: f, expression: fair < 0, {ATTRIBUTES}}}"),
        'Referenced column "fair" not found',
    ),
    "an aggregate where a row is asked for": (
        on_table(f"failed_rows: {{name: f, expression: max(fare) > 1, {ATTRIBUTES}}}"),
        "WHERE clause cannot contain aggregates",
    ),
    "a query with a misspelt column": (
        on_table(f"failed_rows: {{name: f, query: select fair from raw.trips, {ATTRIBUTES}}}"),
        ':5: checks.1.failed_rows.query: found Binder Error: Referenced column "fair" not found',
    ),
    "a query of an unknown table": (
        on_table(f"failed_rows: {{name: f, query: select * from raw.tripz, {ATTRIBUTES}}}"),
        "found unknown table 'raw.tripz'",
    ),
    "a query of a table without its schema": (
        on_table(f"failed_rows: {{name: f, query: select * from trips, {ATTRIBUTES}}}"),
        "found table 'trips', expected <schema>.<table>",
    ),
    "a query of a later layer": (
        on_table(f"failed_rows: {{name: f, query: select * from staged.stg_trips, {ATTRIBUTES}}}"),
        "of layer staged, expected tables of layer raw or before it",
    ),
    "a query that does more than select": (
        on_table(f"failed_rows: {{name: f, query: drop table raw.trips, {ATTRIBUTES}}}"),
        "expected one select statement",
    ),
    "two statements": (
        on_table(f"failed_rows: {{name: f, query: 'select 1; select 2', {ATTRIBUTES}}}"),
        "found 2 statements, expected one",
    ),
    "a metric that is no number": (
        on_table(
            f"metric: {{name: m, query: select city from raw.trips, threshold: {{must_be: 1}}, {ATTRIBUTES}}}"
        ),
        "found columns city VARCHAR, expected one number",
    ),
    "a percentage of a query without rows tested": (
        on_table(
            "failed_rows: {name: f, query: select * from raw.trips, "
            f"threshold: {{metric: percent, must_be: 0}}, {ATTRIBUTES}}}"
        ),
        "rows_tested_query for a percentage",
    ),
    "no name where the type tells none": (
        on_table(f"failed_rows: {{expression: fare < 0, {ATTRIBUTES}}}"),
        "name: found nothing, expected a name that says what holds",
    ),
    "a name Dagster does not take": (on_column("missing: {name: No fare!}"), "name: found 'No fare!'"),
    "no dimension where the type tells none": (
        on_table("failed_rows: {name: f, expression: fare < 0}"),
        "found no dimension",
    ),
    "two checks of one type and one name": (
        on_column("missing: {filter: fare > 1}\n      - missing: {filter: fare > 2}"),
        ":6: missing: found the name 'no_missing_fare' a second time, "
        "expected a name or qualifier of its own (the first stands on line 5)",
    ),
    "two checks of two types and one name": (
        on_column("missing: {name: row_count}"),
        "row_count: found the name 'row_count' a second time",
    ),
    "a name that a qualifier gives elsewhere": (
        on_column("missing: {qualifier: cash}\n      - duplicate: {name: no_missing_fare_cash}"),
        ":6: duplicate: found the name 'no_missing_fare_cash' a second time",
    ),
    "a column twice": (
        "columns:\n  - name: fare\n    checks: [missing: ]\n  - name: fare\n    checks: [duplicate: ]\n"
        "checks:\n  - row_count:\n",
        ":5: columns.1.name: found 'fare' a second time",
    ),
    "a key twice": (
        on_column("missing: {filter: fare > 1, filter: fare > 2}"),
        ":5: filter: found the key a second time",
    ),
    "two types in one check": (on_column("{missing: , duplicate: }"), "found 2 keys (missing, duplicate)"),
    "no checks": ("columns: []\nchecks: []\n", "checks: found []"),
    "no row count": ("columns: []\nchecks:\n  - schema:\n", "found no row_count check of the run's window"),
    "a row count of some rows only": (
        "columns: []\nchecks:\n  - row_count: {filter: fare > 1}\n",
        "found no row_count check of the run's window",
    ),
    "no YAML": ("columns: [\n", "expected YAML"),
    "a window column that is not declared": (
        "check_attributes: {window_column: when}\n" + on_table("schema:"),
        "trips: found no column 'when', expected the column that tells a row's partition, "
        "or its name as check_attributes.window_column in soda_checks/raw/trips.yml",
    ),
    "a window column that is no time": (
        "check_attributes: {window_column: fare}\n" + on_table("schema:"),
        "found DOUBLE for 'fare'",
    ),
}


@pytest.mark.parametrize("text_and_fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_contract_with_a_fault_is_refused_with_its_place(
    tmp_path: Path, text_and_fault: tuple[str, str]
) -> None:
    text, fault = text_and_fault
    found = faults_of(tmp_path / "soda_checks", text)
    assert any(fault in line for line in found), found


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    found = faults_of(tmp_path / "soda_checks", on_column("mising:\n      - missing: {treshold: {}}"))
    assert len(found) == 2
    assert all(line.startswith("soda_checks/raw/trips.yml:") for line in found)


def test_a_declared_table_needs_a_contract(tmp_path: Path) -> None:
    folder = write_contracts(tmp_path / "soda_checks", {})
    (folder / "raw/cities.yml").unlink()
    with pytest.raises(
        ContractError, match=r"soda_checks/raw/cities.yml:1: found no file, expected the contract"
    ):
        load_contracts(town(), folder)


@pytest.mark.parametrize("name", ["raw/towns.yml", "staged/trips.yml", "raw/trips.yaml", "notes.yml"])
def test_a_contract_needs_a_declared_table(tmp_path: Path, name: str) -> None:
    folder = write_contracts(tmp_path / "soda_checks", {})
    (folder / name).write_text("dataset: lake/raw/towns\n")
    with pytest.raises(ContractError, match=f"soda_checks/{name}:1: found a contract, but no declared table"):
        load_contracts(town(), folder)


def test_the_data_set_agrees_with_the_file(tmp_path: Path) -> None:
    folder = write_contracts(tmp_path / "soda_checks", {})
    (folder / "raw/trips.yml").write_text("dataset: lake/raw/cities\ncolumns: []\nchecks:\n  - row_count:\n")
    with pytest.raises(
        ContractError, match=r"trips.yml:1: dataset: found 'lake/raw/cities', expected 'lake/raw/trips'"
    ):
        load_contracts(town(), folder)


def test_a_declared_type_must_be_one_of_duckdb(tmp_path: Path) -> None:
    folder = write_contracts(tmp_path / "soda_checks", {})
    trips = [*TRIPS[:3], "fare number_of_coins", *TRIPS[4:]]
    with pytest.raises(
        ContractError, match=r"models.yml: trips.columns: found .*number_of_coins.*expected DuckDB"
    ):
        load_contracts(town(trips=trips), folder)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = write_contracts(tmp_path / "soda_checks", {})
    (folder / "raw/trips.yml").write_bytes(b"dataset: \xff\n")
    with pytest.raises(ContractError, match=r"raw/trips.yml:1: found bytes that are not UTF-8 at 9"):
        load_contracts(town(), folder)
