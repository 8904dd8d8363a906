"""Processes of their own, forked from a server that has imported the platform.

To start Python and import Dagster, dbt and Soda takes five seconds of a processor. One server belongs to a
test process; it starts with the first process that is asked for.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.forked"])


class Forked:
    """A process that does ``work``, under these environment variables alone; what it prints goes to a file."""

    def __init__(
        self, work: Callable[..., object], *arguments: Any, environment: Mapping[str, str], output: Path
    ) -> None:
        self._output = output
        self._process = CONTEXT.Process(target=_do, args=(work, arguments, dict(environment), output))
        self._process.start()

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._output.read_text() if self._output.exists() else ""

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Wait until it has printed this."""
        end = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < end, f"{text!r} is not in what it said:\n{self.said}"
            assert self._process.is_alive(), f"it has ended without {text!r}:\n{self.said}"
            time.sleep(0.02)

    def send(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signum)

    def end(self, seconds: float = 120) -> int:
        """Its exit code, once it has ended; it is killed if it goes on for longer."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            raise AssertionError(f"it went on for more than {seconds} seconds:\n{self.said}")
        return int(self._process.exitcode or 0)


def _do(
    work: Callable[..., object], arguments: tuple[Any, ...], environment: Mapping[str, str], output: Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with output.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    work(*arguments)


def groundwork(*arguments: str) -> None:
    """The command line, as the script ``groundwork`` runs it."""
    from orchestration.cli import main  # noqa: PLC0415 - imported in the server

    sys.argv = ["groundwork", *arguments]
    main()
