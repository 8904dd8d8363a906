"""A store keeps what is newest, changes whole states at once, and says what it does not have."""

import asyncio
import os
import random
import signal
import time

import hiredis
import pytest
import redis

from orchestration.feature_store.online import lmdb_recent
from orchestration.feature_store.online.encoding import SchemaMismatchError
from orchestration.feature_store.online.keys import NO_ENTITY
from orchestration.feature_store.online.lmdb_store import SMALL, LmdbStore, recent_limit
from orchestration.feature_store.online.redis_line import RedisLine
from orchestration.feature_store.online.store import (
    Applied,
    Changes,
    ConcurrentMaterializationError,
    NotMaterializedError,
    TiedError,
    timestamp_of,
)
from tests.integration.feature_store.stores import VIEW, pairs, position, recent, value
from tests.unit.feature_store.views import make_view


def held(store, *keys, view=VIEW):
    return store.read([(view, list(keys))])[0][0]


def test_a_rebuild_replaces_everything(any_store):
    assert any_store.rebuild("readings", position(1), [pairs(3, 10), pairs(2, 10, start=3)]) == 5
    assert any_store.position("readings") == position(1)
    assert any_store.size("readings") == 5
    assert held(any_store, b"=e000000", b"=e000004", b"=e000005", NO_ENTITY) == [
        value(10, 0),
        value(10, 4),
        None,
        None,
    ]
    assert any_store.rebuild("readings", position(2), [pairs(1, 5)]) == 1
    assert held(any_store, b"=e000000", b"=e000004") == [value(5, 0), None]
    assert any_store.position("readings") == position(2)
    assert any_store.size("readings") == 1


def test_a_rebuild_may_come_in_any_order_or_be_empty(any_store):
    assert (
        any_store.rebuild("readings", position(1), [pairs(3, 10)[::-1], [], [(b"#digest", value(1, 1))]]) == 4
    )
    assert held(any_store, b"#digest", b"=e000002") == [value(1, 1), value(10, 2)]
    assert any_store.rebuild("readings", position(2), []) == 0
    assert held(any_store, b"=e000002") == [None]


def test_an_older_row_never_replaces_a_newer_one(any_store):
    any_store.rebuild("readings", position(1), [[(b"=a", value(10, 1)), (b"=b", value(10, 1))]])
    changes = Changes(newer=[(b"=a", value(9, 2)), (b"=b", value(11, 2)), (b"=c", value(-5, 2))])
    assert any_store.apply("readings", position(1), position(2), changes) == Applied(2, 1, 0)
    assert held(any_store, b"=a", b"=b", b"=c") == [value(10, 1), value(11, 2), value(-5, 2)]


def test_exact_rows_replace_whatever_is_there_and_gone_ones_are_deleted(any_store):
    any_store.rebuild("readings", position(1), [pairs(4, 10)])
    changes = Changes(exact=[(b"=e000000", value(3, 7))], gone=[b"=e000001", b"=never"])
    assert any_store.apply("readings", position(1), position(2), changes) == Applied(1, 0, 1)
    assert held(any_store, b"=e000000", b"=e000001", b"=e000002") == [value(3, 7), None, value(10, 2)]
    assert any_store.size("readings") == 3
    assert any_store.position("readings") == position(2)


def test_many_changes_are_one(any_store):
    any_store.rebuild("readings", position(1), [pairs(12_000, 10)])
    changes = Changes(newer=pairs(11_000, 11), gone=[key for key, _ in pairs(1000, 0, start=11_000)])
    assert any_store.apply("readings", position(1), position(2), changes) == Applied(11_000, 0, 1000)
    assert any_store.size("readings") == 11_000


