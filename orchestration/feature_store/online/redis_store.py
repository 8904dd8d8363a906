"""The online store in Redis: a hash a view and generation, its fields the entities and the view's position.

A read is one HMGET that asks for the position too: a generation that a rebuild has replaced has none, and
the reader looks for the new one. Changes and their position are one MULTI. All keys of a view carry one hash
tag, so they are on one node of a cluster. What belongs here: Redis. What does not: what a value means.
"""

import asyncio
import secrets
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import hiredis
import redis
import redis.asyncio

from orchestration.feature_store.online.encoding import SchemaMismatchError
from orchestration.feature_store.online.redis_line import RedisLine
from orchestration.feature_store.online.store import (
    POSITION_KEY,
    Applied,
    Batch,
    Changes,
    ConcurrentMaterializationError,
    Held,
    NotMaterializedError,
    Position,
    split_newer,
)
from orchestration.feature_store.views import View

CHUNK = 5_000
"""Entities in one command: a single one must not hold other clients up for long."""
AHEAD = 4
"""Commands of a rebuild that Redis may have before it has answered."""
_ATTEMPTS = 50

T = TypeVar("T")


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + CHUNK] for at in range(0, len(items), CHUNK))


_position = lru_cache(maxsize=256)(Position.from_bytes)


class RedisStore:
    """An online store in a Redis server.

    Args:
        url: ``redis://`` or ``rediss://`` address.
        prefix: What the keys of this platform begin with.
    """

    kind = "redis"
    is_immediate = False

    def __init__(self, url: str, prefix: str) -> None:
        self._url, self._prefix = url, prefix
        # Its annotations mix the answers of both clients.
        self._client: Any = redis.Redis.from_url(url)
        self._line = RedisLine(url) if RedisLine.fits(url) else None
        self._of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._generations: dict[str, bytes] = {}

    def read(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> list[Held]:
        """See ``OnlineStore.read``; one round trip once the generations are known."""
        for name in self._unknown(wanted):
            self._learn(name, self._client.get(self._pointer(name)))
        for _ in range(_ATTEMPTS):
            values = self._values(wanted, self._ask(wanted))
            if values is not None:
                return values
            for name in self._unknown(wanted):
                self._learn(name, self._client.get(self._pointer(name)))
        raise NotMaterializedError(wanted[0][0].name)

    async def read_async(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> list[Held]:
        """See ``OnlineStore.read_async``."""
        client = self._async_client()
        for name in self._unknown(wanted):
            self._learn(name, await client.get(self._pointer(name)))
        for _ in range(_ATTEMPTS):
            async with client.pipeline(transaction=False) as pipe:
                for view, keys in wanted:
                    pipe.hmget(self._generations[view.name], [POSITION_KEY, *keys])
                answers = await pipe.execute()
            values = self._values(wanted, answers)
            if values is not None:
                return values
            for name in self._unknown(wanted):
                self._learn(name, await client.get(self._pointer(name)))
        raise NotMaterializedError(wanted[0][0].name)

    def position(self, view: str) -> Position | None:
        """See ``OnlineStore.position``."""
        for _ in range(_ATTEMPTS):
            generation = self._client.get(self._pointer(view))
            if generation is None:
                return None
            stored = self._client.hget(generation, POSITION_KEY.decode())
            if stored is not None:
                return Position.from_bytes(stored)
        return None

    def size(self, view: str) -> int:
        """See ``OnlineStore.size``."""
        generation = self._client.get(self._pointer(view))
        return 0 if generation is None else int(self._client.hlen(generation)) - 1

    def rebuild(self, view: str, position: Position, batches: Iterable[Batch]) -> int:
        """See ``OnlineStore.rebuild``."""
        pointer, generations = self._pointer(view), self._key(view, "generations")
        before = self._client.get(pointer)
        left = self._client.smembers(generations)
        if orphans := left - {before}:
            self._client.unlink(*orphans)
            self._client.srem(generations, *orphans)
        new = self._key(view, secrets.token_hex(8))
        self._client.sadd(generations, new)
        written = self._fill(new, batches)
        with self._client.pipeline() as pipe:
            pipe.watch(pointer, new)
            # Another rebuild takes this one for an orphan and removes it.
            if pipe.get(pointer) != before or pipe.hlen(new) != written:
                raise ConcurrentMaterializationError(view)
            pipe.multi()
            pipe.hset(new, items=[POSITION_KEY, position.to_bytes()])
            pipe.set(pointer, new)
            if before is not None:
                pipe.unlink(before)
                pipe.srem(generations, before)
            self._commit(pipe, view)
        return written

    def _fill(self, generation: bytes, batches: Iterable[Batch]) -> int:
        """Write batches, each command being packed while Redis works on those before it."""
        pack: Any = hiredis.pack_command  # annotated as if each command were one word
        connection = self._client.connection_pool.get_connection()
        written = waiting = 0
        try:
            for chunk in chain.from_iterable(_chunks(list(batch)) for batch in batches):
                command = pack(("HSET", generation, *chain.from_iterable(chunk)))
                connection.send_packed_command([command])
                waiting += 1
                if waiting == AHEAD:
                    written += connection.read_response()
                    waiting -= 1
            for _ in range(waiting):
                written += connection.read_response()
        except BaseException:
            connection.disconnect()  # with its answers
            raise
        finally:
            self._client.connection_pool.release(connection)
        return written

    def apply(self, view: str, base: Position, position: Position, changes: Changes) -> Applied:
        """See ``OnlineStore.apply``."""
        with self._client.pipeline() as pipe:
            pipe.watch(self._pointer(view))
            generation = pipe.get(self._pointer(view))
            if generation is None:
                raise ConcurrentMaterializationError(view)
            pipe.watch(generation)
            stored = pipe.hget(generation, POSITION_KEY.decode())
            if stored is None or Position.from_bytes(stored) != base:
                raise ConcurrentMaterializationError(view)
            held: list[bytes | None] = []
            for chunk in _chunks(changes.newer):
                held += pipe.hmget(generation, [key for key, _ in chunk])
            newer, skipped = split_newer(changes.newer, held)
            pipe.multi()
            for chunk in _chunks([*newer, *changes.exact]):
                pipe.hset(generation, items=[part for pair in chunk for part in pair])
            gone = list(_chunks(changes.gone))
            for keys in gone:
                pipe.hdel(generation, *keys)
            pipe.hset(generation, items=[POSITION_KEY, position.to_bytes()])
            answers = self._commit(pipe, view)
        deleted = sum(answers[-1 - len(gone) : -1])
        return Applied(len(newer) + len(changes.exact), skipped, deleted)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if self._line is not None:
            self._line.close()
        self._of_loop = WeakKeyDictionary()

    def _commit(self, pipe: Any, view: str) -> list[Any]:
        try:
            answers: list[Any] = pipe.execute()
        except redis.WatchError:
            raise ConcurrentMaterializationError(view) from None
        return answers

    def _key(self, view: str, part: str) -> bytes:
        return f"{self._prefix}:online:{{{view}}}:{part}".encode()

    def _pointer(self, view: str) -> bytes:
        return self._key(view, "current")

    def _async_client(self) -> Any:
        loop = asyncio.get_running_loop()
        client = self._of_loop.get(loop)
        if client is None:
            client = self._of_loop[loop] = redis.asyncio.Redis.from_url(self._url)
        return client

    def _packed(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> bytes:
        """The commands of a read, as they go over the wire."""
        pack: Any = hiredis.pack_command  # annotated as if each command were one word
        commands = (("HMGET", self._generations[v.name], POSITION_KEY, *keys) for v, keys in wanted)
        return b"".join(map(pack, commands))

    def _ask(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> list[Any]:
        """What Redis has of a read, in one round trip."""
        if self._line is not None:
            return self._line.ask(self._packed(wanted), len(wanted))
        with self._client.pipeline(transaction=False) as pipe:
            for view, keys in wanted:
                pipe.hmget(self._generations[view.name], [POSITION_KEY, *keys])
            answers: list[Any] = pipe.execute()
        return answers

    def _unknown(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> list[str]:
        return [view.name for view, _ in wanted if view.name not in self._generations]

    def _learn(self, view: str, generation: Any) -> None:
        if generation is None:
            raise NotMaterializedError(view)
        self._generations[view] = generation

    def _values(
        self, wanted: Sequence[tuple[View, Sequence[bytes]]], answers: Sequence[list[bytes | None]]
    ) -> list[Held] | None:
        """The values; None when a generation has been replaced, which is forgotten then."""
        values = []
        for (view, _), (stored, *found) in zip(wanted, answers, strict=True):
            if stored is None:
                self._generations.pop(view.name, None)
                continue
            position = _position(stored)
            if position.schema != view.schema_hash:
                raise SchemaMismatchError(view.name, position.schema, view.schema_hash)
            values.append((found, position.cutoff))
        return values if len(values) == len(wanted) else None
