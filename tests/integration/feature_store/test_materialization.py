"""The online store holds the latest known row of each entity, whatever happened to the rows, at the cost of what did."""

import random
from dataclasses import replace

import duckdb
import pyarrow as pa
import pytest

from orchestration.feature_store.offline import get_historical_features
from orchestration.feature_store.online import materialization
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.online.store import Changes
from orchestration.feature_store.online.verification import compare
from orchestration.feature_store.parity import compare_answers
from orchestration.feature_store.views import Catalog
from orchestration.settings import Clock
from tests.integration.feature_store.lakes import VIEW, Lake, at
from tests.unit.feature_store.views import make_view


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "data")
    yield lake
    lake.con.close()


def brought_up(lake, store, hours=1000, **options):
    done = lake.materialize(store, hours, **options)
    assert lake.stored(store) == lake.expected(hours)
    found = compare(lake.lakehouse, store, lake.view)
    assert found.holds, found
    return done


def counts(done):
    return (done.mode, done.written, done.skipped, done.deleted)


def test_the_first_time_everything_is_written(lake, store):
    lake.insert(
        ("a", 1, 1, 1.5, "x", 1),
        ("a", 1, 2, 2.5, None, 2),
        ("a", 2, 1, None, "y", None),
        ("b", 1, 5, 0, "", 0),
    )
    done = brought_up(lake, store)
    assert counts(done) == ("rebuild", 3, 0, 0)
    assert done.reason == "never materialized"
    assert done.to_snapshot == lake.snapshot
    assert lake.stored(store)["a", 1] == (at(2), 2.5, None, 2)


def test_only_changed_entities_are_written_afterwards(lake, any_store):
    lake.insert(*[("a", n, 1, n, "x", n) for n in range(50)])
    first = brought_up(lake, any_store)
    lake.insert(("a", 7, 2, 9.5, "new", 1), ("a", 99, 1, 1.0, "more", 1), ("a", 7, 3, 9.9, "newest", 2))
    done = brought_up(lake, any_store)
    assert counts(done) == ("changes", 2, 0, 0)
    assert (done.from_snapshot, done.to_snapshot) == (first.to_snapshot, lake.snapshot)


def test_a_run_without_changes_writes_nothing_and_moves_on(lake, store):
    lake.insert(("a", 1, 1, 1, "x", 1))
    brought_up(lake, store)
    assert counts(brought_up(lake, store)) == ("changes", 0, 0, 0)
    lake.run("create table lake.features.another as select 1 as x")
    assert counts(brought_up(lake, store)) == ("changes", 0, 0, 0)
    assert store.position("levels").snapshot == lake.snapshot


def test_a_late_row_is_skipped(lake, store):
    lake.insert(("a", 1, 5, 1, "x", 1))
    brought_up(lake, store)
    lake.insert(("a", 1, 4, 2, "late", 1))
    assert counts(brought_up(lake, store)) == ("changes", 0, 1, 0)


def test_an_entity_whose_newest_row_was_deleted_falls_back(lake, any_store):
    lake.insert(
        ("a", 1, 1, 1, "old", 1),
        ("a", 1, 2, 2, "mid", 2),
        ("a", 1, 3, 3, "new", 3),
        ("b", 1, 1, 1, "only", 1),
    )
    brought_up(lake, any_store)
    lake.run("delete from {t} where note in ('new', 'mid')")
    assert counts(brought_up(lake, any_store)) == ("changes", 1, 0, 0)
    lake.run("delete from {t} where pump = 'b'")
    assert counts(brought_up(lake, any_store)) == ("changes", 0, 0, 1)
    lake.insert(("b", 1, 0, 9, "back, though older", 1))
    assert counts(brought_up(lake, any_store)) == ("changes", 1, 0, 0)
    lake.run("delete from {t}")
    brought_up(lake, any_store)
    assert any_store.size("levels") == 0


def test_an_old_row_that_was_deleted_changes_nothing(lake, store):
    lake.insert(("a", 1, 1, 1, "old", 1), ("a", 1, 2, 2, "new", 2))
    brought_up(lake, store)
    lake.run("delete from {t} where note = 'old'")
    assert counts(brought_up(lake, store)) == ("changes", 0, 0, 0)


