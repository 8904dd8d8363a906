"""The Dagster resource that opens the lakehouse."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeVar

import duckdb
from dagster import InitResourceContext, ResourceDependency
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from orchestration.lakehouse import guards
from orchestration.lakehouse.attachment import Attachment
from orchestration.lakehouse.inlined import flush_inlined_rows
from orchestration.lakehouse.tables import current_snapshot
from orchestration.settings import Settings

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

_CONFLICTS = ("database is locked", "transaction conflict", "could not serialize", "conflict on")


def is_lock_conflict(error: duckdb.Error) -> bool:
    """True when another writer was in the way and trying again can succeed."""
    message = str(error).lower()
    return any(text in message for text in _CONFLICTS)


def retry_on_conflict(work: Callable[[], T], timeout_seconds: float) -> T:
    """Run ``work`` again, after a growing random pause, while another writer is in the way.

    Raises:
        duckdb.Error: The conflict outlasted ``timeout_seconds``, or the error is of another kind.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = 0.05
    while True:
        try:
            return work()
        except duckdb.Error as error:
            if not is_lock_conflict(error) or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 2.0)


_PREPARED: set[str] = set()
"""Catalogs that are known to have the triggers."""
_Shared = dict[tuple[bool, int | None], duckdb.DuckDBPyConnection]
"""Open connections: which can only read, and of which snapshot; None is the newest state."""
_KEPT: dict[str, _Shared] = {}
"""What is kept open in this process from run to run, by lakehouse."""


class LakehouseResource(DuckDBResource):
    """Connections to the lakehouse: attached as ``lake``, closed whatever happens.

    Built on ``DuckDBResource``, so whatever takes one takes this. ``get_connection`` gives a
    read-write connection; ``reader`` one that cannot write. The steps of a run share one DuckDB for
    writing, one for reading and one for each snapshot that is asked for, opened on first use and closed
    when the run ends: to load the extensions takes 0.2 seconds of a processor, as DuckDB checks their
    signatures.
    """

    database: str = ":memory:"
    settings: ResourceDependency[Settings]
    _of_run: _Shared | None = PrivateAttr(default=None)

    @classmethod
    def from_settings(cls, settings: Settings) -> "LakehouseResource":
        """The resource for these settings; they are no part of its config, as they hold secrets."""
        return cls(settings=settings)

    @property
    def attachment(self) -> Attachment:
        """How the lakehouse is reached."""
        return Attachment(self.settings)

    @classmethod
    def _is_dagster_maintained(cls) -> bool:
        return False

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """From now on connections share what is open, until the run ends."""
        self._of_run = _KEPT.get(self._name, {})

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Close what the run's steps have shared, but what is kept open."""
        shared, self._of_run = self._of_run or {}, None
        is_kept = shared is _KEPT.get(self._name)
        # Of snapshots there are many, and none is asked for once its run is over.
        for how in [how for how in shared if how[1] is not None or not is_kept]:
            shared.pop(how).close()

    @property
    def _name(self) -> str:
        return self.attachment.attach_sql(read_only=False, snapshot=None)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Inside it connections share what is open, as the steps of a run do, from run to run."""
        self._of_run = _KEPT[self._name] = {}
        try:
            yield
        finally:
            del _KEPT[self._name]
            shared, self._of_run = self._of_run, None
            for con in shared.values():
                con.close()

    def open(self, *, read_only: bool = False, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
        """An open connection, a session of its own; the caller closes it."""
        if self._of_run is None:
            return self._attached(read_only, snapshot)
        how = (read_only, snapshot)
        if how not in self._of_run:
            self._of_run[how] = self._attached(read_only, snapshot)
        session = self._of_run[how].cursor()
        for statement in self.attachment.session_sql():
            session.execute(statement)
        return session

    def _attached(self, read_only: bool, snapshot: int | None) -> duckdb.DuckDBPyConnection:
        attachment = self.attachment
        con = duckdb.connect(self.database, config=attachment.config())
        try:
            for statement in attachment.setup_sql():
                con.execute(statement)
            retry_on_conflict(
                lambda: con.execute(attachment.attach_sql(read_only=read_only, snapshot=snapshot)),
                self.settings.lake_lock_timeout_seconds,
            )
            self._guard(con, read_only=read_only)
            for statement in attachment.session_sql():
                con.execute(statement)
        except duckdb.Error as error:
            con.close()
            # It quotes the catalog's address with the password.
            raise type(error)(attachment.without_password(str(error))) from None
        except BaseException:
            con.close()
            raise
        return con

    def _guard(self, con: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        """Install missing triggers; a read-only connection reads without file statistics instead."""
        attachment, timeout = self.attachment, self.settings.lake_lock_timeout_seconds
        if not retry_on_conflict(lambda: guards.are_installed(con, attachment), timeout):
            if read_only:
                guards.avoid_statistics(con)
                return
            try:
                retry_on_conflict(lambda: guards.install(con, attachment), timeout)
            except duckdb.Error as error:
                reason = attachment.without_password(str(error))
                raise guards.CatalogGuardError(
                    f"lakehouse catalog: cannot install the triggers: {reason}"
                ) from None
            try:
                for rows in retry_on_conflict(lambda: flush_inlined_rows(con), timeout):
                    _LOG.warning("%s", rows)
            except duckdb.Error as error:  # The next maintenance tries again.
                _LOG.warning("rows stay in the catalog: %s", attachment.without_password(str(error)))
        _PREPARED.add(attachment.path)

    def prepare(self) -> None:
        """Create the lakehouse if there is none, and install its triggers, before dbt writes to it.

        Raises:
            CatalogGuardError: The triggers cannot be installed. Other errors are left to the writer.
        """
        if self.attachment.exists and self.attachment.path in _PREPARED:
            return
        with suppress(duckdb.Error):
            self._attached(read_only=False, snapshot=None).close()

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection, closed at the end even after an exception."""
        with closing(self.open()) as con:
            yield con

    @contextmanager
    def reader(self, *, snapshot: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the newest state, or to one snapshot.

        Raises:
            duckdb.Error: The lakehouse does not exist yet, or the snapshot has expired.
        """
        with closing(self.open(read_only=True, snapshot=snapshot)) as con:
            yield con

    def newest_snapshot(self) -> int:
        """Id of the newest committed snapshot."""
        with self.reader() as con:
            return current_snapshot(con)

    def write(
        self,
        work: Callable[[duckdb.DuckDBPyConnection], T],
        then: Callable[[duckdb.DuckDBPyConnection, T], None] | None = None,
    ) -> T:
        """Run ``work`` in one transaction, again from its start if another writer was in the way.

        Args:
            work: Gets a connection inside an open transaction; it neither commits nor rolls back.
            then: Gets the same connection after the commit, and what ``work`` returned; it only reads.
                Opening another connection would cost a quarter of a second.

        Returns:
            What ``work`` returned in the attempt that committed.

        Raises:
            duckdb.Error: The conflict outlasted ``lake_lock_timeout_seconds``, or another error.
        """

        def attempt() -> T:
            with self.get_connection() as con:
                with in_transaction(con):
                    result = work(con)
                if then is not None:
                    then(con, result)
                return result

        return retry_on_conflict(attempt, self.settings.lake_lock_timeout_seconds)

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction on a connection of its own: committed at the end, or rolled back whole."""
        with self.get_connection() as con, in_transaction(con):
            yield con


@contextmanager
def in_transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """A transaction on an open connection: committed at the end, or rolled back whole."""
    con.execute("begin")
    try:
        yield
    except BaseException:
        con.execute("rollback")
        raise
    con.execute("commit")
