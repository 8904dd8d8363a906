"""64 clients read without pause while one process materializes, changes and everything by turns.

The same load against Feast's feature server with its default online store, SQLite, while rows are written:
by a process of its own, and by the server itself, whose threads share one connection.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.clients import ENTITIES, ask_for_long, bad
from benchmarks.feast_environment import feast_python
from benchmarks.mill import Mill
from benchmarks.report import Row
from benchmarks.timing import redis_server
from orchestration.settings import PROJECT_DIR

CLIENTS = 64
WORKERS = 2
SERVED = "by its server"
START_SECONDS = 1.0
"""Client processes take so long to start."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: Sequence[str], log: Path, health: str, **environment: str) -> Iterator[None]:
    """A server process that answers."""
    variables = {**os.environ, "PYTHONPATH": str(PROJECT_DIR), **environment}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=variables, stdout=out, stderr=out)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(health, timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise RuntimeError(f"{log}: {log.read_text()}") from None
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(60)


def _load(
    address: str, writer: Callable[[float], Sequence[str]], clients: int, seconds: float
) -> tuple[Counter[str], dict[str, int]]:
    """What clients get while a process writes, and how much it wrote; they begin when it does."""
    variables = {**os.environ, "PYTHONPATH": str(PROJECT_DIR)}
    process = subprocess.Popen(
        writer(seconds + START_SECONDS), env=variables, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        found = ask_for_long(address, clients, seconds)
        told = process.communicate(timeout=60)[0]
    finally:
        if process.poll() is None:
            process.kill()
    written: dict[str, int] = json.loads(told.splitlines()[-1])
    return found, written


def load_ours(
    folder: Path, redis_url: str | None, *, clients: int, seconds: float, workers: int
) -> tuple[Counter[str], dict[str, int]]:
    """Our server over one of the stores, in a folder of its own."""
    folder.mkdir(parents=True)
    more = [] if redis_url is None else [redis_url]
    Mill(folder, redis_url).write(0)
    port = free_port()
    mill = [sys.executable, "-m", "benchmarks.mill"]
    address = f"http://127.0.0.1:{port}"
    serve = [*mill, "serve", str(folder), str(workers), *more]
    with _running(serve, folder / "log", f"{address}/health", GROUNDWORK_SERVER_PORT=str(port)):
        return _load(address, lambda s: [*mill, "write", str(folder), str(s), *more], clients, seconds)


def _load_feast(
    folder: Path, *, clients: int, seconds: float, through_server: bool
) -> tuple[Counter[str], dict[str, int]]:
    python = feast_python()
    script = [str(python), str(Path(__file__).with_name("feast_mill.py"))]
    subprocess.run([*script, "prepare", str(folder), str(ENTITIES)], check=True, capture_output=True)
    port = free_port()
    workers = 1 if through_server else WORKERS
    serve = [str(python.with_name("feast")), "-c", str(folder), "serve", "-p", str(port), "--no-access-log"]
    serve += ["--workers", str(workers), "--max-requests", "10000000"]
    address = f"http://127.0.0.1:{port}"
    more = [address] if through_server else []

    def write(duration: float) -> list[str]:
        return [*script, "write", str(folder), str(ENTITIES), str(duration), *more]

    with _running(serve, folder / "log", f"{address}/health"):
        return _load(address, write, clients, seconds)


def _told(found: Counter[str], written: dict[str, int]) -> str:
    """One line: wrong is torn or older than the answer before."""
    return (
        f"{found['answers']:,} answers: {found['torn'] + found['back']:,} wrong, {found['null']:,} null, "
        f"{found['error']:,} errors; " + ", ".join(f"{count} {name}" for name, count in written.items())
    )


def run(place: Path, *, repeats: int, seconds: float) -> list[Row]:  # nothing is measured
    """Both our stores, and Feast's."""
    named = {"LMDB": load_ours(place / "lmdb", None, clients=CLIENTS, seconds=seconds, workers=WORKERS)}
    with redis_server() as url:
        named["Redis"] = load_ours(place / "redis", url, clients=CLIENTS, seconds=seconds, workers=WORKERS)
    theirs = {
        name: _load_feast(place / name, clients=CLIENTS, seconds=seconds, through_server=name == SERVED)
        for name in ("by a process", SERVED)
    }
    for name, (found, written) in {**named, **{f"Feast, written {n}": r for n, r in theirs.items()}}.items():
        print(f"{name}: {_told(found, written)}; {dict(found)}")
    text = "\n".join(f"Feast, SQLite, written {name}: {_told(*result)}" for name, result in theirs.items())
    return [
        Row(f"{CLIENTS} clients, {seconds:.0f} s, {name}", _told(*ours), text, bad(ours[0]), 0, "bad")
        for name, ours in named.items()
    ]
