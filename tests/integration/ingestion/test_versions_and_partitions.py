"""Landing again: the same, changed, late and partial deliveries of partitioned and whole sources."""

import random
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.declarations import Partition
from orchestration.ingestion.faults import IngestFault
from orchestration.lakehouse import content_hash
from tests.integration.ingestion.landing_ground import ALL, Ground, days, source_table

LATER = datetime(2024, 3, 1, tzinfo=UTC)


def file_of(*rows: tuple[int, int, str]) -> str:
    """A delivery of (id, day of January 2024, name)."""
    return "id,at,name\n" + "".join(f"{i},2024-01-{day:02}T10:00:00Z,{name}\n" for i, day, name in rows)


def snapshots(ground: Ground) -> int:
    return int(ground.ask("select count(*) from ducklake_snapshots('lake')")[0][0])


def test_the_same_file_again_writes_nothing(ground: Ground) -> None:
    ground.put("in.csv", file_of((1, 1, "a"), (2, 2, "b")))
    ground.land(ground.daily(), ALL)
    before, count = ground.rows("*"), snapshots(ground)
    outcome = ground.land(ground.daily(), ALL, LATER)
    assert (ground.rows("*"), snapshots(ground), outcome.landings) == (before, count, [])
    assert ground.land(ground.daily(), days(2)).landings == []


def test_a_changed_file_changes_only_what_changed_and_the_old_version_stays_readable(ground: Ground) -> None:
    ground.put("in.csv", file_of((1, 1, "a"), (2, 1, "b"), (2, 1, "b"), (3, 2, "c")))
    ground.land(ground.daily(), ALL)
    old = ground.ask("select max(snapshot_id) from ducklake_snapshots('lake')")[0][0]
    ground.put("in.csv", file_of((3, 2, "c"), (2, 1, "b"), (4, 3, "d"), (1, 1, "A")))
    (landing,) = ground.land(ground.daily(), ALL, LATER).landings
    assert (landing.rows, landing.removed, landing.unchanged) == (2, 2, 2)
    rows = ground.ask("select id, name, _run_id, _late_at from raw.readings order by id")
    assert rows == [
        (1, "A", "run-2", LATER),
        (2, "b", "run-1", None),
        (3, "c", "run-1", None),
        (4, "d", "run-2", LATER),
    ]
    with ground.lakehouse.reader(snapshot=old) as con:
        assert con.execute("select id, name from raw.readings order by id, name").fetchall() == [
            (1, "a"), (2, "b"), (2, "b"), (3, "c"),
        ]  # fmt: skip


def test_a_file_that_goes_back_to_an_older_version_lands_again(ground: Ground) -> None:
    for name in ("a", "b", "a"):
        ground.put("in.csv", file_of((1, 1, name)))
        ground.land(ground.daily(), ALL)
        assert ground.rows("name") == [(name,)]


def test_a_day_run_lands_only_that_day_of_a_longer_file(ground: Ground) -> None:
    ground.put("in.csv", file_of((1, 1, "a"), (2, 2, "b"), (3, 3, "c"), (4, 2, "d")))
    ground.land(ground.daily(), days(2))
    assert ground.rows("id, _row_number") == [(2, 2), (4, 4)]
    ground.land(ground.daily(), days(3))
    ground.land(ground.daily(), days(1, 2))
    assert ground.rows("id, _row_number, _late_at") == [
        (1, 1, None),
        (2, 2, None),
        (3, 3, None),
        (4, 4, None),
    ]


def test_the_order_of_runs_does_not_change_what_is_there(tmp_path: Path) -> None:
    hashes = set()
    for number, windows in enumerate(
        [[ALL], [days(2), days(4, 10), days(3), days(1)], [days(5, 10), days(1, 7)]]
    ):
        ground = Ground(tmp_path / str(number))
        ground.put("in.csv", file_of(*((i, i % 10 + 1, "n") for i in range(40))))
        for window in windows:
            ground.land(ground.daily(), window)
        with ground.lakehouse.reader() as con:
            hashes.add(content_hash(con, "raw", "readings"))
    assert len(hashes) == 1