def test_another_value_of_the_same_instant_is_told_and_nothing_is_written(any_store):
    any_store.rebuild("readings", position(1), [pairs(3, 10)])
    same, other, newer = (b"=e000000", value(10, 0)), (b"=e000001", value(10, 9)), (b"=e000002", value(11, 9))
    with pytest.raises(TiedError, match="1 values have the timestamps of others") as told:
        any_store.apply("readings", position(1), position(2), Changes(newer=[same, other, newer]))
    assert told.value.keys == {b"=e000001"}
    assert any_store.position("readings") == position(1)
    assert held(any_store, b"=e000001", b"=e000002") == [value(10, 1), value(10, 2)]
    any_store.apply("readings", position(1), position(2), Changes(newer=[same, newer], exact=[other]))
    assert held(any_store, b"=e000000", b"=e000001", b"=e000002") == [
        value(10, 0),
        value(10, 9),
        value(11, 9),
    ]


def test_whatever_is_done_a_store_holds_what_a_dict_would(open_store, monkeypatch):
    monkeypatch.setattr(lmdb_recent, "_CHUNK", 7)
    store, reader, chance = open_store(), open_store(), random.Random(13)
    keys = [key for key, _ in pairs(30, 0)] + [b"#e000001", b"#e000002"]
    expected, were_recent = {}, set()
    for step in range(120):
        now, some = 10 * step, chance.sample(keys, chance.choice([0, 1, 3, 9]))
        if step % 40 == 0:
            expected = {key: value(now, 0) for key in some}
            assert store.rebuild("readings", position(step), [sorted(expected.items())]) == len(some)
        else:
            written = {key: value(chance.choice([now, now - 35]), step) for key in some}
            newer, exact, gone = some[::2], some[1::4], some[3::4]
            late = {
                k for k in newer if k in expected and timestamp_of(expected[k]) > timestamp_of(written[k])
            }
            changes = Changes([(k, written[k]) for k in newer], [(k, written[k]) for k in exact], gone)
            done = store.apply("readings", position(step - 1), position(step), changes)
            counts = len(newer) + len(exact) - len(late), len(late), len(expected.keys() & set(gone))
            assert done == Applied(*counts)
            expected |= {k: written[k] for k in [*newer, *exact] if k not in late}
            expected = {k: v for k, v in expected.items() if k not in gone}
        assert held(reader, *keys, NO_ENTITY) == [*map(expected.get, keys), None]
        assert reader.size("readings") == len(expected)
        if isinstance(store, LmdbStore):
            were_recent.add(recent(store, "readings"))
    assert not were_recent or (0 in were_recent and len(were_recent) > 10)


