"""The walk: lane by lane, week by week, from the first version that serves to the end of history.

Everything lies in a folder of its own. What is done is kept: a walk that was interrupted goes on where it
was, and where nothing but triggers was declared otherwise, no model is trained that was trained before. The
platform's own walk goes on in a second process meanwhile. What belongs here: the order of things, and where
the walk was. What does not: a week (``lanes``, ``live``).
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.declarations import Declarations
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import Artifact, CorruptArtifactError, read_artifact
from orchestration.learning.spec import ModelSpec
from orchestration.learning.training import Code, train
from orchestration.project import Project
from orchestration.replay.beside import Beside, share, sharing
from orchestration.replay.fork import recorded_tables, tables_state
from orchestration.replay.history import History, ReplayError, weeks
from orchestration.replay.lanes import PLANS, Ground, Lane
from orchestration.replay.live import NAME, WORDS, Walker, unhurried
from orchestration.replay.weeks import Week, read_weeks
from orchestration.settings import Settings

FOLDER = "replay"
_ENDED = "ended"


@dataclass(frozen=True)
class Walked:
    """What each lane did, week by week, and when each trained in words, by the lane's name.

    ``live`` are the settings of the platform that walked as its triggers decide.
    """

    ground: Ground
    live: Settings
    words: Mapping[str, str]
    weeks: Mapping[str, list[Week]]


@dataclass(frozen=True)
class Replayed:
    """What is replayed: a model, what is declared around it, and where what was recorded is.

    ``checks`` are the blocking checks of the model's inputs, and whether they hold; ``evaluations`` is how
    those came out that are on what is not made anew.
    """

    spec: ModelSpec
    declarations: Declarations
    settings: Settings
    lakehouse: LakehouseResource
    code: Code
    checks: Mapping[str, bool | None]
    evaluations: Sequence[dg.AssetCheckEvaluation]


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
    replayed: Replayed, assemble: Callable[[Project], dg.Definitions], log: Callable[[str], None]
) -> Walked:
    """Walk every lane through history, as far as it has not been walked yet.

    Args:
        replayed: What is replayed; the walk works in a folder of its own under its ``data_dir``.
        assemble: Makes the definitions of a project.
        log: Takes a line for each training.

    Raises:
        ReplayError: The training set has no rows, or too few for any version to serve; or a run failed.
    """
    spec, settings = replayed.spec, replayed.settings
    spec = replace(spec, declared=unhurried(spec.declared))
    history = History.read(spec, replayed.lakehouse)
    spans = list(weeks(spec, history))
    threads = settings.duckdb_threads or share()
    own = settings.model_copy(update={"duckdb_threads": threads}).under(
        settings.data_dir / FOLDER / spec.name
    )
    live = own.under(own.data_dir / NAME)
    trains = [history.state, dict(replayed.code.definition)]
    judges = {"gate", "floors", "baseline", "slices", "split"}
    judged = [*trains, dict(replayed.checks), spec.declared.model_dump(mode="json", include=judges)]
    _begin(own.models_dir, trains)
    trainer = Trainer(spec, history, own.models_dir, replayed.code, lambda _: None)
    ground = Ground(spec, history, own, replayed.code, replayed.checks, trainer, log)
    tables = recorded_tables(spec, replayed.declarations)
    watched = {"retrain", "monitoring", "predict"}
    facts = [*judged, tables_state(replayed.lakehouse, tables)]
    _begin(live.data_dir, [*facts, spec.declared.model_dump(mode="json", include=watched)])
    walker = Walker(settings, live, spec.name, assemble, spans, replayed.evaluations)
    found = dict[str, list[Week]]()
    ended = live.data_dir / _ENDED
    with sharing(), nullcontext() if ended.exists() else Beside(walker.walk, log) as beside:
        for plan in PLANS:
            _begin(own.data_dir / plan.name, [*judged, plan.every])
            found[plan.name] = _walk_lane(Lane(plan, ground), spans, beside)
        if beside is not None:
            beside.wait()
            ended.touch()
    found[NAME] = read_weeks(LakehouseResource.from_settings(live))
    if not (found[NAME] and all(found.values())):
        raise ReplayError(f"{spec.name}: found no version that the gate let pass in all of history")
    return Walked(ground, live, {**{plan.name: plan.words for plan in PLANS}, NAME: WORDS}, found)


def _walk_lane(lane: Lane, spans: Sequence[tuple[datetime, datetime]], beside: Beside | None) -> list[Week]:
    with lane.lakehouse.kept_open():
        done = read_weeks(lane.lakehouse)
        for start, end in spans:
            if done and start <= done[-1].start:
                continue
            week = lane.walk(done, start, end)
            if week is not None:
                done.append(week)
            if beside is not None:
                beside.relay()
    return done


def _begin(folder: Path, facts: list[Any]) -> None:
    """Begin anew where what a folder holds follows from other facts."""
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    note = folder / "fingerprint"
    if note.is_file() and note.read_text() == fingerprint:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(fingerprint)
