"""Where Soda alone lets bad data through, the platform does not."""

import logging
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.quality.results import check_result
from orchestration.quality.verification import verify
from tests.unit.quality.town import NOW, Town, write_contracts

SIMPLE = """
columns:
  - name: rider
    checks:
      - missing:
  - name: fare
    checks:
      - missing:
      - aggregate: {function: avg, threshold: {must_be_less_than: 100}}
checks:
  - row_count:
  - failed_rows: {name: cheap, expression: fare < 0, attributes: {dimension: accuracy}}
"""


def test_a_table_that_does_not_exist_fails_every_check(town: Town) -> None:
    town.run("drop table raw.trips")
    verdicts = town.verify(SIMPLE + "  - schema:\n")
    assert len(verdicts) == 6
    for verdict in verdicts.values():
        assert not verdict.passed
        assert verdict.reason == "table lake.raw.trips does not exist"


def test_a_missing_column_fails_its_own_checks_and_leaves_the_others_evaluated(town: Town) -> None:
    town.run("alter table raw.trips drop column rider")
    verdicts = town.verify(SIMPLE)
    assert verdicts["no_missing_rider"].reason == "lake.raw.trips has no column rider"
    assert {name for name, v in verdicts.items() if v.passed} == {
        "no_missing_fare",
        "avg_fare",
        "row_count",
        "cheap",
    }


def test_a_column_that_cannot_be_computed_with_fails_its_own_checks_only(town: Town) -> None:
    town.run(
        "create or replace table raw.trips as select * replace (fare::varchar as fare) from raw.trips",
        "update raw.trips set fare = 'secret' where trip = 1",
    )
    verdicts = town.verify(SIMPLE)
    assert not verdicts["avg_fare"].evaluated
    assert not verdicts["cheap"].evaluated
    assert {name for name, v in verdicts.items() if v.passed} == {
        "no_missing_rider",
        "no_missing_fare",
        "row_count",
    }


def test_the_reason_of_a_failure_quotes_no_value(town: Town) -> None:
    town.run("update raw.trips set city = 'secret' where trip = 1", "delete from raw.trips where trip > 1")
    text = """
    columns: []
    checks:
      - row_count:
      - failed_rows: {name: f, expression: "city::integer > 1", attributes: {dimension: accuracy}}
    """
    reason = town.verify(text)["f"].reason
    assert (
        reason
        == "Conversion Error: Could not convert string '***' to INT32 when casting from source column city"
    )


@pytest.mark.parametrize(
    "check",
    [
        "metric: {name: m, expression: max(fare), threshold: {must_be_less_than: 100}, %s}",
        "metric: {name: m, query: select max(fare) from raw.trips, threshold: {must_be_less_than: 100}, %s}",
        "metric: {name: m, query: select fare from raw.trips where trip > 99, threshold: {must_be_less_than: 9}, %s}",
        'metric: {name: m, expression: "sqrt(-sum(seats))", threshold: {must_not_be: 1}, %s}',
        "metric: {name: m, expression: \"max('nan'::double)\", threshold: {must_not_be: 1}, %s}",
        'failed_rows: {name: m, expression: "city::integer > 1", %s}',
        'failed_rows: {name: m, query: "select * from raw.trips where city::integer > 1", %s}',
    ],
)
def test_what_gives_no_number_fails(town: Town, check: str) -> None:
    town.run("update raw.trips set fare = null")
    text = f"columns: []\nchecks:\n  - row_count:\n  - {check}\n" % "attributes: {dimension: accuracy}"
    verdicts = town.verify(text)
    assert not verdicts["m"].passed
    assert not verdicts["m"].evaluated
    assert verdicts["m"].reason
    assert verdicts["row_count"].passed


def test_an_empty_table_fails_and_so_do_its_averages(town: Town) -> None:
    town.run("delete from raw.trips")
    verdicts = town.verify(SIMPLE)
    assert not verdicts["row_count"].passed
    assert not verdicts["avg_fare"].passed