def test_what_changes_in_a_large_view_is_kept_apart_until_there_is_much(tmp_path):
    assert [recent_limit(n) for n in (0, SMALL - 1, SMALL, 1_600_000)] == [0, 0, SMALL // 16, 100_000]
    store = LmdbStore(tmp_path, lambda entities: entities // 10)
    store.rebuild("readings", position(0), [pairs(1000, 0)])
    found = []
    for n in range(1, 8):
        changes = Changes(newer=pairs(20, n, start=20 * n), gone=[f"=e{n:06d}".encode(), b"=no"])
        store.apply("readings", position(n - 1), position(n), changes)
        found.append(recent(store, "readings"))
    assert found == [21, 42, 63, 84, 0, 21, 42]
    assert store.size("readings") == 993
    store.apply("readings", position(7), position(8), Changes(newer=pairs(20, 8, start=140)))
    assert recent(store, "readings") == 42, "what changes again and again fills nothing"
    store.apply("readings", position(8), position(9), Changes(newer=pairs(200, 9)))
    assert recent(store, "readings") == 0
    assert held(store, b"=e000001", b"=e000150", b"=e000300") == [value(9, 1), value(9, 150), value(0, 300)]


def test_changes_that_start_from_another_position_are_refused_whole(open_store):
    one, other = open_store(), open_store()
    one.rebuild("readings", position(1), [pairs(1, 10)])
    other.apply("readings", position(1), position(2), Changes())
    with pytest.raises(ConcurrentMaterializationError, match="readings"):
        one.apply("readings", position(1), position(3), Changes(newer=pairs(1, 11)))
    assert held(one, b"=e000000") == [value(10, 0)]
    assert one.position("readings") == position(2)


def test_changes_to_a_view_that_was_never_built_are_refused(any_store):
    with pytest.raises(ConcurrentMaterializationError):
        any_store.apply("readings", position(1), position(2), Changes())


def test_a_reader_sees_what_another_process_has_rebuilt(open_store):
    reader, writer = open_store(), open_store()
    for n in range(1, 6):
        writer.rebuild("readings", position(n), [pairs(3, n)])
        assert held(reader, b"=e000002") == [value(n, 2)]
        writer.apply("readings", position(n), position(n + 100), Changes(newer=pairs(1, n + 50)))
        assert held(reader, b"=e000000", b"=e000001") == [value(n + 50, 0), value(n, 1)]


def test_views_are_apart(any_store):
    other = make_view({"x": "bigint"}, name="others")
    any_store.rebuild("readings", position(1), [pairs(2, 1)])
    any_store.rebuild("others", position(7), [pairs(2, 2)])
    found = any_store.read([(VIEW, [b"=e000000"]), (other, [b"=e000001", b"=no"])])
    assert found == [([value(1, 0)], position(1).cutoff), ([value(2, 1), None], position(7).cutoff)]
    assert any_store.position("readings") == position(1)


def test_a_view_that_was_never_materialized_is_an_error(any_store):
    with pytest.raises(NotMaterializedError, match="materialize online_store/readings"):
        held(any_store, b"=a")
    assert any_store.position("readings") is None
    assert any_store.size("readings") == 0


def test_a_reader_with_another_schema_gets_an_error_even_for_what_is_missing(any_store):
    any_store.rebuild("readings", position(1), [pairs(2, 1)])
    other = make_view({"x": "bigint", "y": "bigint"})
    with pytest.raises(
        SchemaMismatchError, match=f"found values of schema {VIEW.schema_hash}, expected {other.schema_hash}"
    ):
        held(any_store, b"=no", view=other)


def test_async_reads_are_the_same(open_store):
    store, writer = open_store(), open_store()

    async def read():
        return (await store.read_async([(VIEW, [b"=e000001", b"=no"])]))[0]

    async def twice():
        first = await read()
        writer.rebuild("readings", position(2), [pairs(2, 2)])
        return first, await read()

    writer.rebuild("readings", position(1), [pairs(2, 1)])
    first, second = (([value(n, 1), None], position(n).cutoff) for n in (1, 2))
    assert asyncio.run(twice()) == (first, second)
    assert asyncio.run(read()) == second


def test_a_failed_rebuild_leaves_the_old_state_and_nothing_else(any_store):
    def failing():
        yield pairs(2, 5)
        raise ValueError("the source went away")

    any_store.rebuild("readings", position(1), [pairs(2, 1)])
    with pytest.raises(ValueError, match="went away"):
        any_store.rebuild("readings", position(2), failing())
    assert held(any_store, b"=e000000") == [value(1, 0)]
    assert any_store.position("readings") == position(1)
    any_store.rebuild("readings", position(3), [pairs(2, 3)])
    assert held(any_store, b"=e000000") == [value(3, 0)]


def test_a_forked_process_reads_on(tmp_path):
    store = LmdbStore(tmp_path)
    store.rebuild("readings", position(1), [pairs(2, 1)])
    assert held(store, b"=e000000") == [value(1, 0)]
    assert in_a_fork(lambda: held(store, b"=e000001") == [value(1, 1)])
    store.apply("readings", position(1), position(2), Changes(newer=pairs(2, 2)))
    assert held(store, b"=e000001") == [value(2, 1)]


def test_no_generation_is_left_behind(tmp_path):
    store, reader = LmdbStore(tmp_path), LmdbStore(tmp_path)
    for n in range(4):
        store.rebuild("readings", position(n), [pairs(10, n)])
        held(reader, b"=e000000")
    assert len([p for p in (tmp_path / "readings").iterdir() if p.is_dir()]) == 1


def fork(work):
    """Another process that does this work and ends with 0 if it returns True."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return pid


def in_a_fork(work):
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1]) == 0


LAST = 10**9
"""The timestamp by which readers know the end; later than any that two seconds of writing reach."""


def read_until_the_end(store, log):
    """Read 200 entities again and again, and say so if one is missing or they are of two states."""
    keys = [key for key, _ in pairs(200, 0)]
    reads, states = 0, set()
    while LAST not in states:
        found = held(store, *keys)
        times = {None if value is None else timestamp_of(value) for value in found}
        if len(times) > 1 or None in times:
            log.write_text(f"found {times} in one read")
            return False
        reads += 1
        states |= times
    log.write_text(f"{reads} {len(states)}")
    return True


def test_readers_in_other_processes_see_whole_states_only(open_store, tmp_path):
    store = open_store()
    store.rebuild("readings", position(0), [pairs(200, 0)])
    logs = [tmp_path / "one", tmp_path / "two"]
    readers = [fork(lambda log=log: read_until_the_end(open_store(), log)) for log in logs]
    now, until = 0, time.monotonic() + 2
    while time.monotonic() < until:
        now += 1
        if now % 3:
            store.apply("readings", position(now - 1), position(now), Changes(newer=pairs(200, now)))
        else:
            batches = (pairs(20, now, start=start) for start in range(0, 200, 20))
            store.rebuild("readings", position(now), batches)
    store.apply("readings", position(now), position(LAST), Changes(newer=pairs(200, LAST)))
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in readers]
    assert codes == [0, 0], [log.read_text() for log in logs if log.exists()]
    for log in logs:
        reads, states = map(int, log.read_text().split())
        assert reads > 10
        assert states > 3


def write_for_ever(store, how, at):
    while True:
        at += 1
        if how == "rebuild":
            batches = (pairs(500, at, start=start) for start in range(0, 5000, 500))
            store.rebuild("readings", position(at), batches)
        else:
            store.apply("readings", position(at - 1), position(at), Changes(newer=pairs(5000, at)))


@pytest.mark.parametrize("how", ["rebuild", "apply"])
def test_a_writer_that_is_killed_leaves_a_whole_state(open_store, how):
    store, chance = open_store(), random.Random(7)
    started = time.monotonic()
    store.rebuild("readings", position(0), [pairs(5000, 0)])
    one_write = time.monotonic() - started
    keys = [key for key, _ in pairs(5000, 0)]
    seen, at, kills = set(), 0, 0
    while kills < 20 or len(seen) < 2:
        kills += 1
        pid = fork(lambda at=at: write_for_ever(open_store(), how, at))
        # Longer and longer: a busy machine may not have got to a write yet.
        time.sleep(chance.uniform(0, (4 + kills / 10) * one_write))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        at = store.position("readings").snapshot
        assert held(store, *keys) == [value(at, n) for n in range(5000)]
        seen.add(at)
    store.rebuild("readings", position(1), [pairs(5, 1)])
    assert store.size("readings") == 5


def test_a_lost_connection_to_redis_is_opened_again_and_a_refusal_is_told(redis_url):
    line = RedisLine(redis_url)
    ping = hiredis.pack_command(("PING",))
    assert line.ask(ping * 2, 2) == [b"PONG", b"PONG"]
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert line.ask(ping, 1) == [b"PONG"]
    with pytest.raises(redis.ResponseError, match="unknown command"):
        line.ask(hiredis.pack_command(("NOSUCH",)), 1)
    assert line.ask(ping, 1) == [b"PONG"]
    line.close()
    assert not RedisLine.fits("rediss://127.0.0.1:6379/0")
    with pytest.raises(redis.ResponseError):
        RedisLine(redis_url.replace("//", "//:wrong@")).ask(ping, 1)


def test_redis_that_is_not_there_is_told():
    with pytest.raises(redis.ConnectionError, match="redis at 127"):
        RedisLine("redis://127.0.0.1:1/0").ask(b"", 0)
