"""The lakehouse: whole transactions, bounded waits, closed handles, time travel, stable hashes."""

import threading

import dagster as dg
import duckdb
import pytest

from orchestration.lakehouse import (
    Attachment,
    LakehouseResource,
    content_hash,
    current_snapshot,
    describe_table,
    retry_on_conflict,
    row_count,
    table_exists,
)
from orchestration.settings import Settings
from tests.forks import CONTEXT


@pytest.fixture
def lakehouse(tmp_path):
    resource = LakehouseResource.from_settings(Settings(data_dir=tmp_path, lake_lock_timeout_seconds=30))
    with resource.transaction() as con:
        con.execute("create schema raw")
        con.execute("create table raw.orders as select i as id, i / 4 as price from range(1000) r(i)")
    return resource


def test_a_committed_transaction_is_seen_by_readers(lakehouse):
    with lakehouse.reader() as con:
        assert row_count(con, "raw", "orders") == 1000
        assert [c.name for c in describe_table(con, "raw", "orders")] == ["id", "price"]


def test_an_exception_rolls_everything_back(lakehouse):
    with pytest.raises(KeyError), lakehouse.transaction() as con:
        con.execute("delete from raw.orders")
        con.execute("create table raw.half (a int)")
        raise KeyError
    with lakehouse.reader() as con:
        assert row_count(con, "raw", "orders") == 1000
        assert not table_exists(con, "raw", "half")


def test_a_reader_cannot_write(lakehouse):
    with lakehouse.reader() as con, pytest.raises(duckdb.Error, match="read-only"):
        con.execute("delete from raw.orders")


def test_a_reader_of_an_older_snapshot_sees_the_older_rows(lakehouse):
    with lakehouse.reader() as con:
        before = current_snapshot(con)
    lakehouse.write(lambda con: con.execute("delete from raw.orders where id < 10"))
    with lakehouse.reader(snapshot=before) as old, lakehouse.reader() as new:
        assert (row_count(old, "raw", "orders"), row_count(new, "raw", "orders")) == (1000, 990)