def test_rows_of_a_landed_partition_are_late_and_those_of_a_new_one_are_not(ground: Ground) -> None:
    ground.put("in.csv", file_of((1, 1, "a")))
    ground.land(ground.daily(), days(1))
    ground.put("in.csv", file_of((1, 1, "a"), (2, 1, "b"), (3, 2, "c")))
    ground.land(ground.daily(), days(1, 2), LATER)
    assert ground.rows("id, _late_at") == [(1, None), (2, LATER), (3, None)]


def test_each_landing_is_stamped_later_than_every_earlier_one(ground: Ground) -> None:
    for number in range(3):
        ground.put("in.csv", file_of(*((i, 1, "a") for i in range(number + 1))))
        ground.land(ground.daily(), ALL)
    stamps = [at for (at,) in ground.ask("select distinct _ingested_at from raw.readings order by id")]
    assert len(stamps) == 3
    assert stamps == sorted(set(stamps))


def test_rows_outside_every_partition_go_to_quarantine_with_their_day(ground: Ground) -> None:
    body = file_of((1, 1, "a"), (2, 11, "b"), (3, 3, "c")) + "4,,d\n5,2023-12-31T23:59:59Z,e\n"
    ground.put("in.csv", body)
    with pytest.raises(
        IngestFault, match=r"3 of 5 rows (?s:.*)is in no partition \(2024-01-01 to 2024-01-11, UTC\)"
    ):
        ground.land(ground.daily(), days(1))
    ground.land(ground.daily(max_quarantined_share=0.6), days(1))
    found = ground.ask(
        "select line, column_name, partition_day::varchar from quarantine.readings order by line"
    )
    assert found == [(3, "at", "2024-01-11"), (5, "at", None), (6, "at", "2023-12-31")]
    ground.land(ground.daily(max_quarantined_share=0.6), ALL)
    assert ground.ask("select count(*) from quarantine.readings") == [(3,)]
    assert ground.rows("id, _row_number") == [(1, 1), (3, 3)]


def test_an_unreadable_row_fails_every_day_of_its_file(ground: Ground) -> None:
    ground.put("in.csv", file_of((1, 1, "a"), (2, 2, "b")) + "x,2024-01-05T00:00:00Z,c\n")
    with pytest.raises(IngestFault, match="1 of 3 rows"):
        ground.land(ground.daily(), days(1))


def test_quarantine_follows_the_version_of_the_file(ground: Ground) -> None:
    table = ground.daily(max_quarantined_share=0.5)
    ground.put("in.csv", file_of((1, 1, "a")) + "x,2024-01-02T00:00:00Z,b\n")
    ground.land(table, ALL)
    ground.land(table, ALL)
    assert [text for *_, text in ground.quarantine()] == ["x,2024-01-02T00:00:00Z,b"]
    ground.put("in.csv", file_of((1, 1, "a"), (2, 2, "b")))
    ground.land(table, ALL)
    assert (ground.quarantine(), ground.rows("id")) == ([], [(1,), (2,)])


def test_each_file_of_a_folder_is_a_delivery_and_equal_rows_of_two_files_both_stay(ground: Ground) -> None:
    ground.put("drop/a.csv", file_of((1, 1, "a"), (2, 2, "b")))
    ground.put("drop/b.csv", file_of((1, 1, "a")))
    ground.put("drop/.hidden.csv", "junk")
    ground.put("drop/note.md", "junk")
    table = ground.daily(uri="drop")
    ground.land(table, ALL)
    assert ground.rows("id, _source_uri") == [(1, "drop/a.csv"), (2, "drop/a.csv"), (1, "drop/b.csv")]
    ground.put("drop/b.csv", file_of((3, 3, "c")))
    (ground.root / "drop/a.csv").unlink()
    ground.put("drop/c.csv", file_of((4, 4, "d")))
    outcome = ground.land(table, ALL, LATER)
    assert ground.rows("id, _late_at") == [(1, None), (2, None), (3, LATER), (4, LATER)]
    assert outcome.gone == ["drop/a.csv"]


def test_files_without_rows_in_the_window_are_not_read_again(ground: Ground) -> None:
    for day in range(1, 4):
        ground.put(f"drop/{day}.csv", file_of((day, day, "a")))
    table = ground.daily(uri="drop/")
    ground.land(table, days(1))
    outcome = ground.land(table, days(2))
    assert [(landing.source_uri, landing.rows) for landing in outcome.landings] == [("drop/2.csv", 1)]
    ground.land(table, days(3))
    assert ground.rows("id") == [(1,), (2,), (3,)]
    assert len(ground.land(table, days(2)).unchanged) == 3


