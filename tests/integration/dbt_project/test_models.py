from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from orchestration.transformation.invocation import DbtRunError
from tests.integration.dbt_project.recorded_days import RecordedDays, days, midnight

# Clocks go forward on Sunday, 10 March.
MONDAY, FRIDAY, SATURDAY, NEXT_MONDAY = (date(2013, 3, day) for day in (4, 8, 9, 11))
FLIGHT_VIEWS = (
    *("origin_congestion", "carrier_punctuality", "route_punctuality"),
    *("scheduled_flight_history", "aircraft_rotation"),
)


def test_the_rules_of_the_models_hold(lake: RecordedDays) -> None:
    """The unit tests that stand beside the models, on tables that exist."""
    lake.land(MONDAY, MONDAY)
    lake.run()
    lake.run(select=["test_type:unit"], command="test")


def test_day_by_day_is_the_same_as_all_days_at_once_and_twice_the_same_as_once(lake: RecordedDays) -> None:
    lake.land(MONDAY, SATURDAY)
    lake.run(MONDAY, SATURDAY)
    for day in days(SATURDAY, NEXT_MONDAY):
        following = date.fromordinal(day.toordinal() + 1)
        lake.land(day, following)
        lake.run(day, following)
    by_day = lake.hashes()
    assert {name for _, name in by_day} >= set(FLIGHT_VIEWS)
    assert all(not value.startswith("0-") for value in by_day.values())

    before = lake.newest_snapshot()
    lake.run(MONDAY, NEXT_MONDAY)
    changes = lake.rows(f"select changes from ducklake_snapshots('lake') where snapshot_id > {before}")
    assert [c for (c,) in changes if c] == [], "a run over the same days has nothing to write"

    lake.clear()
    lake.land(MONDAY, NEXT_MONDAY)
    lake.run(MONDAY, NEXT_MONDAY)
    assert lake.hashes() == by_day


def test_keys_are_unique_and_nothing_is_known_before_it_happened(lake: RecordedDays) -> None:
    lake.land(MONDAY, date(2013, 3, 5))
    lake.run()
    lake.run(select=["test_type:data"], command="test")
    for table in ("staged.stg_flights", "staged.stg_weather"):
        assert lake.rows(f"select count(*) from {table} where known_at < event_at or known_at is null") == [
            (0,)
        ]


def test_no_flight_is_shorter_from_gate_to_gate_than_in_the_air(lake: RecordedDays) -> None:
    """Were a zone, a day or daylight saving wrong, some flight would be."""
    lake.land(FRIDAY, NEXT_MONDAY)
    lake.run(select=["+stg_flights"])
    found = lake.rows(
        "select count(*), count(*) filter (epoch(arrived_at) - epoch(departed_at) < air_time_min * 60),"
        " count(*) filter (epoch(arrived_at) - epoch(departed_at) > air_time_min * 60 + 3 * 3600)"
        " from staged.stg_flights where status = 'completed'"
    )
    assert found[0][0] > 2_000
    assert found[0][1:] == (0, 0)


def late_copy(flight_id: str, delivered_at: datetime) -> str:
    """SQL that lands a flight again under another number, delivered late."""
    return f"""
        insert into raw.flights
        select * replace (9999 as flight, timestamptz '2026-01-05' as _ingested_at,
            timestamptz '{delivered_at}' as _late_at)
        from raw.flights
        where printf('%04d-%02d-%02d-%s-%d-%s', year, month, day, carrier, flight, origin) = '{flight_id}'"""


def test_a_late_flight_makes_new_rows_and_changes_none_of_before(lake: RecordedDays) -> None:
    delivered_at = datetime(2013, 3, 8, 15, 0, 30, tzinfo=UTC)
    lake.land(MONDAY, SATURDAY)
    lake.run(MONDAY, SATURDAY, select=["+stg_flights", *FLIGHT_VIEWS])
    flight_id = lake.rows(
        "select flight_id from staged.stg_flights where status = 'completed' and tailnum is not null"
        f" and event_at < '{midnight(date(2013, 3, 5))}' order by flight_id limit 1"
    )[0][0]

    def known_before(view: str) -> list[tuple[object, ...]]:
        return lake.rows(f"from features.{view} where known_at < '{delivered_at}' order by all")

    def rows_at_delivery(view: str) -> object:
        return lake.rows(f"select count(*) from features.{view} where known_at = '{delivered_at}'")[0][0]

    before = {view: known_before(view) for view in FLIGHT_VIEWS}
    lake.write(late_copy(str(flight_id), delivered_at))
    lake.run(FRIDAY, SATURDAY, select=["stg_flights", *FLIGHT_VIEWS])

    staged = lake.rows("select known_at from staged.stg_flights where flight_number = 9999")
    assert staged == [(delivered_at,)], "a row that arrived since the last run is staged, whatever its day"
    for view in FLIGHT_VIEWS:
        assert known_before(view) == before[view]
    assert rows_at_delivery("carrier_punctuality") == 1
    assert rows_at_delivery("route_punctuality") == 1
    assert rows_at_delivery("aircraft_rotation") == 0, "an older leg does not replace a newer one"