def test_a_row_that_was_changed_in_place_is_changed(lake, store):
    lake.insert(("a", 1, 1, 1, "x", 1), ("b", 1, 1, 1, "x", 1))
    brought_up(lake, store)
    lake.run("update {t} set level = 7 where pump = 'a'")
    assert counts(brought_up(lake, store)) == ("changes", 1, 0, 0)


def test_rows_that_were_deleted_and_written_again_are_no_change(lake, store):
    lake.insert(*[("a", n, 1, n, "x", n) for n in range(20)])
    brought_up(lake, store)
    lake.run("create temp table kept as from {t}", "delete from {t}", "insert into {t} from kept")
    assert counts(brought_up(lake, store)) == ("changes", 0, 0, 0)


def test_of_rows_with_one_timestamp_the_greatest_counts(lake, store):
    lake.insert(
        ("a", 1, 1, 1, "b", None), ("a", 1, 1, 1, "c", 1), ("a", 1, 1, None, "z", 9), ("b", 1, 1, 5, "x", 1)
    )
    assert counts(brought_up(lake, store)) == ("rebuild", 2, 0, 0)
    assert lake.stored(store)["a", 1] == (at(1), 1.0, "c", 1)
    lake.insert(("a", 1, 1, 1, "d", 0), ("b", 1, 1, 4, "y", 1))
    brought_up(lake, store)
    assert lake.stored(store)["a", 1] == (at(1), 1.0, "d", 0)
    assert lake.stored(store)["b", 1] == (at(1), 5.0, "x", 1)
    lake.run("delete from {t} where note in ('d', 'x')")
    brought_up(lake, store)


def test_duplicates_of_a_row_are_one(lake, store):
    lake.insert(("a", 1, 1, 1, "x", 1), ("a", 1, 1, 1, "x", 1))
    brought_up(lake, store)
    lake.insert(("a", 1, 1, 1, "x", 1))
    brought_up(lake, store)
    lake.run("delete from {t} where rowid = 0")
    brought_up(lake, store)


def test_an_entity_with_a_null_in_its_key_is_left_out(lake, store):
    lake.insert((None, 1, 1, 1, "x", 1), ("a", 1, 1, 1, "x", 1))
    assert brought_up(lake, store).written == 1
    lake.insert(("a", None, 2, 1, "x", 1), (None, None, 0, 1, "x", 1))
    assert counts(brought_up(lake, store)) == ("changes", 0, 0, 0)


def test_a_row_appears_when_the_clock_passes_it(lake, store):
    lake.insert(("a", 1, 1, 1, "now", 1), ("a", 1, 10, 2, "soon", 1), ("b", 1, 12, 3, "later", 1))
    done = brought_up(lake, store, 5)
    assert (done.written, done.ahead, done.next_due) == (1, 2, at(10))
    assert counts(brought_up(lake, store, 9)) == ("changes", 0, 0, 0)
    assert counts(brought_up(lake, store, 10)) == ("changes", 1, 0, 0)
    lake.run("delete from {t} where note = 'soon'")
    lake.insert(("c", 1, 11, 3, "came and was passed", 1))
    done = brought_up(lake, store, 12)
    assert counts(done) == ("changes", 3, 0, 0)
    assert (done.ahead, done.next_due) == (0, None)


def test_ties_are_the_same_online_and_in_a_point_in_time_join(lake, store):
    columns = {"level": [1, None, "nan", 0, "-0.0"], "note": ["x", None, ""], "count": [1, None]}
    chance = random.Random(5)
    for hour in range(3):
        for _ in range(2):  # beside rows that are there, and beside each other
            lake.insert(*[(pump, 1, hour, *map(chance.choice, columns.values())) for pump in "aabbcd"])
            lake.materialize(store, hour)
            answer = _both_ways(lake, store, hour, "abcd")
            assert answer.differing == {}
    lake.materialize(store, hour, full=True)
    answer = _both_ways(lake, store, hour, "abcd")
    assert answer.differing == {}


def _both_ways(lake, store, hour, pumps):
    catalog = Catalog({VIEW.name: VIEW})
    spine = {"pump": list(pumps), "pipe": [1] * len(pumps)}
    instants = pa.array([at(hour)] * len(pumps), pa.timestamp("us", "UTC"))
    offline = get_historical_features(
        catalog,
        lake.lakehouse,
        pa.table({**spine, "asked_at": instants}),
        ["levels:*"],
        event_timestamp="asked_at",
    ).to_arrow()
    online = OnlineReader(catalog, store, Clock(at(hour))).get_online_features(["levels:*"], spine)
    return compare_answers(offline.drop_columns(["pump", "pipe", "asked_at"]), [online])