def test_a_bad_file_of_a_folder_is_refused_with_its_reason_and_the_others_land(ground: Ground) -> None:
    for name in "acd":
        ground.put(f"drop/{name}.csv", file_of((1, 1, name)))
    ground.put("drop/b.csv", "id,at,name\nx,y,z\n")
    ground.put("drop/bb.csv", "no,such\n1,2\n")
    for _ in range(2):
        with pytest.raises(
            IngestFault,
            match=r"2 refused files \(see ops\.landings\), 3 others(?s:.*)drop/b\.csv(?s:.*)drop/bb\.csv",
        ):
            ground.land(ground.daily(uri="drop"), ALL)
    assert ground.rows("name, _late_at") == [("a", None), ("c", None), ("d", None)]
    log = ground.ask("select source_uri, refused is null from ops.landings order by source_uri")
    assert log == [(f"drop/{n}.csv", n not in ("b", "bb")) for n in ("a", "b", "bb", "c", "d")]
    ground.put("drop/b.csv", file_of((2, 2, "b")))
    ground.put("drop/bb.csv", "id,at,name\n")
    assert [(i.source_uri, i.rows) for i in ground.land(ground.daily(uri="drop"), ALL).landings] == [
        ("drop/b.csv", 1), ("drop/bb.csv", 0),
    ]  # fmt: skip


def test_an_untidy_file_between_clean_ones_lands_with_them(ground: Ground) -> None:
    for name in "abc":
        ground.put(f"drop/{name}.csv", file_of((1, 1, name)) + ("x,,\n" if name == "b" else ""))
    ground.land(ground.daily(uri="drop/*.csv", max_quarantined_share=0.5), ALL)
    assert ground.rows("name") == [("a",), ("b",), ("c",)]
    assert len(ground.quarantine()) == 1


def test_a_changed_declaration_reads_the_same_file_again_and_makes_no_row_late(ground: Ground) -> None:
    ground.put("in.csv", file_of((1, 1, "a"), (2, 2, "NA")))
    ground.land(ground.daily(), days(1))
    ground.land(ground.daily(), days(2))
    table = ground.daily(null_values=("NA",))
    (landing,) = ground.land(table, ALL, LATER).landings
    assert (landing.rows, landing.removed, landing.unchanged) == (1, 1, 1)
    assert ground.rows("id, name, _late_at") == [(1, "a", None), (2, None, None)]
    assert ground.land(table, ALL).landings == []
    ground.put("in.csv", file_of((1, 1, "a"), (2, 2, "b")))
    ground.land(table, ALL, LATER)
    ground.land(ground.daily(), ALL)
    assert ground.rows("id, name, _late_at") == [(1, "a", None), (2, "b", LATER)]


@pytest.mark.parametrize("uri", ["drop/", "drop/in.csv"])
def test_a_file_put_back_takes_its_rows_out_of_every_day(ground: Ground, uri: str) -> None:
    first, second = file_of((1, 1, "a")), file_of((2, 2, "b"))
    for content in (first, second, first, second):
        ground.put("drop/in.csv", content)
        for window in (days(1), days(2)):
            ground.land(ground.daily(uri=uri), window)
        assert ground.rows("id") == [(int(content.splitlines()[1][0]),)]
    assert [ground.land(ground.daily(uri=uri), window).landings for window in (days(1), days(2))] == [[], []]


def test_a_uri_put_back_lands_its_file_again(ground: Ground) -> None:
    ground.put("a.csv", file_of((1, 1, "a")))
    ground.put("b.csv", file_of((2, 2, "b")))
    for number, name in ((1, "a"), (2, "b"), (1, "a")):
        ground.land(ground.daily(uri=f"{name}.csv"), ALL)
        assert ground.rows("id") == [(number,)]


def test_the_first_day_of_open_partitions_lands_from_a_file_of_more_days(ground: Ground) -> None:
    table = ground.csv(event_time="at", partition=Partition(frequency="daily", start=date(2024, 1, 1)))
    ground.put("in.csv", file_of((1, 1, "a"), (2, 2, "b")))
    for day in (1, 2):
        ground.land(table, days(day))
        assert ground.rows("id") == [(number,) for number in range(1, day + 1)]


