"""Every type of check measures what it says, and its SQL finds the very rows it counted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestration.partitions import Window
from orchestration.quality.samples import fetch_sample
from orchestration.quality.statements import failed_rows_sql, measuring_sql
from orchestration.quality.verification import Verdict
from tests.unit.quality.town import NOW, Town

FIRST = Window(datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2013, 1, 2, 5, tzinfo=UTC))
SECOND = Window(FIRST.end, FIRST.end + timedelta(days=1))

SPOIL = (
    "update raw.trips set rider = null where trip in (1, 9)",
    "update raw.trips set rider = '' where trip = 2",
    "update raw.trips set city = 'Paris' where trip in (3, 10)",
    "update raw.trips set city = null where trip = 4",
    "update raw.trips set fare = -2 where trip = 5",
    "update raw.trips set fare = 7000.5 where trip = 6",
    "insert into raw.trips select * from raw.trips where trip = 7",
)

CONTRACT = """
columns:
  - name: rider
    checks:
      - missing:
      - missing: {qualifier: listed, missing_values: [''], filter: seats < 3 or seats > 2}
      - missing: {qualifier: formed, missing_format: {regex: ^$, name: empty}}
      - missing: {qualifier: share, threshold: {metric: percent, must_be_less_than: 1}}
      - duplicate:
      - invalid: {valid_min_length: 1, valid_max_length: 7}
      - invalid: {qualifier: exact, valid_length: 7}
  - name: city
    checks:
      - invalid: {valid_values: [Oslo, Rome]}
      - invalid: {qualifier: not, invalid_values: [Paris]}
      - invalid: {qualifier: form, valid_format: {regex: '^[OR]', name: initials}}
      - invalid: {qualifier: noform, invalid_format: {regex: ris$, name: ending}}
      - invalid: {qualifier: known, valid_reference_data: {dataset: lake/raw/cities, column: city}}
      - invalid: {qualifier: share, valid_values: [Oslo], threshold: {metric: percent, must_be: 0}}
      - duplicate: {qualifier: in_oslo, filter: city = 'Oslo' or city = 'Rome'}
  - name: fare
    checks:
      - invalid: {valid_min: 0, valid_max: 100}
      - invalid: {qualifier: list, valid_values: [1.5, 3, 4.5, 6, 9, 10.5, 12, 13.5, 15]}
      - aggregate: {function: sum, threshold: {must_be: 0}}
      - aggregate: {function: min, qualifier: known, filter: city = 'Oslo' or city = 'Rome', threshold: {must_be: 0}}
  - name: trip
    checks:
      - duplicate: {name: unique_trip, threshold: {metric: percent, must_be: 0}}
