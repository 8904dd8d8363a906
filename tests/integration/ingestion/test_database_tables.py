"""Tables of SQLite and PostgreSQL databases, read whole or from a cursor on."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg2
import pytest

from orchestration.declarations import Table
from orchestration.ingestion.faults import IngestFault
from tests.integration.ingestion.landing_ground import ALL, PARTITION, Ground, days, source_table

COLUMNS = {"id": "bigint", "changed": "timestamptz", "name": "varchar"}
Execute = Callable[[str], None]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, ground: Ground) -> tuple[str, Execute]:
    """An address and a way to run SQL there."""
    if request.param == "sqlite":
        path = ground.root / "source.db"

        def run_sqlite(statement: str) -> None:
            with closing(sqlite3.connect(path)) as con:
                con.executescript(statement)

        return f"sqlite://{path}", run_sqlite
    url = request.getfixturevalue("postgres_url")

    def run_postgres(statement: str) -> None:
        with closing(psycopg2.connect(url)) as con, con, con.cursor() as cursor:
            cursor.execute(statement)

    return url, run_postgres


def readings(uri: str, **ingest: Any) -> Table:
    columns = ingest.pop("columns", COLUMNS)
    return source_table(columns, uri=uri, format="table", table="t", **ingest)


def make(run: Execute) -> None:
    run("create table t (id bigint, changed timestamp, name text)")
    run("insert into t values (1, '2024-01-01 10:00:00', 'a'), (2, '2024-01-02 10:00:00', 'b')")


def test_a_whole_table_lands_and_follows_every_change(ground: Ground, database: tuple[str, Execute]) -> None:
    uri, run = database
    make(run)
    ground.land(readings(uri))
    assert ground.rows("id, name, _row_number") == [(1, "a", 1), (2, "b", 2)]
    assert ground.ask("select distinct length(_source_sha256) from raw.readings") == [(64,)]
    assert ground.land(readings(uri)).landings == []
    run(
        "delete from t where id = 1; update t set name = 'B' where id = 2; insert into t values (3, null, 'c')"
    )
    (landing,) = ground.land(readings(uri)).landings
    assert (landing.rows, landing.removed, landing.unchanged) == (2, 2, 0)
    assert sorted(ground.rows("id, name")) == [(2, "B"), (3, "c")]


def test_a_cursor_reads_on_where_it_was_ties_included(ground: Ground, database: tuple[str, Execute]) -> None:
    uri, run = database
    make(run)
    table = readings(uri, cursor="changed")
    assert ground.land(table).total("file_rows") == 2
    assert ground.land(table).landings == []
    run("insert into t values (3, '2024-01-02 10:00:00', 'c'), (4, '2024-01-03 10:00:00', 'd')")
    (landing,) = ground.land(table).landings
    assert (landing.file_rows, landing.rows, landing.removed) == (3, 2, 0)
    run("update t set name = 'A', changed = '2024-01-04 10:00:00' where id = 1")
    ground.land(table)
    assert sorted(ground.rows("id, name, _run_id")) == [
        (1, "A", "run-4"), (2, "b", "run-1"), (3, "c", "run-3"), (4, "d", "run-3"),
    ]  # fmt: skip


def test_a_partitioned_table_reads_the_window_and_quarantines_what_is_in_none(
    ground: Ground, database: tuple[str, Execute]
) -> None:
    uri, run = database
    make(run)
    table = readings(
        uri, cursor="id", event_time="changed", partition=PARTITION, max_quarantined_share=0.9
    )  # fmt: skip
    ground.land(table, days(2))
    assert ground.rows("id") == [(2,)]
    ground.land(table, ALL)
    assert sorted(ground.rows("id")) == [(1,), (2,)]
    run(
        "insert into t values (3, '2024-01-01 11:00:00', 'c'), (4, '2025-01-01 00:00:00', 'd'), (5, null, 'e')"
    )
    ground.land(table, days(1))
    ground.land(table, days(2))
    assert sorted(ground.rows("id")) == [(1,), (2,), (3,)]
    assert ground.ask(
        "select column_name, partition_day::varchar from quarantine.readings order by line, partition_day"
    ) == [("changed", "2025-01-01"), ("changed", None)]


def test_values_arrive_without_loss(ground: Ground, database: tuple[str, Execute]) -> None:
    uri, run = database
    run("create table t (id bigint, f double precision, n numeric)")
    run("insert into t values (9007199254740993, 0.30000000000000004, 12.25)")
    ground.land(readings(uri, columns={"id": "bigint", "f": "double", "n": "decimal(20, 4)"}))
    assert ground.rows("id, f, n") == [(9007199254740993, 0.30000000000000004, Decimal("12.2500"))]


def test_values_that_the_declared_type_cannot_hold_go_to_quarantine(
    ground: Ground, database: tuple[str, Execute]
) -> None:
    uri, run = database
    run("create table t (id bigint, n numeric)")
    run("insert into t values (1, 1.5), (2, 2), (3000000000, 3)")
    ground.land(readings(uri, columns={"id": "integer", "n": "integer"}, max_quarantined_share=0.7))
    assert ground.rows("id, n") == [(2, 2)]
    assert sorted(column for _, column, _, _ in ground.quarantine()) == ["id", "n"]


def test_a_table_of_another_form_fails(ground: Ground, database: tuple[str, Execute]) -> None:
    uri, run = database
    run("create table t (id bigint, changed timestamp, nmae text)")
    with pytest.raises(IngestFault, match=r"no column 'name' \(did you mean 'nmae'\?\)"):
        ground.land(readings(uri))
    run("drop table t")
    with pytest.raises(IngestFault, match=r"table t"):
        ground.land(readings(uri))


def test_a_table_that_was_emptied_fails_instead_of_emptying_raw(
    ground: Ground, database: tuple[str, Execute]
) -> None:
    uri, run = database
    make(run)
    ground.land(readings(uri))
    run("delete from t")
    with pytest.raises(IngestFault, match="it had rows before"):
        ground.land(readings(uri))
    assert len(ground.rows()) == 2


@pytest.mark.parametrize(
    ("kind", "first", "endless", "later"),
    [
        ("double", "1.5", ("'nan'", "'infinity'", "'-infinity'"), "2.5"),
        ("timestamptz", "'2024-01-01 00:00:00Z'", ("'infinity'", "'-infinity'"), "'2024-02-01 00:00:00Z'"),
        ("date", "'2024-01-01'", ("'infinity'", "'-infinity'"), "'2024-02-01'"),
        ("bigint", "1", (), "2"),
    ],
)
def test_rows_whose_cursor_has_no_place_in_the_order_are_read_each_time_and_stop_none(
    ground: Ground, database: tuple[str, Execute], kind: str, first: str, endless: tuple[str, ...], later: str
) -> None:
    uri, run = database
    is_sqlite = uri.startswith("sqlite")
    run(f"create table t (k text, v text, c {'blob' if is_sqlite else kind.replace('double', 'float8')})")
    table = readings(uri, columns={"k": "varchar", "v": "varchar", "c": kind}, cursor="c")
    run(f"insert into t values ('first', 'x', {first})")
    ground.land(table)
    for number, cursor in enumerate(("null", *endless)):
        run(f"insert into t values ('{number}', 'x', {cursor})")
    ground.land(table)
    assert ground.land(table).landings == []
    run(f"update t set v = 'y' where k <> 'first'; insert into t values ('later', 'y', {later})")
    for _ in range(2):
        ground.land(table)
        expected = [(str(number), "y") for number in range(1 + len(endless))]
        assert sorted(ground.rows("k, v")) == [*expected, ("first", "x"), ("later", "y")]


def test_a_null_in_a_key_equals_another_null(ground: Ground, database: tuple[str, Execute]) -> None:
    uri, run = database
    run("create table t (k text, part text, v text, c bigint)")
    run(
        "insert into t values (null, 'p', 'x', 1), ('a', null, 'x', 1), ('a', 'p', 'x', 1), (null, null, 'x', 1)"
    )
    columns = {"k": "varchar", "part": "varchar", "v": "varchar", "c": "bigint"}
    table = readings(uri, columns=columns, cursor="c", primary_key=("k", "part"))
    for number, value in enumerate("xyz", 1):
        run(f"update t set v = '{value}', c = {number} where part = 'p' or k is null")
        ground.land(table)
        assert sorted(ground.rows("coalesce(k, '-'), coalesce(part, '-'), v")) == [
            ("-", "-", value), ("-", "p", value), ("a", "-", "x"), ("a", "p", value),
        ]  # fmt: skip


def test_quarantine_of_one_day_of_a_table_stays_when_another_day_lands(
    ground: Ground, database: tuple[str, Execute]
) -> None:
    uri, run = database
    run("create table t (id text, changed timestamp, name text)")
    run("insert into t values ('x', '2024-01-01 10:00:00', 'a'), ('2', '2024-01-02 10:00:00', 'b')")
    table = readings(uri, event_time="changed", partition=PARTITION, max_quarantined_share=1.0)
    for window in (days(1), days(2)):
        ground.land(table, window)
        assert [column for _, column, _, _ in ground.quarantine()] == ["id"]
    run("update t set id = '1' where id = 'x'")
    ground.land(table, days(1))
    assert (ground.quarantine(), sorted(ground.rows("id"))) == ([], [(1,), (2,)])


def test_text_of_sqlite_that_is_not_utf8_goes_to_quarantine(ground: Ground) -> None:
    path = ground.root / "source.db"
    with closing(sqlite3.connect(path)) as con:
        con.execute("create table t (id integer, v)")
        for number, value in enumerate(["fffe", "61ff62", "c3", "6100e282ac", "", "ff"]):
            kind = "blob" if value == "ff" else "text"
            con.execute(f"insert into t values ({number}, cast(x'{value}' as {kind}))")
        con.executescript("insert into t values (6, null), (7, 7), (8, 0.1), (9, 'tff')")
    columns = {"id": "integer", "v": "varchar"}
    ground.land(readings(f"sqlite://{path}", columns=columns, max_quarantined_share=0.5))
    assert sorted(ground.rows("id, v")) == [
        (3, "a\0€"), (4, ""), (6, None), (7, "7"), (8, "0.10000000000000001"), (9, "tff"),
    ]  # fmt: skip
    found = [(column, reason) for _, column, reason, _ in ground.quarantine()]
    assert [column for column, _ in found] == ["v"] * 4
    assert all("expected text in UTF-8" in reason for _, reason in found)
    assert [bytes_ in found[i][1] for i, bytes_ in enumerate(["FFFE", "61FF62", "C3", "FF"])] == [True] * 4


def test_instants_of_postgres_keep_their_zone_whatever_the_server_writes(
    ground: Ground, postgres_url: str
) -> None:
    with closing(psycopg2.connect(postgres_url)) as con, con, con.cursor() as cursor:
        cursor.execute("alter database " + postgres_url.rsplit("/", 1)[1] + " set datestyle = 'German'")
        cursor.execute("alter database " + postgres_url.rsplit("/", 1)[1] + " set timezone = 'Asia/Kolkata'")
        cursor.execute("create table t (id bigint, changed timestamptz, name text)")
        cursor.execute("insert into t values (1, '2024-02-01 10:00:00+02', 'a')")
    ground.land(readings(postgres_url, cursor="changed"))
    assert ground.rows("changed") == [(datetime(2024, 2, 1, 8, tzinfo=UTC),)]
    assert ground.land(readings(postgres_url, cursor="changed")).landings == []


def test_a_postgres_nan_is_no_zero(ground: Ground, postgres_url: str) -> None:
    with closing(psycopg2.connect(postgres_url)) as con, con, con.cursor() as cursor:
        cursor.execute("create table t (id bigint, n numeric)")
        cursor.execute("insert into t values (1, 'NaN')")
    with pytest.raises(IngestFault, match="n: found 'NaN', expected decimal"):
        ground.land(readings(postgres_url, columns={"id": "bigint", "n": "decimal(9, 2)"}))


def test_passwords_are_in_no_message_and_in_no_table(ground: Ground, postgres_url: str) -> None:
    with pytest.raises(ConnectionError) as caught:
        ground.land(readings("postgresql://joe:hunter2@127.0.0.1:9/none"))
    assert "hunter2" not in str(caught.value)
    with closing(psycopg2.connect(postgres_url)) as con, con, con.cursor() as cursor:
        cursor.execute("create table t (id bigint, changed timestamptz, name text)")
        cursor.execute("insert into t values (1, now(), 'a')")
    ground.land(readings(postgres_url))
    ((uri,),) = ground.ask("select distinct _source_uri from raw.readings")
    assert "s3cret-pass" not in uri
    assert "tester" not in uri
