"""The embedded online store: a folder a view, in it one LMDB environment a generation.

A generation holds everything a view has; a rebuild makes a new one beside it and then lets the file
``current`` name it. The old one loses its position, by which readers notice that they have to look for the
new one; once a second they look at the name too, should the writer have been killed in between. Readers
never wait: each read is one LMDB transaction. Writers of a view take turns by a lock on a file. A killed
writer leaves at most a generation that nobody reads, which the next one removes.

Keys that change are strewn over all pages, and each page that changes is written whole. So what changes in a
large generation goes to its end, beside what else has changed recently (``lmdb_recent``), and moves to its
place once there is much of it. What belongs here: files, transactions, processes. What does not: what a
value means, and where in a generation it is.
"""

import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from weakref import WeakSet, WeakValueDictionary

import lmdb

from orchestration.feature_store.online.encoding import SchemaMismatchError
from orchestration.feature_store.online.lmdb_recent import Entities, has_recent, values_of
from orchestration.feature_store.online.store import (
    POSITION_KEY,
    Applied,
    Batch,
    Changes,
    ConcurrentMaterializationError,
    Held,
    NotMaterializedError,
    Position,
)
from orchestration.feature_store.views import View

MAP_BYTES = 1 << 37
"""Address space of one generation: the most it can grow to. No file is larger than what it holds."""
MAX_READERS = 1024
"""Threads and processes that may read one generation at once."""
RECENT_SHARE = 16
"""One entity in so many may be among the recent: reads look there first; to move them writes every page."""
SMALL = 50_000
"""Changes to a view of fewer entities are written in their places at once."""
LOOK_SECONDS = 1.0
"""How long a reader may go on with a generation whose replacer was killed before it could say so."""
_ATTEMPTS = 50


