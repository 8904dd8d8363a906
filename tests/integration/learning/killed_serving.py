"""What a server's log and a landing do in a process that is killed at a step: a call that changes files, a commit."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.lakehouse import LakehouseResource
from orchestration.learning.serving import landing, log
from orchestration.learning.serving.landing import RefusedFilesError, land_predictions
from orchestration.learning.serving.log import PredictionLog
from orchestration.learning.spec import ModelSpec
from orchestration.settings import Settings
from tests.killing import die

NOW = datetime(2024, 2, 29, 21, tzinfo=UTC)


def line(key: str) -> bytes:
    """A prediction as it is written down."""
    told = {
        "prediction_id": key, "prediction_at": NOW.isoformat(), "predicted_at": NOW.isoformat(), "model_version": "v",
        "dataset_version": "d", "mode": "online", "score": 0.25, "decision": True, "pump": "alder", "demand": 7,
        "features_as_of": {"pressure": NOW.isoformat()},
    }  # fmt: skip
    return json.dumps(told).encode()


class Steps:
    """The steps of this process that have to do with a folder; it dies just before one of them, or amid a write."""

    def __init__(self, folder: Path, last: int | None, *, amid: bool = False) -> None:
        self.folder, self.last, self.amid = str(folder), last, amid
        self.taken: list[str] = []
        os.mkdir = self._watched(os.mkdir, "mkdir", lambda path, *_: None if os.path.isdir(path) else path)
        os.open = self._watched(os.open, "open", lambda path, flags, *_: path if flags & os.O_CREAT else None)
        os.rename = self._watched(os.rename, "rename", lambda path, _: path)
        os.unlink = self._watched(os.unlink, "unlink", lambda path, *_: path)
        fcntl.flock = self._watched(fcntl.flock, "lock", _path_of)  # type: ignore[assignment]
        os.write = self._watched(os.write, "write", _path_of)
        os.fsync = self._watched(os.fsync, "fsync", _path_of)
        os.ftruncate = self._watched(os.ftruncate, "truncate", _path_of)
        os.close = self._watched(os.close, "close", _file_of)
        connect = duckdb.connect
        duckdb.connect = lambda *a, **k: _Connection(connect(*a, **k), self)  # type: ignore[assignment,misc]

    def take(self, step: str) -> None:
        """Come to a step."""
        if len(self.taken) == self.last and not self.amid:
            die()
        self.taken.append(step)

    def _watched(self, call: Any, name: str, place: Callable[..., Any]) -> Any:
        def watched(*arguments: Any, **named: Any) -> Any:
            path = place(*arguments)
            if path is None or not os.fspath(path).startswith(self.folder):
                return call(*arguments, **named)
            if name == "write" and self.amid and len(self.taken) == self.last:
                handle, data = arguments
                call(handle, data[: len(data) - 20])
                die()
            to = [arguments[1]] if name == "rename" else []
            self.take(" ".join([name, *(Path(p).suffix or "folder" for p in (path, *to))]))
            return call(*arguments, **named)

        return watched


def _path_of(file: Any, *_: Any) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
    except OSError:  # none of ours
        return ""


def _file_of(handle: int) -> str | None:
    """Not of a folder: to close it ends a lock at most, as a kill does."""
    path = _path_of(handle)
    return None if os.path.isdir(path) else path


class _Connection:
    def __init__(self, connection: Any, steps: Steps) -> None:
        self._connection, self._steps = connection, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def execute(self, query: str, *rest: Any) -> Any:
        if query in ("commit", "rollback"):
            self._steps.take(query)
        return self._connection.execute(query, *rest)


class _Turns(threading.Event):
    """What the log's thread waits for: the main thread lets it look once, and goes on when it has."""

    def __init__(self) -> None:
        super().__init__()
        self._go, self._done, self._begun = threading.Semaphore(0), threading.Semaphore(0), False

    def wait(self, timeout: float | None = None) -> bool:
        if self._begun:
            self._done.release()
        self._begun = True
        self._go.acquire()
        return self.is_set()

    def set(self) -> None:
        super().set()
        self._go.release()

    def look(self) -> None:
        self._go.release()
        self._done.acquire()


def serve(answered: Any, folder: Path, name: str, last: int | None, *, amid: bool = False) -> None:
    """Write down four predictions of two rows and answer each; files end full, old, and as the server stops."""
    writer, turns = PredictionLog(folder), _Turns()
    writer._stop = turns
    steps = Steps(folder, last, amid=amid)

    def predict(number: int) -> None:
        keys = [f"{name} {number} {row}" for row in "ab"]
        writer.write("low_pressure", map(line, keys))
        steps.take("answer")
        answered.send(keys)

    predict(1)
    turns.look()
    log.SEGMENT_BYTES = 1
    predict(2)
    log.SEGMENT_BYTES = 1_000_000
    predict(3)
    log.SEGMENT_SECONDS = -1
    turns.look()
    predict(4)
    writer.close()
    answered.send(steps.taken)


def land(told: Any, data: Path, spec: ModelSpec, last: int | None) -> None:
    """Land what there is, two files in a transaction."""
    settings = Settings(data_dir=data, duckdb_threads=1)
    landing.FILES_AT_ONCE = 2
    steps = Steps(settings.prediction_log_dir, last)
    try:
        land_predictions(LakehouseResource.from_settings(settings), settings.prediction_log_dir, spec)
    except RefusedFilesError:
        told.send(steps.taken)


def hold(answered: Any, folder: Path, key: str) -> None:
    """Answer one prediction, and go on living."""
    log.SEGMENT_SECONDS = 600
    PredictionLog(folder).write("low_pressure", [line(key)])
    answered.send(key)
    time.sleep(60)
