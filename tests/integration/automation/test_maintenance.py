"""Upkeep makes the lakehouse smaller and changes no row, with either catalog, while readers read."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.lakehouse import LakehouseResource, content_hash, current_snapshot
from orchestration.lakehouse.maintenance import Upkeep, maintain
from orchestration.settings import Settings

NOTHING = timedelta(0)


@pytest.fixture(params=["sqlite", "postgres"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LakehouseResource]:
    catalog = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    resource = LakehouseResource.from_settings(
        Settings(data_dir=tmp_path / "data", lake_catalog_postgres=catalog)
    )
    with resource.get_connection() as con:
        con.execute("create schema lake.s")
        con.execute("create table lake.s.t as select range as id, 'a' as word from range(1000)")
        for start in range(0, 1000, 100):
            con.execute(f"insert into lake.s.t select range + {1000 + start}, 'b' from range(100)")
        con.execute("delete from lake.s.t where id % 3 = 0")
    return resource


def _hash(lake: LakehouseResource) -> str:
    with lake.reader() as con:
        return content_hash(con, "s", "t")


def _on_disk(lake: LakehouseResource) -> set[Path]:
    return set(Path(lake.attachment.data_path).rglob("*.parquet"))


def test_upkeep_leaves_fewer_files_and_the_same_rows(lake: LakehouseResource) -> None:
    before = _hash(lake)
    done = maintain(lake, retention=NOTHING, safe_age=NOTHING)
    assert _hash(lake) == before
    assert (done.before.live_files, done.after.live_files) == (22, 1)
    assert done.after.stored_bytes < done.before.stored_bytes
    assert done.after.snapshots == 1
    assert len(_on_disk(lake)) == 1
    assert done.as_metadata()["after_live_files"] == 1


def test_snapshots_within_the_retention_stay_readable(lake: LakehouseResource) -> None:
    with lake.reader() as con:
        old = current_snapshot(con) - 1  # before the delete
    done = maintain(lake, retention=timedelta(days=30), safe_age=NOTHING)
    assert done.snapshots_expired == 0
    with lake.reader(snapshot=old) as con:
        assert con.execute("select count(*) from s.t").fetchall() == [(2000,)]


def test_a_second_round_finds_nothing_to_do(lake: LakehouseResource) -> None:
    maintain(lake, retention=NOTHING, safe_age=NOTHING)
    again = maintain(lake, retention=NOTHING, safe_age=NOTHING)
    assert (again.files_compacted, again.files_removed, again.orphans_removed) == (0, 0, 0)
    assert again.before.live_files == again.after.live_files


def test_files_that_a_reader_may_still_read_are_kept(lake: LakehouseResource) -> None:
    with lake.reader() as reader:
        rows = reader.execute("select id from s.t order by id")
        first = rows.fetchone()
        done: Upkeep = maintain(lake, retention=NOTHING)
        assert done.files_removed == 0
        assert done.after.stored_files > done.after.live_files
        assert (first, len(rows.fetchall())) == ((1,), 1332)


def test_only_old_orphans_are_removed(lake: LakehouseResource) -> None:
    orphan = Path(lake.attachment.data_path) / "s" / "t" / "left_by_a_killed_run.parquet"
    orphan.write_bytes(b"PAR1")
    maintain(lake, retention=NOTHING)
    assert orphan.exists()
    done = maintain(lake, retention=NOTHING, safe_age=NOTHING)
    assert (done.orphans_removed, orphan.exists()) == (1, False)
