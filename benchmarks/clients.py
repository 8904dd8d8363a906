"""Clients of a feature server that ask without pause, and judge what they get.

All features of all entities carry the number of the generation they were written in, so that a torn answer is
seen: two numbers in one answer. What belongs here: asking over HTTP, and judging. Nothing of Groundwork is
imported, so that a client process starts at once.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from urllib.parse import urlsplit

import orjson

VIEW, KEY = "stock", "item"
FEATURES = tuple(f"f{n}" for n in range(10))
ENTITIES = 500
ASKED = 20
"""Entities of one request."""
PROCESSES = 2


def entity(number: int) -> str:
    """The key of an entity."""
    return f"item-{number}"


class Judge:
    """What one client has got: ``torn`` answers mix generations, ``back`` ones are older than the one before,
    ``null`` ones lack values, ``error`` ones are none."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._latest = -1

    def error(self, why: str) -> None:
        """Count a request that got no answer."""
        self.found["answers"] += 1
        self.found["error"] += 1
        self.found[f"error: {why}"] += 1

    def answer(self, columns: Sequence[Sequence[int | None]]) -> None:
        """Count an answer by its columns of features."""
        self.found["answers"] += 1
        values = {value for column in columns for value in column}
        if None in values or len(columns) != len(FEATURES):
            self.found["null"] += 1
        elif len(values) > 1:
            self.found["torn"] += 1
        else:
            (generation,) = values
            assert generation is not None
            self.found["back"] += generation < self._latest
            self.found["generations"] += generation != self._latest
            self._latest = generation


def bad(found: Counter[str]) -> int:
    """How many answers were not what they should be."""
    return found["error"] + found["null"] + found["torn"] + found["back"]


async def _client(host: str, port: int, until: float, seed: int) -> Counter[str]:
    judge, chance = Judge(), random.Random(seed)
    features = [f"{VIEW}:{name}" for name in FEATURES]
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    while time.monotonic() < until:
        items = [entity(chance.randrange(ENTITIES)) for _ in range(ASKED)]
        body = orjson.dumps({"features": features, "entities": {KEY: items}})
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection(host, port)
            writer.write(
                b"POST /get-online-features HTTP/1.1\r\nhost: %b:%d\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (host.encode(), port, len(body), body)
            )
            status, answer = await asyncio.wait_for(_read(reader), 30)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            judge.error(type(error).__name__)
            if writer is not None:
                writer.close()
            reader = writer = None
            await asyncio.sleep(0.05)
            continue
        if status != 200:
            judge.error(f"HTTP {status}")
        else:
            judge.answer([result["values"] for result in orjson.loads(answer)["results"][1:]])
    if writer is not None:
        writer.close()
    return judge.found


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (li.partition(":") for li in lines)}
    return int(first.split()[1]), await reader.readexactly(int(headers["content-length"]))


async def _clients(host: str, port: int, count: int, seconds: float, seed: int) -> Counter[str]:
    until = time.monotonic() + seconds
    found = await asyncio.gather(*(_client(host, port, until, seed + n) for n in range(count)))
    return sum(found, Counter())


def _process(host: str, port: int, count: int, seconds: float, seed: int) -> Counter[str]:
    return asyncio.run(_clients(host, port, count, seconds, seed))


def ask_for_long(address: str, clients: int, seconds: float) -> Counter[str]:
    """So many clients, each with a connection of its own, in some processes; what they have got."""
    parts = urlsplit(address)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        running = [
            pool.submit(_process, host, port, clients // PROCESSES, seconds, 1000 * n)
            for n in range(PROCESSES)
        ]
        return sum((one.result() for one in running), Counter())
