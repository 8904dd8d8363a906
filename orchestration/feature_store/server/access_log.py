"""One JSON line a request: who asked for what, how it went, and how long it took.

What belongs here: the line and where it goes. What does not: any value of a request or an answer.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import orjson


class AccessLog:
    """Lines appended to a file, or to standard output; each is one write, so that workers can share it."""

    def __init__(self, path: Path | None) -> None:
        self._owned: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._owned = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._target = 1 if self._owned is None else self._owned

    def write(
        self, caller: str | None, route: str, status: int, rows: int, features: int, nanoseconds: int
    ) -> None:
        """Add the line of one request."""
        line = orjson.dumps(
            {
                "at": datetime.now(UTC),
                "caller": caller,
                "route": route,
                "status": status,
                "rows": rows,
                "features": features,
                "microseconds": nanoseconds // 1000,
            },
            option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE,
        )
        try:
            os.write(self._target, line)
        except OSError:
            # A full disk or a closed pipe is no reason to refuse features.
            return

    def close(self) -> None:
        """Close the file."""
        if self._owned is not None:
            os.close(self._owned)
            self._owned, self._target = None, 1
