"""Measuring: a command's wall time and the peak memory of its largest process, a call's percentiles."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles

from benchmarks.report import MissingError

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage: bytes on macOS, KiB elsewhere


@dataclass(frozen=True)
class Measured:
    """What a command cost: seconds on the wall, bytes of memory at its peak."""

    seconds: float
    peak_bytes: int

    def __add__(self, other: "Measured") -> "Measured":
        return Measured(self.seconds + other.seconds, max(self.peak_bytes, other.peak_bytes))


def measure(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Measured:
    """Run ``command`` to its end, its output going to ``log``.

    Raises:
        RuntimeError: It exited with another code than 0; the message ends with its last lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}:\n{tail}")
    return Measured(seconds, usage.ru_maxrss * _RSS_UNIT)


def apart(work: Callable[..., object], *arguments: object) -> None:
    """Do it in a process of its own: Linux counts what a process had before it starts one as that one's too.

    Raises:
        Exception: What ``work`` raises.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(work, *arguments).result()


def percentiles(work: Callable[[int], object], calls: int) -> tuple[float, float]:
    """Microseconds of the median call and of the 99th in a hundred, after a tenth as many to warm up."""
    for number in range(calls // 10):
        work(number)
    taken = []
    for number in range(calls):
        started = time.perf_counter_ns()
        work(number)
        taken.append((time.perf_counter_ns() - started) / 1000)
    return median(taken), quantiles(taken, n=100)[98]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server() -> Iterator[str]:
    """The address of a Redis of our own that writes nothing to disk.

    Raises:
        MissingError: There is no redis-server.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise MissingError("found no redis-server, expected one on the path (package redis-server)")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)
