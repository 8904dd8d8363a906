"""Profiles of views in a real lakehouse: right numbers, kept until the table changes."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestration.declarations import DeclaredColumn
from orchestration.feature_store.discovery import ProfileCache, profile
from orchestration.feature_store.views import View
from orchestration.lakehouse import LakehouseResource, last_change
from orchestration.lakehouse.maintenance import maintain
from orchestration.settings import Settings

TYPES = {
    "amount": "double", "pieces": "integer", "rank": "integer", "kind": "varchar", "note": "varchar",
    "is_paid": "boolean", "paid_at": "timestamptz", "price": "decimal(9,2)", "void": "double", "secret": "integer",
}  # fmt: skip
ORDERS = View(
    name="orders", schema="features", table="orders", timestamp="known_at", ttl=timedelta(hours=1), online=True,
    entity=(DeclaredColumn("shop", "varchar", "", "public"), DeclaredColumn("buyer", "bigint", "", "public")),
    features=tuple(DeclaredColumn(n, t, "", "personal" if n == "secret" else "public") for n, t in TYPES.items()),
    description="", owner="team:shop",
)  # fmt: skip
ROWS = """
    select 's' || (i % 5) as shop, i % 100 as buyer, timestamptz '2024-01-01T00:00:00Z' + to_minutes(i) as known_at,
        case when i % 10 = 0 then null when i % 10 = 1 then 'nan'::double else i / 10 end as amount,
        i::integer as pieces, (i % 4)::integer as rank,
        case when i % 2 = 0 then 'even' when i % 4 = 1 then 'one' else 'three' end as kind, 'note ' || i as note,
        i % 4 = 0 as is_paid, timestamptz '2024-01-01T00:00:00Z' + to_hours(i) as paid_at,
        (i / 100)::decimal(9, 2) as price, null::double as void, 42 as secret
    from range(10000) as numbers(i)
"""


@pytest.fixture
def lake(tmp_path):
    lake = LakehouseResource.from_settings(Settings(data_dir=tmp_path, duckdb_threads=1))
    with lake.transaction() as con:
        con.execute("create schema features")
        con.execute(f"create table features.orders as {ROWS}")
        con.execute("create table features.other (i integer)")
    return lake


def test_a_profile_counts_what_is_there(lake):
    with lake.reader() as con:
        found = profile(con, ORDERS)
    assert found.rows == 10_000
    assert found.newest == datetime(2024, 1, 7, 22, 39, tzinfo=UTC)
    assert found.entities == 100
    features = found.features
    assert {name: f.null_share for name, f in features.items() if f.null_share} == {
        "amount": 0.1,
        "void": 1.0,
    }
    pieces = features["pieces"]
    assert (pieces.low, pieces.high) == (0, 9999)
    assert pieces.median == pytest.approx(5000, rel=0.02)
    assert sum(bar.share for bar in pieces.bars) == pytest.approx(0.98, abs=0.001)
    assert max(bar.share for bar in pieces.bars) == pytest.approx(0.98 / len(pieces.bars), rel=0.1)
    assert features["amount"].high == pytest.approx(999.9)
    assert [(b.label, b.share) for b in features["rank"].bars] == [(str(n), 0.25) for n in range(4)]
    assert [(b.label, b.share) for b in features["kind"].bars] == [
        ("even", 0.5),
        ("one", 0.25),
        ("three", 0.25),
    ]
    assert (features["note"].bars, features["note"].distinct) == ((), pytest.approx(10_000, rel=0.1))
    assert [(b.label, b.share) for b in features["is_paid"].bars] == [("true", 0.25), ("false", 0.75)]
    assert features["paid_at"].low == datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    assert features["price"].high == pytest.approx(99.99)
    assert features["void"].bars == ()


def test_of_a_classified_feature_only_nulls_are_told(lake):
    with lake.reader() as con:
        secret = profile(con, ORDERS).features["secret"]
    assert (secret.shape, secret.null_share) == ("hidden", 0.0)
    assert (secret.distinct, secret.low, secret.median, secret.high, secret.bars) == (
        None,
        None,
        None,
        None,
        (),
    )


def test_an_empty_table_has_a_profile_and_a_missing_one_has_none(lake):
    with lake.transaction() as con:
        con.execute("delete from features.orders")
    with lake.reader() as con:
        found = profile(con, ORDERS)
        assert (found.rows, found.newest, found.features["pieces"].bars) == (0, None, ())
    with lake.transaction() as con:
        con.execute("alter table features.orders drop column void")
    with lake.reader() as con:
        assert profile(con, ORDERS) is None
        assert ProfileCache(lake.settings).get(con, ORDERS) is None
    with lake.transaction() as con:
        con.execute("drop table features.orders")
    with lake.reader() as con:
        assert ProfileCache(lake.settings).get(con, ORDERS) is None


def test_a_profile_is_kept_until_its_table_changes(lake):
    cache = ProfileCache(lake.settings)
    folder = lake.settings.data_dir / "cache" / "profiles"

    def look():
        with lake.reader() as con:
            rows = cache.get(con, ORDERS).rows
        (kept,) = folder.iterdir()
        return rows, kept.name

    first = look()
    with lake.transaction() as con:
        con.execute("insert into features.other values (1)")
    assert look() == first
    for statement, rows in (
        ("insert into features.orders select * from features.orders limit 1", 10_001),
        ("delete from features.orders where pieces < 10", 9_990),
        ("update features.orders set rank = 9 where pieces = 20", 9_990),
    ):
        with lake.transaction() as con:
            con.execute(statement)
        now = look()
        assert now[0] in (rows, rows + 1)
        assert now != first
        first = now
    (kept,) = folder.iterdir()
    kept.write_text("{")
    assert look() == first


def test_the_last_change_of_a_table_is_told_even_when_its_snapshot_is_gone(lake):
    with lake.reader() as con:
        before = last_change(con, "features", "orders")
        assert before > 0
        with pytest.raises(LookupError, match=r"features\.nothing"):
            last_change(con, "features", "nothing")
    with lake.transaction() as con:
        con.execute("insert into features.other values (2)")
    maintain(lake, retention=timedelta(0))
    with lake.reader() as con:
        # Its own snapshot has expired; a compaction may have made another.
        assert last_change(con, "features", "orders") != before
        assert profile(con, ORDERS).rows == 10_000
