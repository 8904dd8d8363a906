"""What every online store does, whatever it keeps its bytes in.

What belongs here: the interface, and the words in which materialization and reading speak to a store. What
does not: LMDB (``lmdb_store``) and Redis (``redis_store``).
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from orchestration.feature_store.online.encoding import Pair
from orchestration.feature_store.views import View

POSITION_KEY = b"!position"
"""Where a view's position is kept, beside its values: no entity has this key."""


_TIMESTAMP = struct.Struct("<8xq")


class NotMaterializedError(LookupError):
    """The online store has nothing of a view."""

    def __init__(self, view: str) -> None:
        super().__init__(
            f"online store of {view}: found nothing, expected values: materialize online_store/{view}"
        )


class ConcurrentMaterializationError(RuntimeError):
    """Another process has materialized the same view meanwhile; nothing was written."""

    def __init__(self, view: str) -> None:
        super().__init__(f"online store of {view}: another materialization came between; nothing was written")


class TiedError(RuntimeError):
    """Newer values have the timestamps of others that the store holds; nothing was written.

    Attributes:
        keys: Those of their entities.
    """

    def __init__(self, keys: frozenset[bytes]) -> None:
        super().__init__(f"{len(keys)} values have the timestamps of others that the online store holds")
        self.keys = keys


@dataclass(frozen=True)
class Position:
    """Up to where a view's values follow the lakehouse.

    ``schema`` is the view's schema hash; ``table`` the identity of its lakehouse table; ``snapshot`` the
    lakehouse snapshot that was read; ``cutoff`` the instant, in microseconds since 1970, after which rows
    were not yet known.
    """

    schema: str
    table: str
    snapshot: int
    cutoff: int

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Position":
        """From what is stored."""
        return cls(**json.loads(stored))


Held = tuple[list[bytes | None], int]
"""What a read finds of a view: the value of each key, None where there is none, and its position's cutoff."""


class Batch(Protocol):
    """Some keys with their values, which may be iterated more than once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Pair]: ...


@dataclass(frozen=True)
class Changes:
    """What a materialization changes: all of it becomes visible at once.

    ``newer`` values are written unless the store holds a later one of the entity; ``exact`` values whatever
    it holds; ``gone`` are keys of entities that have no row any more.
    """

    newer: Sequence[Pair] = ()
    exact: Sequence[Pair] = ()
    gone: Sequence[bytes] = ()


@dataclass(frozen=True)
class Applied:
    """How many values were written, skipped because a later one was there, and deleted."""

    written: int
    skipped: int
    deleted: int


class OnlineStore(Protocol):
    """Values of entities by view; readers see each write whole or not at all."""

    kind: str
    is_immediate: bool
    """Whether a read waits for nothing but memory."""

    def position(self, view: str) -> Position | None:
        """Up to where a view has been materialized; None for never."""

    def size(self, view: str) -> int:
        """How many entities a view has in the store."""

    def read(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> list[Held]:
        """The values of keys, view by view, those of one view with the cutoff from one state.

        Raises:
            NotMaterializedError: A view has never been materialized.
            SchemaMismatchError: A view was materialized from another declaration than the given.
        """

    async def read_async(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> list[Held]:
        """``read`` without blocking the event loop for longer than memory takes."""

    def rebuild(self, view: str, position: Position, batches: Iterable[Batch]) -> int:
        """Replace everything a view has; readers see the old values until all new ones are there.

        Returns:
            How many values were written.

        Raises:
            ConcurrentMaterializationError: Another rebuild of the view finished meanwhile.
        """

    def apply(self, view: str, base: Position, position: Position, changes: Changes) -> Applied:
        """Take changes in, and with them the new position, in one transaction.

        Raises:
            ConcurrentMaterializationError: The view's position is not ``base`` any more.
            TiedError: A newer value has the timestamp of another one that is held; nothing was written.
        """

    def close(self) -> None:
        """Let go of files and connections."""


def timestamp_of(value: bytes) -> int:
    """The row timestamp of a value, in microseconds since 1970."""
    timestamp: int = _TIMESTAMP.unpack_from(value)[0]
    return timestamp


def split_newer(newer: Sequence[Pair], held: Sequence[bytes | None]) -> tuple[list[Pair], int]:
    """The pairs that are not older than what the store holds of their entities, and how many are.

    Raises:
        TiedError: A pair has the timestamp of another value that is held.
    """
    older, tied = set[bytes](), set[bytes]()
    at = _TIMESTAMP.unpack_from
    for (key, value), old in zip(newer, held, strict=True):
        if old is not None and old != value and (before := at(old)) >= (now := at(value)):
            (older if before > now else tied).add(key)
    if tied:
        raise TiedError(frozenset(tied))
    return [pair for pair in newer if pair[0] not in older] if older else list(newer), len(older)
