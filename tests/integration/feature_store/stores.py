"""Values made by hand, for tests of what a store does with them."""

import struct

from orchestration.feature_store.online.lmdb_recent import Entities
from orchestration.feature_store.online.store import Position
from tests.unit.feature_store.views import make_view

VIEW = make_view({"x": "bigint"})


def by_turns(entities):
    """A limit for ``LmdbStore``: of changes to all entities, by turns the recent take one and move in place."""
    return entities * 3 // 2


def recent(store, view):
    """How many keys of a view an ``LmdbStore`` has among the recent."""
    with store._newest(view) as txn:
        return Entities(txn).recent


def value(at, x, view=VIEW):
    """A value of the view: timestamp, one feature."""
    return struct.pack("<QqBq", int(view.schema_hash, 16), at, 0, x)


def pairs(count, at, *, start=0):
    """So many entities, in order, all with one timestamp and their number as the feature."""
    return [(f"=e{n:06d}".encode(), value(at, n)) for n in range(start, start + count)]


def position(snapshot, *, view=VIEW):
    return Position(view.schema_hash, "table", snapshot, 0)
