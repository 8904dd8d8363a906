"""One JSON line a request: who asked for what, how it went, and how long it took.

What belongs here: the line and where it goes. What does not: any value of a request or an answer.
"""

import asyncio
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import orjson

_DELAY_SECONDS = 0.1
_HELD_BYTES = 32_768


@lru_cache(maxsize=2)
def _second(second: int) -> bytes:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}".encode()


@lru_cache(maxsize=1024)
def _request(caller: str, route: str, status: int, rows: int, features: int) -> bytes:
    """What is the same in the lines of many requests."""
    fields = {"caller": caller, "route": route, "status": status, "rows": rows, "features": features}
    return orjson.dumps(fields)[1:-1]


class AccessLog:
    """Lines appended to a file, or to standard output; whole lines at a time, so that workers can share it.

    Lines are held for a tenth of a second and written together, as a write costs what half a read of
    features does: a killed process loses what it held, one that is told to stop loses nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._owned: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._owned = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._target = 1 if self._owned is None else self._owned
        self._held = bytearray()

    def write(self, caller: str, route: str, status: int, rows: int, features: int, nanoseconds: int) -> None:
        """Add the line of one request; called in the event loop."""
        held = self._held
        if not held:
            asyncio.get_running_loop().call_later(_DELAY_SECONDS, self.flush)
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        held += b'{"at":"%b.%06dZ",%b,"microseconds":%d}\n' % (
            _second(second),
            rest // 1000,
            _request(caller, route, status, rows, features),
            nanoseconds // 1000,
        )
        if len(held) > _HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the lines that are held."""
        held, self._held = self._held, bytearray()
        # A full disk or a closed pipe is no reason to refuse features.
        with suppress(OSError):
            os.write(self._target, held)

    def close(self) -> None:
        """Write what is held and close the file."""
        self.flush()
        if self._owned is not None:
            os.close(self._owned)
            self._owned, self._target = None, 1
