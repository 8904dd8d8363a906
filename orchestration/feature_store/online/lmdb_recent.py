"""Where in a generation of the embedded online store a value is: in its place, or among the recent.

The recent are values whose entities changed since all were in their places. They are keys of their own: the
entity's with the highest bit of its first byte set, so that they lie together behind all others and few pages
hold them. One of them stands before the value in the entity's place, and an empty one for an entity that is
gone. All is one tree, so each transaction sees, changes and moves all of it at once. What belongs here: that.
What does not: transactions and files (``lmdb_store``).
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import lmdb

from orchestration.feature_store.online.encoding import Pair
from orchestration.feature_store.online.store import Applied, Changes, split_newer

RECENT_KEY = b"!recent"
"""Where it is kept how many keys are among the recent and how many entities there are, while any are."""
_COUNTS = struct.Struct("<qq")
_FIRST = b"\x80"
"""All keys of the recent begin with this byte or a greater one, the others with smaller ones: with ASCII."""
_RECENT = [bytes((byte | 0x80,)) for byte in range(256)]
_IN_PLACE = [bytes((byte & 0x7F,)) for byte in range(256)]
_GONE = b""
_CHUNK = 50_000


def has_recent(txn: lmdb.Transaction) -> bool:
    """Whether ``values_of`` is needed to read; if not, each value is in its place."""
    return txn.get(RECENT_KEY) is not None


def values_of(txn: lmdb.Transaction, keys: Sequence[bytes]) -> list[bytes | None]:
    """The values of entities' keys; None where there is none."""
    get: Callable[[bytes], bytes | None] = txn.get  # type: ignore[assignment]  # no buffers were asked for
    recent = map(get, [_RECENT[key[0]] + key[1:] for key in keys])
    return [get(key) if value is None else value or None for key, value in zip(keys, recent, strict=True)]


class Entities:
    """A generation's entities in a transaction.

    Attributes:
        count: How many there are.
        recent: How many keys are among the recent.
    """

    def __init__(self, txn: lmdb.Transaction) -> None:
        self._txn = txn
        stored = txn.get(RECENT_KEY)
        # Without it, all keys but that of the position are entities.
        self.recent, self.count = _COUNTS.unpack(stored) if stored else (0, self._keys() - 1)

    def apply(self, changes: Changes, limit: Callable[[int], int]) -> Applied:
        """Take changes in; if more would be recent than ``limit`` has of so many entities, all move in place.

        Raises:
            TiedError: A newer value has the timestamp of another one that is held; nothing was written.
        """
        txn, gone = self._txn, changes.gone
        held = self._held(changes.newer)
        newer, skipped = split_newer(changes.newer, held)
        written = [*newer, *changes.exact]
        if self.recent + len(written) + len(gone) > limit(self.count):
            self._move_in_place()
            self._put(written)
            return Applied(len(written), skipped, sum(map(txn.delete, gone)))
        added = held.count(None) + self._held(changes.exact).count(None)
        there = [key for key, old in zip(gone, values_of(txn, gone), strict=True) if old is not None]
        keys = self._keys()
        self._put([(_RECENT[key[0]] + key[1:], value) for key, value in written])
        self._put([(_RECENT[key[0]] + key[1:], _GONE) for key in there])
        self.recent += self._keys() - keys
        self.count += added - len(there)
        if self.recent:
            txn.put(RECENT_KEY, _COUNTS.pack(self.recent, self.count))
        return Applied(len(written), skipped, len(there))

    def _move_in_place(self) -> None:
        with self._txn.cursor() as recent:
            while recent.set_range(_FIRST):
                items: Iterable[Any] = islice(recent, _CHUNK)
                chunk = [(_IN_PLACE[key[0]] + key[1:], value) for key, value in items]
                self._put(pair for pair in chunk if pair[1] != _GONE)
                for key, value in chunk:
                    if value == _GONE:
                        self._txn.delete(key)
                recent.set_range(_FIRST)
                for _ in chunk:
                    recent.delete()
        self._txn.delete(RECENT_KEY)

    def _put(self, pairs: Iterable[Pair]) -> None:
        with self._txn.cursor() as cursor:
            cursor.putmulti(pairs)

    def _held(self, pairs: Sequence[Pair]) -> list[bytes | None]:
        """``values_of`` many keys, quicker: in the order of keys one look up is near the one before."""
        keys = [key for key, _ in pairs]
        marked = [_RECENT[key[0]] + key[1:] for key in keys]
        with self._txn.cursor() as cursor:
            found: list[Any] = cursor.getmulti(keys)
            recent: dict[Any, Any] = dict(cursor.getmulti(marked)) if self.recent else {}
        held: list[bytes | None] = [value for _, value in found]
        if len(held) < len(keys):
            held = list(map(dict(found).get, keys))
        if recent:
            for place, mark in enumerate(marked):
                if mark in recent:
                    held[place] = recent[mark] or None
        return held

    def _keys(self) -> int:
        return int(self._txn.stat()["entries"])
