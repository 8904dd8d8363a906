"""The walk: lane by lane, week by week, from the first version that serves to the end of history.

Everything lies in a folder of its own. What is done is kept: a walk that was interrupted goes on where it
was, and where nothing but triggers was declared otherwise, no model is trained that was trained before. What
belongs here: the order of things, and where the walk was. What does not: a week (``lanes``).
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from orchestration.automation.retraining.evidence import Watched
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import Artifact, CorruptArtifactError, read_artifact
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.learning.training import Code, train
from orchestration.monitoring.watching import Watcher
from orchestration.replay.history import Cut, History, ReplayError, weeks
from orchestration.replay.lanes import Ground, Lane, Week, plans
from orchestration.settings import Settings

FOLDER = "replay"


@dataclass(frozen=True)
class Walked:
    """What each lane did, week by week, by the lane's name."""

    ground: Ground
    lanes: Mapping[str, Lane]
    weeks: Mapping[str, list[Week]]


class Trainer:
    """Trains a challenger for an instant, once for all lanes; which version it was is kept in a file."""

    def __init__(
        self, spec: ModelSpec, history: History, root: Path, code: Code, log: Callable[[str], None]
    ) -> None:
        self._spec, self._history, self._root, self._code, self._log = spec, history, root, code, log
        self._file = root / "trained.json"

    def __call__(self, instant: datetime) -> Artifact:
        """The artifact of a training at that instant.

        Raises:
            SplitError: There are too few rows by then.
        """
        known: dict[str, str] = json.loads(self._file.read_text()) if self._file.is_file() else {}
        name, key = self._spec.name, instant.isoformat()
        if key in known:
            try:
                return read_artifact(self._root, name, known[key])
            except (CorruptArtifactError, FileNotFoundError):
                pass
        artifact, _ = train(self._spec, self._history.at(instant), self._root, self._code, self._log)
        self._root.mkdir(parents=True, exist_ok=True)
        staging = self._file.with_suffix(".part")
        staging.write_text(json.dumps({**known, key: artifact.version}))
        staging.replace(self._file)
        return artifact


def walk(
    spec: ModelSpec,
    watched: Watched,
    catalog: Catalog,
    settings: Settings,
    lakehouse: LakehouseResource,
    code: Code,
    log: Callable[[str], None],
) -> Walked:
    """Walk every lane through history, as far as it has not been walked yet.

    Args:
        spec: The model.
        watched: The model as its triggers see it.
        catalog: The features.
        settings: The platform's; the walk works in a folder of its own under ``data_dir``.
        lakehouse: Where the training set is.
        code: What trains.
        log: Takes a line for each training, and one a week.

    Raises:
        ReplayError: The training set has no rows, or too few for any version to serve.
    """
    spec = _unhurried(spec)
    history = History.read(spec, lakehouse)
    own = settings.under(settings.data_dir / FOLDER / spec.name)
    trains = [history.state, dict(code.definition)]
    judges = {"gate", "floors", "baseline", "slices", "split"}
    judged = [*trains, spec.declared.model_dump(mode="json", include=judges)]
    _begin(own.models_dir, trains)
    trainer = Trainer(spec, history, own.models_dir, code, lambda _: None)
    ground = Ground(spec, history, own, code, trainer, partial(_watch, spec, catalog, history), log)
    found, lanes = dict[str, list[Week]](), dict[str, Lane]()
    for plan in plans(spec.declared.retrain):
        watches = spec.declared.monitoring if plan.is_watched else None
        facts = [*judged, plan.policy.model_dump(mode="json"), watches and watches.model_dump(mode="json")]
        _begin(own.data_dir / plan.name, facts)
        lane = lanes[plan.name] = Lane(plan, ground, watched)
        with lane.lakehouse.kept_open():
            found[plan.name] = _walk_lane(lane, list(weeks(spec, history)))
    if not found["never"]:
        raise ReplayError(f"{spec.name}: found no version that the gate let pass in all of history")
    return Walked(ground, lanes, found)


def _unhurried(spec: ModelSpec) -> ModelSpec:
    """The model without a limit of milliseconds: how busy this machine is now is no part of history."""
    floors = spec.declared.floors.model_copy(update={"milliseconds": 1e9})
    return replace(spec, declared=spec.declared.model_copy(update={"floors": floors}))


def _walk_lane(lane: Lane, spans: list[tuple[datetime, datetime]]) -> list[Week]:
    lane.prepare()
    done = lane.done()
    before = done[-1].start if done else None
    for start, end in spans:
        if before is not None and start <= before:
            continue
        week = lane.walk(before, start, end)
        if week is not None:
            done.append(week)
            before = start
    return done


def _watch(
    spec: ModelSpec,
    catalog: Catalog,
    history: History,
    lakehouse: LakehouseResource,
    registry: Registry,
    before: datetime,
    now: datetime,
) -> None:
    """Measure the windows that the triggers look at now: of drift those of the last days since ``before``."""
    retrain = spec.declared.retrain

    def open_dataset(name: str, version: str) -> Cut:
        del name
        return history.open(version)

    watcher = Watcher(spec, registry, lakehouse, catalog, open_dataset, now, "replay", lambda _: None)
    if retrain.drift is not None:
        count = min(retrain.drift.of, round((now - before) / timedelta(days=1)))
        days = [watcher.last_day - timedelta(days=back) for back in reversed(range(count))]
        watcher.drift(days, together=False)
    if retrain.performance is not None:
        watcher.performance([watcher.last_day])


def _begin(folder: Path, facts: list[Any]) -> None:
    """Begin anew where what a folder holds follows from other facts."""
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    note = folder / "fingerprint"
    if note.is_file() and note.read_text() == fingerprint:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(fingerprint)