def test_an_empty_window_is_no_fault_where_the_row_count_allows_it(town: Town) -> None:
    town.run("delete from raw.trips")
    verdicts = town.verify(
        SIMPLE.replace("- row_count:", "- row_count: {threshold: {must_be_less_than: 50}}")
    )
    assert all(v.passed for v in verdicts.values())
    assert verdicts["avg_fare"].reason == "no rows to test, which row_count allows"


def test_freshness_of_nothing_fails(town: Town) -> None:
    town.run("delete from raw.trips")
    text = "columns: []\nchecks:\n  - row_count:\n  - freshness: {column: at, threshold: {must_be_less_than: 9}}\n"
    assert not town.verify(text)["fresh_at"].passed


def test_freshness_is_measured_on_the_platforms_clock(town: Town) -> None:
    text = """
    columns: []
    checks:
      - row_count:
      - freshness: {column: at, threshold: {unit: day, must_be_less_than: 30}}
    """
    assert town.verify(text, now=NOW)["fresh_at"].passed
    assert not town.verify(text, now=NOW + timedelta(days=1))["fresh_at"].passed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("alter table raw.trips alter column seats type bigint", "column seats is BIGINT, declared INTEGER"),
        ("alter table raw.trips drop column seats", "column seats is missing"),
        ("alter table raw.trips add column tip double", "column tip is not declared"),
        (
            "alter table raw.trips rename column seats to places",
            "column seats is missing; column places is not",
        ),
    ],
)
def test_a_schema_that_is_only_alike_fails(town: Town, change: str, reason: str) -> None:
    text = "columns: []\nchecks:\n  - row_count:\n  - schema:\n"
    assert town.verify(text)["schema"].passed
    town.run(change)
    verdict = town.verify(text)["schema"]
    assert not verdict.passed
    assert verdict.reason.startswith(reason)


def test_columns_in_another_order_fail_unless_allowed(town: Town) -> None:
    town.run("create or replace table raw.trips as select rider, * exclude (rider) from raw.trips")
    text = "columns: []\nchecks:\n  - row_count:\n  - schema:\n"
    assert "columns are ordered rider, trip" in town.verify(text)["schema"].reason
    assert town.verify(text.replace("schema:", "schema: {allow_other_column_order: true}"))["schema"].passed


def test_the_columns_that_landing_adds_are_no_surprise_in_raw(town: Town) -> None:
    town.run("alter table raw.trips add column _row_number bigint")
    assert town.verify("columns: []\nchecks:\n  - row_count:\n  - schema:\n")["schema"].passed


def test_a_table_of_that_name_in_another_database_fools_no_check(town: Town) -> None:
    known = "invalid: {valid_reference_data: {dataset: lake/raw/cities, column: city}}"
    text = SIMPLE.replace(
        "checks:\n  - row_count", f"  - name: city\n    checks: [{{{known}}}]\nchecks:\n  - row_count"
    )
    contract = town.contract(text + "  - schema:\n")
    with town.session() as con:
        con.execute("attach ':memory:' as other")
        con.execute("create schema other.raw")
        con.execute("create table other.raw.trips as select null::varchar as rider, -1.0 as fare, 1 as extra")
        con.execute("create table other.raw.cities as select 'Paris' as city")
        con.execute("use other")
        verdicts = verify(con, contract, contract.checks, None, NOW)
    assert len(verdicts) == 7
    assert all(v.passed for v in verdicts), [v for v in verdicts if not v.passed]
    assert next(v for v in verdicts if v.check.name == "row_count").value == 10


def test_a_filter_with_or_filters_what_it_says(town: Town) -> None:
    text = """
    columns:
      - name: rider
        checks:
          - missing: {filter: trip = 1 or trip = 2}
    checks:
      - row_count:
      - failed_rows: {name: f, expression: trip = 5 or trip = 6, filter: trip = 1 or trip = 5,
          attributes: {dimension: accuracy}}
    """
    town.run("update raw.trips set rider = null where trip in (2, 3)")
    verdicts = town.verify(text)
    assert verdicts["no_missing_rider"].value == 1
    assert verdicts["f"].value == 1


