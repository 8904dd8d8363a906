"""Who serves: each model's champion in memory, changed without a restart when the registry's has changed.

A thread looks at the lakehouse once a second, which is one question to its catalog while nothing has
changed. A new champion is read and checked whole before one reference is swapped; who is answering with the
old one ends with it. What belongs here: that. What does not: scoring (``predictor``).
"""

import atexit
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from orchestration.lakehouse import LakehouseResource, current_snapshot
from orchestration.learning.artifact import CorruptArtifactError, read_artifact
from orchestration.learning.events import Event, champion_of, read_events
from orchestration.learning.model import ServedModel, opened
from orchestration.learning.spec import ModelSpec

LOOK_SECONDS = 1.0

_log = logging.getLogger("groundwork.server")


class CannotPredictError(RuntimeError):
    """A prediction cannot be made now, through no fault of the request."""


class UnservedModelError(CannotPredictError):
    """A declared model that cannot predict now; the message says why, and what to do."""


@dataclass(frozen=True)
class _Standing:
    """A champion, or why there is none to serve."""

    model: ServedModel | None
    reason: str = ""


class Champions:
    """The champions of a project's models.

    Args:
        lakehouse: Has the registry; nothing is made in it.
        root: Folder of artifacts.
        specs: The declared models by name.
    """

    def __init__(self, lakehouse: LakehouseResource, root: Path, specs: Mapping[str, ModelSpec]) -> None:
        self._lakehouse, self._root, self._specs = lakehouse, root, specs
        self._standings: Mapping[str, _Standing] = {}
        self._con: duckdb.DuckDBPyConnection | None = None
        self._snapshot = -1
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look now, and from then on once a second."""
        self.look()
        self._thread = threading.Thread(target=self._follow, name="champions", daemon=True)
        self._thread.start()
        # A thread inside DuckDB while Python ends would abort the process.
        atexit.register(self.close)

    def close(self) -> None:
        """Look no more."""
        atexit.unregister(self.close)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._forget()

    def current(self, model: str) -> ServedModel:
        """The champion that serves now.

        Raises:
            UnservedModelError: There is none that could.
        """
        standing = self._standings.get(model)
        if standing is None or standing.model is None:
            reason = "the registry has not been read yet" if standing is None else standing.reason
            raise UnservedModelError(f"model {model}: {reason}")
        return standing.model

    def look(self) -> None:
        """Take in what has changed in the registry; what cannot be read changes nothing. Safe in threads."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        try:
            if self._con is None:
                if not self._lakehouse.attachment.exists:
                    self._standings = {name: _Standing(None, _NOBODY) for name in self._specs}
                    return
                self._con = self._lakehouse.open(read_only=True)
                self._con.execute("set threads = 1")  # requests need the others
            snapshot = current_snapshot(self._con)
            if snapshot == self._snapshot:
                return
            events = read_events(self._con, None)
        except duckdb.Error as error:
            _log.error("the registry cannot be read, champions stay: %s", error)
            self._forget()
            return
        self._standings = {
            name: self._standing(spec, self._standings.get(name), events)
            for name, spec in self._specs.items()
        }
        self._snapshot = snapshot

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # noqa: BLE001 (whatever failed, the next look may not)
                _log.exception("the registry cannot be read, champions stay")

    def _forget(self) -> None:
        con, self._con, self._snapshot = self._con, None, -1
        if con is not None:
            con.close()

    def _standing(self, spec: ModelSpec, held: _Standing | None, events: list[Event]) -> _Standing:
        champion = champion_of(events, spec.name)
        if champion is None:
            return _Standing(None, _NOBODY)
        if held is not None and held.model is not None and held.model.version == champion.version:
            return held
        version = champion.version
        registered = next(
            e for e in events if (e.kind, e.model, e.version) == ("registered", spec.name, version)
        )
        try:
            artifact = read_artifact(self._root, spec.name, version, sha256=registered.detail["sha256"])
            model = opened(artifact)
        except CorruptArtifactError as fault:
            if held is not None and held.model is not None:
                _log.error(
                    "%s: champion %s cannot serve, %s goes on: %s",
                    spec.name, version, held.model.version, fault,
                )  # fmt: skip
                return held
            return _Standing(None, f"its champion {version} is not as it was registered: {fault}")
        found = model.manifest["schema_hash"]
        if found != spec.schema_hash:
            return _Standing(
                None,
                f"its champion {version} was trained on inputs of schema {found}, expected "
                f"{spec.schema_hash} as declared in {spec.exposure.file}: train and promote a version",
            )
        _log.info("%s: %s serves", spec.name, version)
        return _Standing(model)


_NOBODY = "found no champion, expected one: materialize its challenger, evaluation and champion"