def test_as_of_rebuilds_what_was_known_then(lake, any_store):
    lake.insert(("a", 1, 1, 1, "one", 1), ("a", 1, 5, 2, "five", 1))
    then = lake.snapshot
    brought_up(lake, any_store)
    lake.insert(("a", 1, 3, 9, "late", 1))
    done = lake.materialize(any_store, 4, full=True)
    assert (done.mode, done.reason) == ("rebuild", "asked for")
    assert lake.stored(any_store) == {("a", 1): (at(3), 9.0, "late", 1)}
    lake.materialize(any_store, 4, full=True, snapshot=then)
    assert lake.stored(any_store) == {("a", 1): (at(1), 1.0, "one", 1)}
    assert brought_up(lake, any_store).mode == "changes"


def test_a_clock_that_went_back_means_a_rebuild(lake, store):
    lake.insert(("a", 1, 1, 1, "one", 1), ("a", 1, 5, 2, "five", 1))
    brought_up(lake, store)
    done = brought_up(lake, store, 2)
    assert (done.mode, done.reason) == ("rebuild", "the store is ahead")


def test_an_expired_snapshot_means_a_rebuild(lake, store):
    lake.insert(("a", 1, 1, 1, "one", 1), ("b", 1, 1, 1, "one", 1))
    first = brought_up(lake, store)
    lake.run("delete from {t} where pump = 'b'")
    lake.con.execute("call ducklake_expire_snapshots('lake', older_than => now())")
    done = brought_up(lake, store)
    assert (done.mode, done.reason) == (
        "rebuild",
        f"snapshot {first.to_snapshot} or one after it has expired",
    )


def test_an_expired_snapshot_in_between_means_a_rebuild(lake, store):
    lake.insert(("a", 1, 1, 1, "one", 1), ("b", 1, 1, 1, "one", 1))
    first = brought_up(lake, store)
    deleted = lake.run("delete from {t} where pump = 'b'")
    lake.insert(("c", 1, 1, 1, "one", 1))
    lake.con.execute(f"call ducklake_expire_snapshots('lake', versions => [{deleted}])")
    done = brought_up(lake, store)
    assert (done.mode, done.reason) == (
        "rebuild",
        f"snapshot {first.to_snapshot} or one after it has expired",
    )


def test_maintenance_of_the_lake_changes_nothing(lake, store):
    lake.insert(*[("a", n, 1, n, "x", n) for n in range(200)])
    brought_up(lake, store)
    lake.run("delete from {t} where pipe < 90")
    lake.con.execute("call ducklake_flush_inlined_data('lake')")
    lake.con.execute("call ducklake_rewrite_data_files('lake', delete_threshold => 0.1)")
    lake.con.execute("call ducklake_merge_adjacent_files('lake')")
    assert counts(brought_up(lake, store)) == ("changes", 0, 0, 90)


def test_a_table_that_was_made_anew_means_a_rebuild(lake, store):
    lake.insert(("a", 1, 1, 1, "one", 1))
    brought_up(lake, store)
    lake.run(lake.create)
    lake.insert(("b", 1, 1, 1, "one", 1))
    done = brought_up(lake, store)
    assert (done.mode, done.reason, done.written) == ("rebuild", "the table has been made anew", 1)


def test_a_changed_declaration_means_a_rebuild(lake, store):
    lake.insert(("a", 1, 1, 1, "one", 1))
    brought_up(lake, store)
    lake.run("alter table {t} add column extra varchar")
    lake.insert(("b", 1, 2, 2, "two", 1, "more"))
    assert lake.materialize(store).mode == "changes", "a column that is not declared is none of ours"
    lake.view = make_view(
        {"level": "double", "note": "varchar", "count": "integer", "extra": "varchar"},
        {"pump": "varchar", "pipe": "integer"},
        name="levels",
    )
    done = brought_up(lake, store)
    assert (done.mode, done.reason) == ("rebuild", "the view's declaration has changed")


