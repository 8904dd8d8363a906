"""Predictions written down as they are made: files of JSON lines, one writer each, until they are landed.

A line is in its file when the prediction is answered, so that a killed process loses none that anybody has
got; on the disk it is ``SYNC_SECONDS`` later at the latest, which is what a machine that loses its power
may lose. No line is held in memory. What belongs here: the files. What does not: what a line says
(``predictor``) and what becomes of it (``landing``).

A file that is written to is called ``*.open`` and locked by its writer; it gets another name when it is
large or ``SEGMENT_SECONDS`` old. One that nobody locks is what a killed process has left. One that is not
locked yet is called ``*.new`` and has no line. One that cannot be landed is kept as ``*.refused``.
"""

import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SYNC_SECONDS = 0.2
SEGMENT_SECONDS = 10.0
SEGMENT_BYTES = 16_000_000
NEW, OPEN, WHOLE, REFUSED = ".new", ".open", ".jsonl", ".refused"

_log = logging.getLogger("groundwork.server")


@dataclass
class _Segment:
    path: Path
    handle: int
    since: float
    size: int = 0
    synced: int = 0


class PredictionLog:
    """Where one process writes its predictions.

    Args:
        folder: The log of all models and processes.
        sync_seconds: How long at most a line is not on the disk.
    """

    def __init__(self, folder: Path, *, sync_seconds: float = SYNC_SECONDS) -> None:
        self._folder, self._pause = folder, sync_seconds
        self._segments: dict[str, _Segment] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def write(self, model: str, lines: Iterable[bytes]) -> None:
        """Add predictions of a model, a JSON object each.

        Raises:
            OSError: They are not written down, or not all.
        """
        data = b"".join(line + b"\n" for line in lines)
        with self._lock:
            segment = self._segments.get(model) or self._begin(model)
            written = os.write(segment.handle, data)
            if written < len(data):
                # A full disk: a part of a line, or lines that nobody gets, must not stand before others.
                os.ftruncate(segment.handle, segment.size)
                raise OSError(f"{segment.path}: {written} of {len(data)} bytes were written")
            segment.size += written
            if segment.size >= SEGMENT_BYTES:
                self._end(model)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="prediction-log", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End all files."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            for model in list(self._segments):
                self._end(model)

    def _begin(self, model: str) -> _Segment:
        folder = self._folder / model
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f"{time.time_ns():020d}-{secrets.token_hex(8)}{NEW}"
        handle = os.open(new, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o640)
        fcntl.flock(handle, fcntl.LOCK_EX)
        path = new.rename(new.with_suffix(OPEN))  # Now that it is locked, it may be seen.
        _sync(folder)
        made = self._segments[model] = _Segment(path, handle, time.monotonic())
        return made

    def _end(self, model: str) -> None:
        segment = self._segments.pop(model)
        os.fsync(segment.handle)
        segment.path.rename(segment.path.with_suffix(WHOLE))
        os.close(segment.handle)

    def _keep(self) -> None:
        """Bring lines to the disk, and end files that are old."""
        while not self._stop.wait(self._pause):
            try:
                self._sync_all()
            except OSError:
                _log.exception("predictions cannot be brought to the disk")

    def _sync_all(self) -> None:
        with self._lock:
            for model, segment in list(self._segments.items()):
                if time.monotonic() - segment.since > SEGMENT_SECONDS:
                    self._end(model)
            waiting = [s for s in self._segments.values() if s.synced < s.size]
            handles = [(s, os.dup(s.handle), s.size) for s in waiting]
        for segment, handle, size in handles:  # without the lock: a prediction must not wait for the disk
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            segment.synced = size


@contextmanager
def alone(folder: Path, *, patient: bool = True) -> Iterator[None]:
    """Inside it nobody else looks which files of a model's log can be landed, or lands them.

    Args:
        folder: The model's log.
        patient: Whether to wait for whoever does.

    Raises:
        BlockingIOError: Somebody does.
        FileNotFoundError: There is no log.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if patient else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def waiting_segments(folder: Path) -> list[Path]:
    """The files of a model's log that have lines and could be landed, oldest first; none while they are.

    One that its writer holds is not among them: whoever is asked to land it would find nothing to land, and
    not be asked again under the same name once the writer has been killed.
    """
    with suppress(BlockingIOError, FileNotFoundError), alone(folder, patient=False):
        files = sorted(path for path in folder.iterdir() if path.suffix in (OPEN, WHOLE))
        return [path for path in files if _waits(path)]
    return []


def _waits(path: Path) -> bool:
    with suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file.fileno()).st_size > 0
    return False


def whole_segments(folder: Path) -> Iterator[Path]:
    """The files of a model's log that nobody writes to any more, oldest first.

    What a killed process has left loses an unfinished last line, which nobody has got an answer for; a file
    that it had not come to lock is removed.
    """
    for path in folder.glob(f"*{NEW}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > SEGMENT_SECONDS:
                path.unlink()
    for path in sorted(folder.glob(f"*{OPEN}")):
        with suppress(FileNotFoundError), path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _cut(file.fileno())
            with suppress(FileNotFoundError):  # ended between the two looks
                path.rename(path.with_suffix(WHOLE))
    yield from sorted(folder.glob(f"*{WHOLE}"))


def _cut(handle: int) -> None:
    """Cut off what follows on the last line break."""
    end = os.fstat(handle).st_size
    at, rest = end, b""
    while at and b"\n" not in rest:
        begin = max(at - 65_536, 0)
        rest, at = os.pread(handle, at - begin, begin), begin
    os.ftruncate(handle, at + rest.rfind(b"\n") + 1)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
