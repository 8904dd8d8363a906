"""Runs the whole graph again and again, each time in a fresh process that may be killed on the way.

``python -m tests.crash_runner`` imports the platform once, then answers requests, one JSON object a
line: it forks a child that runs ``groundwork run --force`` under the request's ``environment`` and
kills it with SIGKILL ``kill_after`` seconds from its start, or just before or just after its
``kill_at``-th commit. The answer is ``{"exit": code or -9, "commits": how many it made}``.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# Imported by a run when it needs them; here they are imported once for all runs.
import dbt.adapters.duckdb
import dbt.cli.main
import duckdb
import soda_core.contracts.contract_verification
import soda_duckdb.common.data_sources.duckdb_data_source

from orchestration.run_command import run_command
from orchestration.settings import Settings

LAYERS = "group:raw or group:quarantine or group:staged or group:features"
PRELOADED = (dbt, soda_core, soda_duckdb)


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
        self.counter.write_text(str(self.commits))
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


def work(request: dict[str, Any]) -> int:
    """What the child does."""
    os.environ.update(request["environment"])
    boundary = Boundary(Path(request["counter"]), request.get("kill_at"), before=request.get("before", False))
    connect = duckdb.connect
    duckdb.connect = lambda *a, **k: Watched(connect(*a, **k), boundary)
    return run_command(Settings(), None, request["last"], LAYERS, force=True)


def answer(request: dict[str, Any]) -> dict[str, int]:
    """Fork the child, kill it if asked to, and say how it ended."""
    counter = Path(request["counter"])
    counter.write_text("0")
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os._exit(work(request))
    if (seconds := request.get("kill_after")) is not None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return {"exit": os.waitstatus_to_exitcode(status), "commits": int(counter.read_text())}
            time.sleep(0.005)
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return {"exit": os.waitstatus_to_exitcode(status), "commits": int(counter.read_text())}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