def test_too_many_changes_mean_a_rebuild(lake, store, monkeypatch):
    monkeypatch.setattr(materialization, "MAX_CHANGED_ROWS", 5)
    lake.insert(("a", 1, 1, 1, "one", 1))
    brought_up(lake, store)
    lake.insert(*[("b", n, 1, 1, "one", 1) for n in range(5)])
    assert brought_up(lake, store).mode == "changes"
    lake.insert(*[("c", n, 1, 1, "one", 1) for n in range(6)])
    assert brought_up(lake, store).reason == "6 changed rows are more than 5"


def test_a_view_without_a_table_is_an_error(lake, store):
    lake.view = make_view({"x": "integer"}, name="nothing")
    with pytest.raises(LookupError, match=r"no table features\.nothing in snapshot"):
        lake.materialize(store)


@pytest.mark.parametrize("null_keys", ["reject", "match"])
def test_whatever_happens_the_store_follows(tmp_path, any_store, null_keys):
    lake, chance = Lake(tmp_path / "data", replace(VIEW, null_keys=null_keys)), random.Random(11)
    clock = 10
    for _ in range(25):
        for _ in range(chance.randint(0, 2)):
            match chance.choice(["insert", "insert", "delete", "update", "move", "again"]):
                case "insert":
                    lake.insert(*[
                        (chance.choice("abc"), chance.choice([1, 2, 3, None]), chance.randint(0, clock + 8),
                         chance.choice([None, 1, 2]), chance.choice([None, "", "x"]), chance.randint(0, 3))
                        for _ in range(chance.randint(1, 6))
                    ])  # fmt: skip
                case "delete":
                    lake.run(f"delete from {{t}} where hash(rowid) % 5 = {chance.randint(0, 4)}")
                case "update":
                    lake.run(
                        f"update {{t}} set count = count + 1 where hash(rowid, 1) % 4 = {chance.randint(0, 3)}"
                    )
                case "move":
                    lake.run(
                        "update {t} set known_at = known_at - interval 2 hours where hash(rowid, 2) % 5 = 0"
                    )
                case "again":
                    lake.run("create or replace temp table kept as from {t} where pump = 'a'",
                             "delete from {t} where pump = 'a'", "insert into {t} from kept")  # fmt: skip
        clock += chance.choice([0, 0, 1, 4])
        done = brought_up(lake, any_store, clock)
        assert done.mode == "changes" or done.reason == "never materialized"
    lake.con.close()


def test_the_check_sees_a_wrong_value_a_missing_entity_and_one_too_many(lake, any_store):
    lake.insert(*[("a", n, 1, n, "x", n) for n in range(10)])
    brought_up(lake, any_store)
    position = any_store.position("levels")
    (((value,), _),) = any_store.read([(VIEW, [b"=a\0\x013"])])
    assert value is not None
    wrong = value.replace(b"x", b"y")
    any_store.apply("levels", position, position, Changes(exact=[(b"=a\0\x013", wrong)]))
    found = compare(lake.lakehouse, any_store, VIEW)
    assert not found.holds
    assert (found.differing, found.differing_by_column) == (1, {"note": 1})
    any_store.apply("levels", position, position, Changes(gone=[b"=a\0\x013"]))
    found = compare(lake.lakehouse, any_store, VIEW)
    assert not found.holds
    assert (found.differing, found.stored, found.expected) == (1, 9, 10)
    any_store.apply("levels", position, position, Changes(exact=[(b"=a\0\x013", value), (b"=z", value)]))
    found = compare(lake.lakehouse, any_store, VIEW)
    assert not found.holds
    assert (found.differing, found.stored, found.expected) == (0, 11, 10)


def test_what_is_read_is_one_snapshot(lake, store):
    lake.insert(("a", 1, 1, 1, "one", 1))
    with lake.lakehouse.reader() as con:
        run = materialization._Run(con, store, VIEW, at(1000), None)
        lake.insert(("a", 1, 2, 2, "two", 1))
        assert run.materialize(full=False).written == 1
    assert lake.stored(store)["a", 1] == (at(1), 1.0, "one", 1)
    assert brought_up(lake, store).mode == "changes"


def test_the_lake_must_exist(tmp_path, store):
    lake = Lake(tmp_path / "data")
    lake.con.close()
    (tmp_path / "data" / "lake" / "catalog.sqlite").unlink()
    with pytest.raises(duckdb.Error):
        lake.materialize(store)
