"""A second process that works beside this one, and tells it lines.

What belongs here: starting it, sharing the processors with it, taking what it tells, its end. What does not:
what it does.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from threadpoolctl import threadpool_limits

from orchestration.replay.history import ReplayError

Work = Callable[[Callable[[str], None]], None]
_THREADS, _WAITING = "OMP_NUM_THREADS", "OMP_WAIT_POLICY"


def share() -> int:
    """Threads of a process that leaves room for another."""
    return max(1, (os.cpu_count() or 1) // 2)


@contextmanager
def sharing() -> Iterator[None]:
    """Inside it this process trains by ``share()`` threads, and a process started there waits without haste.

    Threads that keep a processor busy while they wait for one another make two processes slower than one
    after the other. How many there are changes no tree.
    """
    wanted = {_THREADS: str(share()), _WAITING: "passive"}  # for libraries that are loaded later
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with threadpool_limits(share()):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Beside:
    """A process that does some work; use it in a ``with`` block, at whose end it is over."""

    def __init__(self, work: Work, log: Callable[[str], None]) -> None:
        """Start it: ``work`` is called there with a function that brings lines to ``log`` here."""
        # Not a fork: this process may have threads.
        context = multiprocessing.get_context("spawn")
        self._log = log
        self._told, there = context.Pipe(duplex=False)
        self._process = context.Process(target=_do, args=(work, there), daemon=True)
        self._process.start()
        there.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it, if it is not over."""
        self._process.terminate()
        self._process.join()
        self._told.close()

    def relay(self) -> None:
        """Log what it has told so far.

        Raises:
            ReplayError: It failed.
        """
        while not self._told.closed and self._told.poll():
            if not self._take():
                break

    def wait(self) -> None:
        """Log what it tells until it is done.

        Raises:
            ReplayError: It failed, or was killed.
        """
        while self._take():
            pass
        self._process.join()
        if self._process.exitcode != 0:
            raise ReplayError(
                f"found the process of the walk ended with {self._process.exitcode}, expected 0"
            )

    def _take(self) -> bool:
        try:
            kind, text = self._told.recv()
        except EOFError:
            return False
        if kind == "fault":
            raise ReplayError(text)
        self._log(text)
        return True


def _do(work: Work, told: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ[_THREADS] = str(os.cpu_count() or 1)
    try:
        work(lambda line: told.send(("line", line)))
    except Exception as fault:
        told.send(("fault", str(fault) or repr(fault)))
        raise
    finally:
        told.close()


def _end_with_parent() -> None:
    """Whoever goes on where a killed process was must not meet what it left running."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a process that was started by another"
    parent.join()
    os._exit(1)
