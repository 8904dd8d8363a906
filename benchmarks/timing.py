"""Run a command and measure it: wall time and peak memory of its largest process."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