def test_exactly_one_verdict_for_each_check_whatever_happens(town: Town) -> None:
    contract = town.contract(SIMPLE)
    with town.session() as con:
        verdicts = verify(con, contract, contract.checks, None, NOW)
        assert [v.check.name for v in verdicts] == [c.name for c in contract.checks]
        results = [check_result(con, contract, v, None) for v in verdicts]
    assert [r.check_name for r in results] == [c.name for c in contract.checks]


def test_a_foreign_error_in_the_log_is_none_of_a_checks_business(town: Town) -> None:
    contract = town.contract(SIMPLE)
    stop = threading.Event()

    def complain() -> None:
        while not stop.is_set():
            logging.getLogger("somebody").error("my coffee is cold")

    thread = threading.Thread(target=complain)
    thread.start()
    try:
        with town.session() as con:
            verdicts = verify(con, contract, contract.checks, None, NOW)
    finally:
        stop.set()
        thread.join()
    assert all(v.passed for v in verdicts)


def test_the_errors_of_one_thread_are_none_of_anothers(town: Town) -> None:
    bad = town.contract(
        """
        columns: []
        checks:
          - row_count:
          - failed_rows: {name: f, expression: "city::integer > 1", attributes: {dimension: accuracy}}
        """
    )
    good = town.contract(SIMPLE)
    stop = threading.Event()

    def fail() -> None:
        with town.session() as con:
            while not stop.is_set():
                assert [v.passed for v in verify(con, bad, bad.checks, None, NOW)] == [True, False]

    threads = [threading.Thread(target=fail) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with town.session() as con:
            passed = [v.passed for _ in range(6) for v in verify(con, good, good.checks, None, NOW)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(passed)


def test_verifying_leaves_no_handler_and_no_log_behind(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    def handlers() -> tuple[list[logging.Handler], list[logging.Handler], bool]:
        soda = logging.getLogger("soda")
        return list(logging.root.handlers), list(soda.handlers), soda.propagate

    before = handlers()
    town.run("update raw.trips set city = 'secret'")
    town.verify(
        "columns: []\nchecks:\n  - row_count:\n"
        '  - failed_rows: {name: f, expression: "city::integer > 1", attributes: {dimension: accuracy}}\n'
    )
    assert handlers() == before
    assert "secret" not in caplog.text


def test_a_file_of_variables_in_the_working_directory_changes_nothing(town: Town, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / ".env").write_text("SODA_INSTRUCTION_ID=1\nGROUNDWORK_SURPRISE=1\n")
    write_contracts(town.settings.soda_checks_dir, {"raw/trips": SIMPLE})
    code = """
import os
import sys
from pathlib import Path
from tests.unit.quality.town import NOW, Town, build_town
from orchestration.quality import load_contracts
town = build_town(Path(sys.argv[1]) / "again")
from tests.unit.quality.town import ROW_COUNT
before = dict(os.environ)
passed = [v.passed for v in town.verify(ROW_COUNT).values()]
print(passed, dict(os.environ) == before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[True] True"


@pytest.mark.parametrize(
    ("level", "severity", "description"),
    [("warn", "WARN", "Not evaluated: "), ("fail", "ERROR", "Not evaluated, so failed: ")],
)
def test_a_check_that_could_not_be_evaluated_keeps_its_level(
    town: Town, level: str, severity: str, description: str
) -> None:
    text = SIMPLE.replace(
        "- missing:\n  - name: fare", f"- missing: {{threshold: {{level: {level}}}}}\n  - name: fare"
    )
    town.run("alter table raw.trips drop column rider")
    contract = town.contract(text)
    with town.session() as con:
        verdict = verify(con, contract, contract.checks, None, NOW)[0]
        result = check_result(con, contract, verdict, None)
    assert verdict.check.warns == (level == "warn")
    assert (result.passed, result.severity.value) == (False, severity)
    assert result.description == f"{description}lake.raw.trips has no column rider."
