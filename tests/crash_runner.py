"""Runs the whole graph again and again, each time in a fresh process that may be killed on the way.

``python -m tests.crash_runner`` imports the platform once, then answers requests, one JSON object a
line: it forks a child that runs ``groundwork run --force`` under the request's ``environment`` and
kills it with SIGKILL ``kill_after`` seconds from its start, or just before or just after its
``kill_at``-th commit. The answer is ``{"exit": code or -9, "commits": how many it made, "seconds": how
long it took}``. Before it forks a child it imports what earlier children have imported, and has dbt
parse the project if its files have changed, so that a run starts with what a long-lived process has.
"""

import gc
import importlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

import tests.forked  # noqa: F401 - does what each run would do anew
from orchestration.run_command import run_command
from orchestration.settings import Settings
from orchestration.transformation.manifest import executable_manifest

LAYERS = (
    "group:raw or group:quarantine or group:staged or group:features or "
    '(group:training and not key:"datasets/*")'
)


class Boundary:
    """Counts commits, and ends the process at one of them."""

    def __init__(self, counter: Path, kill_at: int | None, *, before: bool) -> None:
        self.counter, self.kill_at, self.before, self.commits = counter, kill_at, before, 0

    def commit(self, run: Any) -> Any:
        self.commits += 1
        if self.commits == self.kill_at and self.before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = run()
        if self.commits == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        with self.counter.open("a") as counter:
            counter.write("+")
        return result


class Watched:
    """A DuckDB connection whose commits are counted; everything else is the real connection's."""

    def __init__(self, connection: Any, boundary: Boundary) -> None:
        self._connection, self._boundary = connection, boundary

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Whoever asks for a DuckDB connection gets one."""
        return duckdb.DuckDBPyConnection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def cursor(self) -> "Watched":
        return Watched(self._connection.cursor(), self._boundary)

    def commit(self) -> Any:
        return self._boundary.commit(self._connection.commit)

    def execute(self, query: Any, *arguments: Any, **named: Any) -> Any:
        def run() -> Any:
            return self._connection.execute(query, *arguments, **named)

        if isinstance(query, str) and query.strip().rstrip(";").lower() == "commit":
            return self._boundary.commit(run)
        return run()


def warm_up(imported: Path, known: set[str]) -> None:
    """Do what writes nothing and would be done anew in each child."""
    new = set(imported.read_text().split()) - known if imported.exists() else set()
    for name in sorted(new):
        with suppress(ImportError):
            importlib.import_module(name)
    executable_manifest(Settings())
    if new:
        known |= new
        gc.collect()
        gc.freeze()


def work(request: dict[str, Any], imported: Path) -> int:
    """What the child does."""
    boundary = Boundary(Path(request["counter"]), request.get("kill_at"), before=request.get("before", False))
    connect = duckdb.connect
    duckdb.connect = lambda *a, **k: Watched(connect(*a, **k), boundary)
    code = run_command(Settings(), None, request["last"], LAYERS, force=True)
    imported.write_text("\n".join(sys.modules))
    return code


def answer(request: dict[str, Any], known: set[str]) -> dict[str, float]:
    """Fork the child, kill it if asked to, and say how it ended."""
    counter = Path(request["counter"])
    counter.write_text("")
    os.environ.update(request["environment"])
    imported = counter.with_name("imported")
    warm_up(imported, known)
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os._exit(work(request, imported))
    ended, status = 0, 0
    if (seconds := request.get("kill_after")) is not None:
        while not ended and time.monotonic() < started + seconds:
            time.sleep(0.005)
            ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            os.killpg(pid, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(pid, 0)
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "commits": len(counter.read_text()),
        "seconds": time.monotonic() - started,
    }


if __name__ == "__main__":
    known: set[str] = set()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), known)), flush=True)