def test_a_file_emptied_again_is_refused_like_the_first_time(ground: Ground) -> None:
    table = ground.csv(uri="drop/")
    ground.put("drop/a.csv", file_of((1, 1, "a")))
    ground.put("drop/b.csv", file_of())
    ground.land(table)
    ground.put("drop/b.csv", file_of((2, 2, "b")))
    ground.land(table)
    ground.put("drop/b.csv", file_of())
    for _ in range(2):
        with pytest.raises(IngestFault, match=r"drop/b\.csv: found no rows, where it had rows before"):
            ground.land(table)
    assert ground.rows("id") == [(1,), (2,)]


def test_quarantine_is_empty_once_a_file_is_put_back_or_read_in_another_way(ground: Ground) -> None:
    table = ground.csv(max_quarantined_share=1.0)
    good, bad = file_of((1, 1, "a"), (2, 2, "b")), file_of((1, 1, "a"), (2, 2, "b")).replace("2,", "n,", 1)
    for content in (good, bad, good):
        ground.put("in.csv", content)
        ground.land(table)
        assert len(ground.quarantine()) == (content == bad)
    ground.put("in.csv", bad)
    ground.land(table)
    assert len(ground.quarantine()) == 1
    ground.land(ground.csv(max_quarantined_share=1.0, null_values=("n",)))
    assert (ground.quarantine(), ground.rows("id")) == ([], [(1,), (None,)])


@pytest.mark.parametrize(
    ("data_type", "held", "delivered"),
    [
        ("double", "0.0", "-0.0"),
        ("float", "-0.0", "0.0"),
        ("double[]", "[0.0]", "[-0.0]"),
        ("struct(a float)", '{"a": 0.0}', '{"a": -0.0}'),
    ],
)
def test_a_value_that_only_compares_as_equal_takes_the_place_of_the_other(
    ground: Ground, data_type: str, held: str, delivered: str
) -> None:
    table = source_table({"id": "integer", "v": data_type}, uri="in.csv", format="csv", delimiter="|")
    shown = []
    for cell in (held, delivered):
        quoted = cell.replace('"', '""')
        ground.put("in.csv", f'id|v\n1|"{quoted}"\n2|"{held.replace(chr(34), chr(34) * 2)}"\n')
        (landing,) = ground.land(table).landings
        shown.append(ground.rows("id, v::varchar"))
    assert (landing.rows, landing.removed, landing.unchanged) == (1, 1, 1)
    (old, same), (new, still) = sorted(shown[0]), sorted(shown[1])
    assert same == still
    assert old != new


def test_a_column_named_id_does_not_decide_which_rows_go(ground: Ground) -> None:
    table = source_table({"_id": "bigint", "v": "varchar"}, uri="drop/", format="csv")
    ground.put("drop/a.csv", "_id,v\n5,a\n6,a\n7,a\n")
    for value in ("old", "new"):
        ground.put("drop/b.csv", f"_id,v\n0,{value}\n2,same\n")
        ground.land(table)
    assert sorted(ground.rows("_id, v")) == [(0, "new"), (2, "same"), (5, "a"), (6, "a"), (7, "a")]


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from("ab")), min_size=1, max_size=8
)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=st.lists(ROWS, min_size=2, max_size=2), seed=st.integers(0, 99))
def test_after_any_versions_raw_holds_the_last_one(
    tmp_path_factory: pytest.TempPathFactory, versions: list[list[tuple[int, int, str]]], seed: int
) -> None:
    ground = Ground(tmp_path_factory.mktemp("versions"))
    held: Counter[tuple[object, ...]] = Counter()
    for number, rows in enumerate(versions, 1):
        random.Random(seed).shuffle(rows)
        ground.put("in.csv", file_of(*rows))
        ground.land(ground.daily(), ALL)
        now = Counter((i, day, name) for i, day, name in rows)
        stored = ground.ask('select id, day("at"), name, _run_id from raw.readings')
        assert Counter(row[:3] for row in stored) == now
        # Kept rows are the overlap of both versions, as often as they are in both.
        assert Counter(row[:3] for row in stored if row[3] != f"run-{number}") == held & now
        held = now
    ground.close()