def test_writers_that_meet_wait_for_each_other_and_lose_nothing(lakehouse):
    def append():
        for _ in range(5):
            lakehouse.write(lambda con: con.execute("insert into raw.orders values (-1, 0)"))

    threads = [threading.Thread(target=append) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with lakehouse.reader() as con:
        assert row_count(con, "raw", "orders") == 1015


def test_a_conflict_that_outlasts_the_limit_is_raised():
    def locked():
        raise duckdb.TransactionException("database is locked")

    with pytest.raises(duckdb.TransactionException, match="locked"):
        retry_on_conflict(locked, timeout_seconds=0.2)


def test_an_error_that_is_no_conflict_is_raised_at_once():
    calls = []

    def broken():
        calls.append(1)
        raise duckdb.BinderException("no such column")

    with pytest.raises(duckdb.BinderException):
        retry_on_conflict(broken, timeout_seconds=5)
    assert len(calls) == 1


def test_connections_are_closed_after_an_exception(lakehouse):
    with pytest.raises(KeyError), lakehouse.get_connection() as con:
        raise KeyError
    with pytest.raises(duckdb.ConnectionException):
        con.execute("select 1")


def test_a_dagster_asset_takes_the_resource_and_its_config_holds_no_secret(tmp_path):
    settings = Settings(data_dir=tmp_path, s3_secret_access_key="hunter2")

    @dg.asset
    def orders(lakehouse: LakehouseResource) -> None:
        with lakehouse.transaction() as con:
            con.execute("create schema raw")

    resource = LakehouseResource.from_settings(settings)
    assert dg.materialize([orders], resources={"lakehouse": resource}).success
    assert "hunter2" not in repr(resource)


def test_a_content_hash_tells_rows_apart_and_nothing_else(lakehouse):
    def hashed(sql):
        with lakehouse.transaction() as con:
            con.execute(f"create or replace table raw.t as {sql}")
            return content_hash(con, "raw", "t")

    rows = hashed("select 1 as a, 'x' as b, 7 as _row union all select 2, null, 8")
    assert rows == hashed("select null as b, 2 as a, 0 as _row union all select 'x', 1, 9")
    assert rows != hashed("select 1 as a, 'x' as b union all select 2, ''")
    assert rows != hashed("select 1 as a, 'x' as b union all select 2, null union all select 2, null")
    assert hashed("select 1 as a where false") == hashed("select 2 as a where false")


def test_a_content_hash_of_no_table_is_an_error(lakehouse):
    with lakehouse.reader() as con, pytest.raises(LookupError, match=r"no table raw\.none"):
        content_hash(con, "raw", "none")


def test_extensions_are_linked_by_many_processes_at_once_and_never_downloaded(tmp_path):
    attachment = Attachment(Settings(data_dir=tmp_path / "new"))
    processes = [CONTEXT.Process(target=attachment.extension_dir) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(list((tmp_path / "new").rglob("*.duckdb_extension"))) == 4


def test_the_steps_of_a_run_share_what_is_open_and_see_what_is_committed(lakehouse):
    seen = {}
    marks = "select count(*) from duckdb_databases() where database_name = 'mark'"

    @dg.op
    def first(lakehouse: LakehouseResource) -> int:
        with lakehouse.reader() as con:
            con.execute("attach ':memory:' as mark")
        with pytest.raises(duckdb.Error, match="read-only"), lakehouse.reader() as con:
            con.execute("delete from raw.orders")
        with pytest.raises(KeyError), lakehouse.transaction() as con:
            con.execute("delete from raw.orders")
            raise KeyError
        lakehouse.write(lambda con: con.execute("delete from raw.orders where id < 10"))
        return 0

    @dg.op
    def second(lakehouse: LakehouseResource, after: int) -> None:
        with lakehouse.reader() as con, lakehouse.get_connection() as writer:
            seen["marks"] = [c.execute(marks).fetchall()[0][0] for c in (con, writer)]
            seen["rows"] = row_count(con, "raw", "orders")
            seen["zone"] = con.execute("select current_setting('timezone')").fetchall()[0][0]

    @dg.job(executor_def=dg.in_process_executor, resource_defs={"lakehouse": lakehouse})
    def both() -> None:
        second(first())

    for expected in (990, 990):
        assert both.execute_in_process().success
        assert seen == {"marks": [1, 0], "rows": expected, "zone": "UTC"}
    with lakehouse.reader() as con:
        assert con.execute(marks).fetchall() == [(0,)]


def test_a_catalog_that_cannot_be_reached_keeps_its_password(tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        lake_catalog_postgres="host=127.0.0.1 port=9 password=hunter2",
        lake_lock_timeout_seconds=0.1,
    )
    with pytest.raises(duckdb.Error) as raised, LakehouseResource.from_settings(settings).reader():
        pass
    assert "hunter2" not in str(raised.value)
    assert "*****" in str(raised.value)


def test_what_is_kept_open_is_shared_by_every_run_in_the_process(lakehouse: LakehouseResource) -> None:
    def threads_of_a_run() -> int:
        run = LakehouseResource.from_settings(lakehouse.settings)
        with dg.build_init_resource_context() as context:
            run.setup_for_execution(context)
            with run.get_connection() as con:
                ((threads,),) = con.execute("select current_setting('threads')").fetchall()
                con.execute(f"set threads = {threads + 1}")
            run.teardown_after_execution(context)
        return int(threads)

    alone = [threads_of_a_run() for _ in range(2)]
    with lakehouse.kept_open():
        kept = [threads_of_a_run() for _ in range(2)]
    assert (alone[1] - alone[0], kept[1] - kept[0]) == (0, 1)
    assert threads_of_a_run() == alone[0]