def test_what_was_corrected_or_has_vanished_is_so_downstream(lake: RecordedDays) -> None:
    """A corrected row of an earlier day, and one of the window's own day that is no more."""
    lake.land(MONDAY, FRIDAY)
    lake.run(MONDAY, FRIDAY, select=["+stg_flights", "carrier_punctuality"])
    thursday = date(2013, 3, 7)
    corrected, vanished = (
        lake.rows(
            "select flight_id from staged.stg_flights where status = 'completed'"
            f" and event_at {where} '{midnight(thursday)}' order by event_at, flight_id limit 1"
        )[0][0]
        for where in ("<", ">=")
    )
    key = "printf('%04d-%02d-%02d-%s-%d-%s', year, month, day, carrier, flight, origin)"
    lake.write(
        f"update raw.flights set air_time = 1, _ingested_at = '2026-01-02' where {key} = '{corrected}'",
        f"delete from raw.flights where {key} = '{vanished}'",
    )
    count = lake.rows("select count(*) from staged.stg_flights")[0][0]

    lake.run(thursday, FRIDAY, select=["stg_flights", "carrier_punctuality"])

    assert lake.rows(f"select air_time_min from staged.stg_flights where flight_id = '{corrected}'") == [(1,)]
    assert lake.rows(f"from staged.stg_flights where flight_id = '{vanished}'") == []
    assert lake.rows("select count(*) from staged.stg_flights")[0][0] == int(str(count)) - 1


def test_a_run_that_fails_at_its_very_end_leaves_nothing_visible(lake: RecordedDays, scratch: Path) -> None:
    """Neither of the first build, nor of a later one that also adds a column; no helper tables either."""
    lake.land(MONDAY, FRIDAY)
    with lake.changed_project(scratch) as project:
        model, sheet = (project / "models" / "staged" / f"stg_airlines.{kind}" for kind in ("sql", "yml"))
        sql, yml = model.read_text(), sheet.read_text()
        fails = sql.replace("config(", "config(post_hook=\"select error('power cut')\", ", 1)

        model.write_text(fails)
        with pytest.raises(DbtRunError, match="power cut"):
            lake.run(select=["stg_airlines"])
        assert lake.tables() == set()

        model.write_text(sql)
        lake.run(select=["stg_airlines"])
        built = lake.rows("from staged.stg_airlines order by all")

        new_column = "\n    carrier_name || '!' as loud_name,\n    held_from as event_at"
        head, tail = sql.rsplit("\n    held_from as event_at", 1)
        described = (
            "      - name: loud_name\n        data_type: varchar\n        description: Its name, loud.\n"
        )
        sheet.write_text(yml.replace("      - name: event_at\n", described + "      - name: event_at\n", 1))
        model.write_text(fails.replace(sql.split("\n", 1)[1], (head + new_column + tail).split("\n", 1)[1]))
        with pytest.raises(DbtRunError, match="power cut"):
            lake.run(select=["stg_airlines"])
        assert lake.rows("from staged.stg_airlines order by all") == built

        model.write_text(head + new_column + tail)
        lake.run(select=["stg_airlines"])
        assert lake.rows("select distinct loud_name = carrier_name || '!' from staged.stg_airlines") == [
            (True,)
        ]
        assert lake.tables() == {("staged", "stg_airlines")}


def test_a_dimension_keeps_the_rows_of_the_past(lake: RecordedDays) -> None:
    lake.land(MONDAY, MONDAY)
    selection = ["stg_planes", "aircraft_attributes"]
    lake.run(select=selection)
    history = (
        "select seats, known_at from features.aircraft_attributes where tailnum = 'N10156' order by known_at"
    )
    (seats, since), *_ = lake.rows(history)
    total = lake.rows("select count(*) from features.aircraft_attributes")

    changed_at = datetime(2013, 6, 1, tzinfo=UTC)
    change = f"_ingested_at = '2026-01-02', _late_at = '{changed_at}' where tailnum = 'N10156'"
    lake.write(f"update raw.planes set seats = 50, {change}")
    lake.run(select=selection)
    lake.run(select=selection)
    assert lake.rows(history) == [(seats, since), (50, changed_at)]

    lake.write(f"update raw.planes set speed = 400, {change.replace('2013-06', '2013-07')}")
    lake.run(select=selection)
    assert lake.rows(history) == [(seats, since), (50, changed_at)], "no attribute of the view has changed"
    assert lake.rows("select count(*) - 1 from features.aircraft_attributes") == total


def test_a_window_with_one_end_is_refused(lake: RecordedDays) -> None:
    lake.land(MONDAY, MONDAY)
    with pytest.raises(DbtRunError, match="expected both or neither"):
        lake.dbt.cli(["run", "--select", "stg_flights", "--vars", "partition_start: '2013-03-04'"]).wait()