checks:
  - row_count: {threshold: {must_be: 0}}
  - row_count: {qualifier: in_oslo, filter: city = 'Oslo' or fare < 0, threshold: {must_be: 0}}
  - duplicate: {columns: [city, seats]}
  - freshness: {column: at, threshold: {unit: hour, must_be: 0}}
  - failed_rows: {name: cheap, expression: fare < 0 or fare > 100, filter: seats < 9 or seats > 8,
      attributes: {dimension: accuracy}}
  - failed_rows: {name: crowded, attributes: {dimension: accuracy},
      query: "select city, count(*) as copies from raw.trips group by city having count(*) > 1"}
  - failed_rows: {name: strangers, attributes: {dimension: consistency},
      query: "select t.* from raw.trips as t
        where not exists (select 1 from lake.raw.cities as c where c.city = t.city)"}
  - metric: {name: total, expression: sum(seats), threshold: {must_be: 0}, attributes: {dimension: accuracy}}
  - metric: {name: average, query: select avg(fare) from raw.trips, threshold: {must_be: 0},
      attributes: {dimension: accuracy}}
"""


def of_town(town: Town, window: Window | None) -> dict[str, tuple[Verdict, Any, Any]]:
    """Verdict, failing rows counted by the check's own SQL, and the value its measuring SQL gives."""
    verdicts = town.verify(CONTRACT, window)
    contract = town.contract(CONTRACT)
    found = {}
    with town.session() as con:
        for name, verdict in verdicts.items():
            scope = None if verdict.check.whole_table else window
            failing = failed_rows_sql(contract.target, verdict.check, scope)
            if failing is None:
                text = measuring_sql(contract.target, verdict.check, scope)
                found[name] = (verdict, None, con.execute(text).fetchall()[0][0])
            elif verdict.check.type == "duplicate":
                text = f"select coalesce(sum(copies - 1), 0) from ({failing})"
                found[name] = (verdict, con.execute(text).fetchall()[0][0], None)
            else:
                found[name] = (
                    verdict,
                    con.execute(f"select count(*) from ({failing})").fetchall()[0][0],
                    None,
                )
    return found


@pytest.mark.parametrize("window", [None, FIRST, SECOND], ids=["whole", "first day", "second day"])
def test_each_checks_sql_agrees_with_what_soda_measured(town: Town, window: Window | None) -> None:
    town.run(*SPOIL)
    found = of_town(town, window)
    assert len(found) == 28
    for name, (verdict, failing, measured) in found.items():
        assert verdict.evaluated, (name, verdict.reason)
        if failing is not None:
            assert verdict.failed_rows == failing, name
        elif name != "fresh_at":
            assert verdict.value == pytest.approx(measured), name


def test_the_whole_table_measured(town: Town) -> None:
    town.run(*SPOIL)
    values = {name: (v.value, v.rows_tested) for name, (v, _, _) in of_town(town, None).items()}
    assert values["no_missing_rider"] == (2, 11)
    assert values["no_missing_rider_listed"] == (3, 11)
    assert values["no_missing_rider_share"] == (pytest.approx(200 / 11), 11)
    assert values["valid_city"] == (2, 11)
    assert values["valid_city_known"] == (2, 11)
    assert values["valid_rider"] == (2, 11)
    assert values["unique_rider"] == (1, 11)
    assert values["unique_trip"] == (pytest.approx(100 / 11), 11)
    assert values["fresh_at"] == ((NOW - datetime(2013, 1, 2, 12, tzinfo=UTC)) / timedelta(hours=1), 11)
    assert values["cheap"] == (2, 11)
    assert values["crowded"] == (3, None)
    assert values["strangers"] == (3, None)


def test_a_window_sees_only_its_rows_in_every_check_and_query(town: Town) -> None:
    town.run(*SPOIL)
    values = {name: v.value for name, (v, _, _) in of_town(town, SECOND).items()}
    assert values["row_count"] == 2
    assert values["no_missing_rider"] == 1
    assert values["valid_city_known"] == 1
    assert values["crowded"] == 0
    assert values["strangers"] == 1
    assert values["average"] == pytest.approx((13.5 + 15) / 2)
    assert values["total"] == 3


def test_lake_in_front_of_a_name_and_scope_table_mean_the_whole_table(town: Town) -> None:
    text = """
    columns: []
    checks:
      - row_count:
      - row_count: {qualifier: ever, attributes: {scope: table}}
      - metric: {name: seen, query: select count(*) from raw.trips, threshold: {must_be: 2},
          attributes: {dimension: accuracy}}
      - metric: {name: ever, query: select count(*) from lake.raw.trips, threshold: {must_be: 10},
          attributes: {dimension: accuracy}}
      - metric: {name: all_seen, query: select count(*) from raw.trips, threshold: {must_be: 10},
          attributes: {dimension: accuracy, scope: table}}
      - failed_rows: {name: beyond, threshold: {must_be: 2}, attributes: {dimension: accuracy},
          expression: trip > (select max(trip) - 2 from lake.raw.trips)}
    """
    verdicts = town.verify(text, SECOND)
    assert {name: v.value for name, v in verdicts.items()} == {
        "row_count": 2,
        "row_count_ever": 10,
        "seen": 2,
        "ever": 10,
        "all_seen": 10,
        "beyond": 2,
    }
    assert all(v.passed for v in verdicts.values())


def test_a_table_of_a_later_layer_sees_the_window_of_both(town: Town) -> None:
    text = """
    columns: []
    checks:
      - row_count:
      - metric: {name: rows_not_in_raw, threshold: {must_be: 0}, attributes: {dimension: consistency},
          query: select (select count(*) from staged.stg_trips) - (select count(*) from raw.trips)}
    """
    town.run("delete from raw.trips where trip = 1")
    assert town.verify(text, SECOND, place="staged/stg_trips")["rows_not_in_raw"].passed
    failed = town.verify(text, FIRST, place="staged/stg_trips")["rows_not_in_raw"]
    assert (failed.value, failed.passed) == (1, False)


def test_a_sample_is_short_in_order_and_masks_what_is_classified(town: Town) -> None:
    town.run(
        "insert into raw.trips select i, 'secret-' || i, 'Paris', 1, 1, '2013-01-01 12:00:00+00' from range(99, 20, -1) t(i)"
    )
    contract = town.contract(CONTRACT)
    check = next(c for c in contract.checks if c.name == "valid_city")
    with town.session() as con:
        sql = failed_rows_sql(contract.target, check, None) or ""
        sample = fetch_sample(con, sql).shown(check.shown)
    assert sample is not None
    records = [record.data for record in sample.records]
    trips = [record["trip"] for record in records]
    assert trips == sorted(set(trips))
    assert len(trips) == 10
    assert set(trips) < set(range(21, 100))
    assert all(record["rider"].startswith("***") and len(record["rider"]) == 7 for record in records)
    assert "secret" not in str(sample)
    assert len({record["rider"] for record in records}) > 1


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select trip, city from raw.trips where trip < 3", [1, 2]),
        ("select trip, trip from raw.trips where trip < 3 -- both", [1, 2]),
        ("select trip from raw.trips where trip < 0", []),
    ],
)
def test_a_query_of_ones_own_runs_once_for_count_and_sample(town: Town, query: str, rows: list[int]) -> None:
    text = f"""
    columns: []
    checks:
      - row_count:
      - failed_rows: {{name: low, query: '{query}', attributes: {{dimension: accuracy}}}}
    """
    verdict = town.verify(text)["low"]
    assert verdict.value == len(rows)
    assert verdict.sample is not None
    assert [row[0] for row in verdict.sample.rows] == rows


def test_every_kind_of_check_finds_nan(town: Town) -> None:
    town.run(
        "create or replace table raw.trips as "
        "select * replace (case when trip <= 3 then 'nan'::double else 1.0 end as fare) from raw.trips, range(20)"
    )
    verdicts = town.verify("""
        columns: []
        checks:
          - row_count:
          - failed_rows: {name: by_expression, expression: fare <> 1.0, attributes: {dimension: accuracy}}
          - failed_rows: {name: by_query, query: select * from raw.trips where fare <> 1.0,
              attributes: {dimension: accuracy}}
          - metric: {name: by_metric, query: select count(*) from raw.trips where fare <> 1.0,
              threshold: {must_be: 0}, attributes: {dimension: accuracy}}
    """)
    assert verdicts.pop("row_count").passed
    assert {name: (v.passed, v.value) for name, v in verdicts.items()} == dict.fromkeys(
        ("by_expression", "by_query", "by_metric"), (False, 60)
    )
