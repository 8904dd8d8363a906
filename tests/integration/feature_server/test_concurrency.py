"""Many readers while one process materializes changes and everything by turns: each answer is of one whole state."""

import asyncio
import threading
import time
from collections import Counter

import pytest

from benchmarks.clients import ENTITIES, FEATURES, KEY, VIEW, Judge, bad, entity
from benchmarks.concurrency import load_ours
from benchmarks.mill import Mill, make_reader

CLIENTS, SECONDS = 64, 2.0
ASKED = {KEY: [entity(number) for number in range(0, ENTITIES, 25)]}


@pytest.fixture(params=["lmdb", "redis"])
def address(request):
    """The address of a Redis; None for LMDB."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None


def check(found, written):
    assert bad(found) == 0, found
    assert found["answers"] > CLIENTS
    # Several states were seen, of both kinds of materialization.
    assert found["generations"] > CLIENTS
    assert written["changes"] > 0
    assert written["rebuilds"] > 0


def test_64_clients_of_the_server(tmp_path, address):
    folder = tmp_path / tmp_path.name
    check(*load_ours(folder, address, clients=CLIENTS, seconds=SECONDS, workers=1))


def test_64_readers_in_process(tmp_path, address):
    folder = tmp_path / tmp_path.name
    folder.mkdir()
    mill = Mill(folder, address)
    mill.write(0)
    reader, until = make_reader(folder, address), time.monotonic() + SECONDS
    asked = [f"{VIEW}:{name}" for name in FEATURES]
    judges = [Judge() for _ in range(CLIENTS)]

    def in_thread(judge):
        while time.monotonic() < until:
            judge.answer(reader.get_online_features(asked, ASKED).values[1:])
            time.sleep(0.02)

    async def in_task(judge):
        while time.monotonic() < until:
            judge.answer((await reader.get_online_features_async(asked, ASKED)).values[1:])
            await asyncio.sleep(0.02)

    async def in_tasks():
        await asyncio.gather(*map(in_task, judges[CLIENTS // 2 :]))

    threads = [threading.Thread(target=in_thread, args=(judge,)) for judge in judges[: CLIENTS // 2]]
    threads.append(threading.Thread(target=lambda: asyncio.run(in_tasks())))
    for thread in threads:
        thread.start()
    mill.write(SECONDS)
    for thread in threads:
        thread.join()
    found = sum((judge.found for judge in judges), Counter())
    check(found, {"changes": mill.changes, "rebuilds": mill.rebuilds})