class _Environments:
    """The environments this process has open: LMDB allows one of each at a time, and none across a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()
        self.stores: WeakSet[LmdbStore] = WeakSet()
        os.register_at_fork(before=self._close, after_in_child=self._forget)

    def get(self, folder: Path) -> lmdb.Environment:
        """The environment in a folder that holds one.

        Raises:
            lmdb.Error: There is none, or this process has inherited it by a fork amid a read.
        """
        with self._lock:
            env = self._open.get(str(folder))
            if env is None:
                env = _open_environment(folder, create=False)
                self._open[str(folder)] = env
            return env

    def _close(self) -> None:
        # An environment is closed by whoever holds it last.
        for store in list(self.stores):
            store.close()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._open = WeakValueDictionary()


def _open_environment(folder: Path, *, create: bool) -> lmdb.Environment:
    return lmdb.open(
        str(folder),
        map_size=MAP_BYTES,
        max_readers=MAX_READERS,
        create=create,
        sync=not create,
        metasync=False,  # a power failure may undo the last commit: whole, and its position with it
        max_dbs=0,
    )


_environments = _Environments()


class _Generation:
    """An open generation, and what is known of its last transaction that was read.

    Attributes:
        known: That transaction's number, the schema and the cutoff of its position, and whether anything is
            among the recent. Threads read different transactions, so these four go together.
    """

    __slots__ = ("env", "folder", "known", "look_again")

    def __init__(self, folder: Path) -> None:
        self.folder, self.look_again = folder, time.monotonic() + LOOK_SECONDS
        self.env, self.known = _environments.get(folder), (-1, "", 0, False)


def _stored_position(txn: lmdb.Transaction) -> Position | None:
    stored = txn.get(POSITION_KEY)
    return None if stored is None else Position.from_bytes(bytes(stored))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def recent_limit(entities: int) -> int:
    """How many of so many entities may be among the recent: few, and where all is quickly written, none."""
    return entities // RECENT_SHARE if entities >= SMALL else 0


class LmdbStore:
    """An online store in a local folder, shared by any number of processes.

    Args:
        folder: Where it is.
        limit: Of how many entities how many may be among the recent before they move to their places.
    """

    kind = "lmdb"
    is_immediate = True

    def __init__(self, folder: Path, limit: Callable[[int], int] = recent_limit) -> None:
        self.folder, self._limit = folder, limit
        self._generations: dict[str, _Generation] = {}
        _environments.stores.add(self)

    def read(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> list[Held]:
        """See ``OnlineStore.read``; one transaction a view."""
        return [self._read(view, keys) for view, keys in wanted]

    async def read_async(self, wanted: Sequence[tuple[View, Sequence[bytes]]]) -> list[Held]:
        """``read``: memory is all it waits for."""
        return self.read(wanted)

    def _read(self, view: View, keys: Sequence[bytes]) -> Held:
        for _ in range(_ATTEMPTS):
            generation = self._current(view.name)
            with generation.env.begin() as txn:
                number, schema, cutoff, is_apart = generation.known
                if number != txn.id():
                    position = _stored_position(txn)
                    if position is None:  # a rebuild has replaced it
                        self._generations.pop(view.name, None)
                        continue
                    schema, cutoff, is_apart = position.schema, position.cutoff, has_recent(txn)
                    generation.known = txn.id(), schema, cutoff, is_apart
                if schema != view.schema_hash:
                    raise SchemaMismatchError(view.name, schema, view.schema_hash)
                return values_of(txn, keys) if is_apart else list(map(txn.get, keys)), cutoff
        raise NotMaterializedError(view.name)

    def position(self, view: str) -> Position | None:
        """See ``OnlineStore.position``."""
        with self._newest(view) as txn:
            return None if txn is None else _stored_position(txn)

    def size(self, view: str) -> int:
        """See ``OnlineStore.size``."""
        with self._newest(view) as txn:
            return 0 if txn is None else Entities(txn).count

    def rebuild(self, view: str, position: Position, batches: Iterable[Batch]) -> int:
        """See ``OnlineStore.rebuild``; batches in the order of their keys are written fastest."""
        with self._writing(view) as folder:
            self._sweep(folder)
            new = folder / f"{secrets.token_hex(8)}.new"
            written = _write_generation(new, position, batches)
            built = new.rename(new.with_suffix(""))
            _sync_folder(folder)
            old = self._named(folder)
            pointer = folder / "current.new"
            pointer.write_text(built.name)
            with pointer.open("rb") as handle:
                os.fsync(handle.fileno())
            pointer.replace(folder / "current")
            _sync_folder(folder)
            if old is not None:
                _retire(old)
            self._generations.pop(view, None)
        return written

    def apply(self, view: str, base: Position, position: Position, changes: Changes) -> Applied:
        """See ``OnlineStore.apply``."""
        with self._writing(view) as folder:
            self._sweep(folder)
            named = self._named(folder)
            if named is None:
                raise ConcurrentMaterializationError(view)
            env = _environments.get(named)
            env.reader_check()
            with env.begin(write=True) as txn:
                if _stored_position(txn) != base:
                    raise ConcurrentMaterializationError(view)
                applied = Entities(txn).apply(changes, self._limit)
                txn.put(POSITION_KEY, position.to_bytes())
        return applied

    def close(self) -> None:
        """Let go of the open generations."""
        self._generations = {}

    def _named(self, folder: Path) -> Path | None:
        try:
            return folder / (folder / "current").read_text()
        except FileNotFoundError:
            return None

    def _current(self, view: str) -> _Generation:
        generation = self._generations.get(view)
        if generation is not None:
            now = time.monotonic()
            if now < generation.look_again:
                return generation
            if self._named(self.folder / view) == generation.folder:
                generation.look_again = now + LOOK_SECONDS
                return generation
        for _ in range(_ATTEMPTS):
            folder = self._named(self.folder / view)
            if folder is None:
                break
            try:
                generation = _Generation(folder)
            except lmdb.Error:
                if folder == self._named(self.folder / view):
                    raise
                continue  # replaced and removed since its name was read
            self._generations[view] = generation
            return generation
        raise NotMaterializedError(view)

    @contextmanager
    def _newest(self, view: str) -> Iterator[lmdb.Transaction | None]:
        """A transaction on the newest state of a view; None for a view that has none."""
        for _ in range(_ATTEMPTS):
            try:
                generation = self._current(view)
            except NotMaterializedError:
                break
            with generation.env.begin() as txn:
                if txn.get(POSITION_KEY) is not None:
                    yield txn
                    return
            self._generations.pop(view, None)
        yield None

    @contextmanager
    def _writing(self, view: str) -> Iterator[Path]:
        folder = self.folder / view
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "writer.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder

    def _sweep(self, folder: Path) -> None:
        """Remove what killed writers have left."""
        current = self._named(folder)
        for other in folder.iterdir():
            if other.is_dir() and other != current:
                if other.suffix:
                    shutil.rmtree(other)
                else:
                    _retire(other)


def _write_generation(folder: Path, position: Position, batches: Iterable[Batch]) -> int:
    """Fill a new generation; nobody reads it yet, so it reaches the disk once, at the end."""
    written = 0
    with closing(_open_environment(folder, create=True)) as env:
        for batch in batches:
            with env.begin(write=True) as txn, txn.cursor() as cursor:
                # Keys in order fill each page; a key that is not greater than all before it is left out.
                if cursor.putmulti(batch, append=True)[1] < len(batch):
                    cursor.putmulti(batch)
            written += len(batch)
        with env.begin(write=True) as txn:
            txn.put(POSITION_KEY, position.to_bytes())
        env.sync(True)
    return written


def _retire(folder: Path) -> None:
    """Tell a generation's readers that it is none any more, and remove its files."""
    with suppress(lmdb.Error), _environments.get(folder).begin(write=True) as txn:
        txn.delete(POSITION_KEY)
    shutil.rmtree(folder)
