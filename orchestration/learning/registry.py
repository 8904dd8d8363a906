"""The registry of models: what was trained, what was promoted and by whom, and what served when.

One append-only table of the lakehouse, ``registry.events``. Each event holds the hash of the one before it,
so that none can be changed, left out or put in between unseen; ``registry.head`` tells the newest. The views
``registry.model_versions``, ``registry.promotions`` and ``registry.champions`` are for reading by SQL. What
belongs here: registering, promoting, rolling back, asking and verifying. What does not: whether a version
ought to be promoted (``gate``), its files (``artifact``), or how events are kept (``events``).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb

from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import (
    Artifact,
    CorruptArtifactError,
    canonical_json,
    read_artifact,
    stored_versions,
)
from orchestration.learning.events import (
    Event,
    Kind,
    RegistryError,
    Who,
    chain_faults,
    champion_of,
    create_tables,
    insert_event,
    plain,
    read_events,
    read_head,
    serving_stack,
)
from orchestration.settings import Clock


class Registry:
    """The registry in the lakehouse; artifacts lie under ``root``."""

    def __init__(self, lakehouse: LakehouseResource, root: Path, clock: Clock) -> None:
        self._lakehouse = lakehouse
        self._clock = clock
        self.root = root

    def events(self, model: str | None = None) -> list[Event]:
        """Every event in order, of one model or of all."""
        with self._lakehouse.get_connection() as con:
            return read_events(con, model)

    def models(self) -> list[str]:
        """The models that have a version, in name order."""
        return sorted({event.model for event in self.events()})

    def versions(self, model: str) -> list[Event]:
        """The versions of a model as they were registered, oldest first."""
        return [e for e in self.events(model) if e.kind == "registered"]

    def version(self, model: str, version: str) -> Event:
        """The registration of a version; its beginning is enough where it is the only one so.

        Raises:
            RegistryError: There is none, or more than one.
        """
        return _registration(self.events(model), model, version)

    def champion(self, model: str) -> Event | None:
        """What made the version champion that serves now; None when none does."""
        return champion_of(self.events(model), model)

    def champion_at(self, model: str, moment: datetime) -> Event | None:
        """The same for a past moment of the platform's clock."""
        return champion_of(self.events(model), model, moment)

    def artifact(self, model: str, version: str) -> Artifact:
        """A registered version's artifact, every checksum being right.

        Raises:
            RegistryError: It is not registered.
            CorruptArtifactError: It is not what was registered.
        """
        registered = self.version(model, version)
        return read_artifact(self.root, model, registered.version, sha256=registered.detail["sha256"])

    def register(self, artifact: Artifact, who: Who) -> Event:
        """Add a version; one that is there already stays as it is."""
        manifest = artifact.manifest
        model = manifest["model"]
        detail = {
            "sha256": artifact.sha256,
            "training_set": manifest["dataset"]["training_set"],
            "dataset": manifest["dataset"]["version"],
            "labels_until": manifest["dataset"]["labels_until"],
            "algorithm": manifest["algorithm"]["name"],
            "schema_hash": manifest["schema_hash"],
            "code": manifest["code"],
            "metrics": {name: m["value"] for name, m in manifest["metrics"]["evaluation"].items()},
        }

        def known(events: Sequence[Event]) -> Event | None:
            return next((e for e in events if e.kind == "registered" and e.version == artifact.version), None)

        return self._append("registered", model, lambda events: known(events) or (artifact.version, None),
                            detail, who)  # fmt: skip

    def judge(self, model: str, version: str, who: Who, verdict: Mapping[str, Any]) -> Event:
        """Keep what the gate found of a version; ``before`` is the champion that it was compared with.

        Args:
            model: Whose.
            version: The challenger.
            who: Who judged.
            verdict: ``passed``, ``champion`` and the results with their evidence.
        """
        champion = verdict["champion"]
        return self._append("judged", model, lambda _: (version, champion), verdict, who)

    def promote(
        self,
        model: str,
        version: str,
        who: Who,
        *,
        evidence: Mapping[str, Any] | None = None,
        instead_of: str | Literal["anything"] | None = "anything",
    ) -> Event:
        """Make a version champion; when it is already, nothing changes.

        Args:
            model: Whose.
            version: Which, or its beginning.
            who: Who promotes it and why.
            evidence: What that rests on.
            instead_of: The champion that it was compared with; another one by now stays.

        Raises:
            RegistryError: It is not registered, or another version than ``instead_of`` serves.
            CorruptArtifactError: Its artifact is not what was registered.
        """
        chosen = self.artifact(model, version).version

        def serves(events: Sequence[Event]) -> Event | tuple[str, str | None]:
            now = champion_of(events, model)
            before = None if now is None else now.version
            if now is not None and before == chosen:
                return now
            if instead_of != "anything" and before != instead_of:
                raise RegistryError(
                    f"{model}: found {before} serving, expected {instead_of}, "
                    f"with which {chosen} was compared"
                )
            return chosen, before

        return self._append("promoted", model, serves, evidence or {}, who)

    def rollback(self, model: str, who: Who, *, to: str | None = None) -> Event:
        """Let an earlier champion serve again: the one before the present one, or the one named.

        Raises:
            RegistryError: There is none before it, or the one named has never served.
            CorruptArtifactError: Its artifact is not what was registered.
        """

        def chosen(events: Sequence[Event]) -> tuple[str, str | None]:
            served = serving_stack(events, model)
            if not served:
                raise RegistryError(f"{model}: found no champion, expected one to roll back")
            earlier = [e.version for e in events if e.changes_champion and e.version != served[-1]]
            if to is None:
                if len(served) < 2:
                    raise RegistryError(f"{model}: found no champion before {served[-1]}, expected one")
                return served[-2], served[-1]
            matching = sorted({version for version in earlier if version.startswith(to)})
            if len(matching) != 1:
                raise RegistryError(
                    f"{model}: found {to!r}, expected one of the earlier champions: "
                    f"{', '.join(sorted(set(earlier))) or 'there is none'}"
                )
            return matching[0], served[-1]

        self.artifact(model, chosen(self.events(model))[0])  # Its files must be whole before it serves.
        return self._append("rolled_back", model, chosen, {}, who)

    def datasets_in_use(self, training_set: str) -> dict[str, str]:
        """The versions of a training set that a model was trained on, and one such model's version."""
        return {
            e.detail["dataset"]: f"{e.model} {e.version}"
            for e in self.events()
            if e.kind == "registered" and e.detail["training_set"] == training_set
        }

    def verify(self, expected_head: str | None = None) -> list[str]:
        """Every fault of the chain and of the artifacts, a line each; none when all is as it was written.

        Args:
            expected_head: The hash of an event that was written down elsewhere, which must be there.
        """
        with self._lakehouse.get_connection() as con:
            events, head = read_events(con, None), read_head(con)
        faults = [*chain_faults(events, head), *self._artifact_faults(events)]
        if expected_head is not None and expected_head not in {e.hash for e in events}:
            faults.append(f"found no event of hash {expected_head}, expected it: events are missing")
        return faults

    def unregistered(self) -> dict[str, list[str]]:
        """Artifacts that no event tells of, by model: what a killed run has left; they do no harm."""
        known = {(e.model, e.version) for e in self.events() if e.kind == "registered"}
        models = sorted(p.name for p in self.root.iterdir() if p.is_dir()) if self.root.is_dir() else []
        left = {m: [v for v in stored_versions(self.root, m) if (m, v) not in known] for m in models}
        return {model: versions for model, versions in left.items() if versions}

    def _artifact_faults(self, events: Sequence[Event]) -> Iterator[str]:
        for event in events:
            if event.kind == "registered":
                try:
                    read_artifact(self.root, event.model, event.version, sha256=event.detail.get("sha256"))
                except (CorruptArtifactError, json.JSONDecodeError, KeyError) as fault:
                    yield f"{event.model} {event.version}: {fault}"

    def _append(
        self,
        kind: Kind,
        model: str,
        decide: Callable[[Sequence[Event]], Event | tuple[str, str | None]],
        detail: Mapping[str, Any],
        who: Who,
    ) -> Event:
        """Add what ``decide`` makes of the model's events; when that is one of them, nothing is added.

        All in one transaction that two writers cannot both commit: each replaces the head.
        """
        at, wall = self._clock.now(), datetime.now(UTC)

        def work(con: duckdb.DuckDBPyConnection) -> Event:
            create_tables(con)
            decided = decide(read_events(con, model))
            if isinstance(decided, Event):
                return decided
            sequence, previous = read_head(con)
            made = Event(
                sequence + 1, kind, model, decided[0], decided[1], at, wall,
                who.actor, who.run_id, who.reason, json.loads(canonical_json(detail)), previous,
            )  # fmt: skip
            made = Event(**{**plain(made), "hash": made.computed_hash()})
            insert_event(con, made)
            return made

        return self._lakehouse.write(work)


def _registration(events: Sequence[Event], model: str, version: str) -> Event:
    found = [e for e in events if e.kind == "registered" and e.version.startswith(version)]
    if len(found) != 1 or not version:
        known = ", ".join(e.version for e in events if e.kind == "registered") or "none"
        what = "no such version" if not found else f"{len(found)} versions that begin so"
        raise RegistryError(f"{model} {version}: found {what}, expected one of: {known}")
    return found[0]
