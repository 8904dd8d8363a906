"""A lane of the replay: one plan of when to train, walking through history week by week in its own lake.

Every lane decides, trains, judges, promotes, predicts and watches by the functions that sensors and assets
call. What belongs here: one lane's week. What does not: the order of weeks and lanes (``walk``), or what it
amounts to (``report``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.automation.retraining.evaluating import Trainings, evaluate
from orchestration.automation.retraining.evidence import Watched
from orchestration.automation.retraining.policy import Decision
from orchestration.declarations import Retrain
from orchestration.lakehouse import LAKE, LakehouseResource, table_exists
from orchestration.lakehouse.tables import relation
from orchestration.learning.artifact import Artifact
from orchestration.learning.assets import decide
from orchestration.learning.events import Who
from orchestration.learning.judging import judge_challenger
from orchestration.learning.model import opened
from orchestration.learning.predictions.outcomes import record_outcomes
from orchestration.learning.predictions.scoring import predictions_of
from orchestration.learning.predictions.table import replace_batch
from orchestration.learning.registry import Registry
from orchestration.learning.spec import PREDICTION_COLUMNS, ModelSpec
from orchestration.learning.splitting import SplitError
from orchestration.learning.training import Code
from orchestration.replay.history import History, name_of
from orchestration.settings import Clock, Settings
from orchestration.sql import literal

MODE = "batch"
WEEKS = f"{LAKE}.replay.weeks"
_CHECKS: Mapping[str, bool | None] = {"recorded history": True}
"""What is replayed has passed its checks when it was made."""


@dataclass(frozen=True)
class Plan:
    """When a lane trains: as ``policy`` declares, told in ``words``."""

    name: str
    words: str
    policy: Retrain

    @property
    def is_watched(self) -> bool:
        """Whether it looks at what monitoring measures."""
        return self.policy.performance is not None or self.policy.drift is not None


def plans(declared: Retrain) -> tuple[Plan, ...]:
    """Never, every week, every four weeks, and as the model declares."""

    def every(weeks: int) -> Retrain:
        # A day less: a decision is taken at a midnight, some of which are 23 hours after the one before.
        age = timedelta(weeks=weeks) - timedelta(hours=12)
        return Retrain(age=age, definition=False, restated=False, cooldown=timedelta(days=1))

    return (
        Plan("never", "never again", Retrain(definition=False, restated=False)),
        Plan("monthly", "every four weeks", every(4)),
        Plan("weekly", "every week", every(1)),
        Plan("triggers", "as its triggers decide", declared),
    )


@dataclass(frozen=True)
class Week:
    """One week of a lane: from when on, who served, and whether a training came before it."""

    start: datetime
    end: datetime
    version: str
    trained: str | None
    promoted: bool
    reason: str


class ReplayedRuns:
    """A training of the replay is over when it is judged: none is ever under way."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def trainings(self, model: str, decisions: Sequence[Decision]) -> Trainings:
        """The newest decision waits if the process was killed before its training was judged."""
        fired = [d for d in decisions if d.outcome == "fired"]
        judged = [e.happened_at for e in self._registry.events(model) if e.kind == "judged"]
        waits = bool(fired) and not any(at >= fired[-1].decided_at for at in judged)
        return Trainings(waiting=fired[-1] if waits else None)

    def open_failures(self, model: str) -> list[str]:
        """None: what is replayed has passed its checks."""
        del model
        return []


@dataclass(frozen=True)
class Ground:
    """What all lanes share: history, artifacts, and how a challenger of an instant is trained, once."""

    spec: ModelSpec
    history: History
    settings: Settings
    code: Code
    train: Callable[[datetime], Artifact]
    watch: Callable[[LakehouseResource, Registry, datetime, datetime], None] | None
    log: Callable[[str], None]

    @property
    def models(self) -> Path:
        """Folder of the artifacts."""
        return self.settings.models_dir


class Lane:
    """A plan walking through history."""

    def __init__(self, plan: Plan, ground: Ground, watched: Watched) -> None:
        self.plan = plan
        self._ground = ground
        # One code walks through a history that nobody restates.
        self._watched = replace(
            watched,
            policy=plan.policy,
            definition=lambda: dict(ground.code.definition),
            restated=lambda con, learnt: [],
        )
        own = ground.settings.under(ground.settings.data_dir / plan.name)
        self.lakehouse = LakehouseResource.from_settings(own)

    @property
    def _spec(self) -> ModelSpec:
        return self._ground.spec

    def registry(self, now: datetime) -> Registry:
        """The lane's registry at an instant; artifacts are shared by all lanes."""
        return Registry(self.lakehouse, self._ground.models, Clock(now))

    def decisions(self, now: datetime) -> list[Decision]:
        """What was decided so far."""
        return DecisionLog(self.lakehouse, Clock(now)).decisions(self._spec.name)

    def done(self) -> list[Week]:
        """The weeks that the lane has walked through."""
        with self.lakehouse.get_connection() as con:
            if not table_exists(con, "replay", "weeks"):
                return []
            rows = con.execute(
                f'select "start"::varchar, "end"::varchar, version, trained, promoted, reason '
                f'from {WEEKS} order by "start"'
            ).fetchall()
        return [
            Week(datetime.fromisoformat(start), datetime.fromisoformat(end), *told)
            for start, end, *told in rows
        ]

    def prepare(self) -> None:
        """Put the labels of history where labels are looked for."""
        spec, training_set = self._spec, self._spec.training_set
        key = spec.spine.key if spec.spine is not None else ()
        names = dict.fromkeys(
            [*key, training_set.label, training_set.label_known_at, training_set.prediction_time]
        )

        def work(con: duckdb.DuckDBPyConnection) -> None:
            if table_exists(con, spec.table.schema, spec.table.name):
                return
            con.execute(f"create schema if not exists {LAKE}.{spec.table.schema}")
            con.execute(f"create schema if not exists {LAKE}.replay")
            con.execute(
                f'create table {WEEKS} ("start" timestamptz, "end" timestamptz, version varchar, '
                "trained varchar, promoted boolean, reason varchar)"
            )
            con.register("_labels", self._ground.history.rows.select(list(names)))
            try:
                con.execute(
                    f"create table {relation(spec.table.schema, spec.table.name)} as select * from _labels"
                )
            finally:
                con.unregister("_labels")

        self.lakehouse.write(work)

    def walk(self, before: datetime | None, start: datetime, end: datetime) -> Week | None:
        """One week: what has become known is taken in, a training is decided on, and the week is predicted.

        Args:
            before: When the lane was here last; None at its first week.
            start: Now, on the platform's clock.
            end: When the next week begins.

        Returns:
            The week; None as long as no version is good enough to serve.
        """
        registry = self.registry(start)
        watched = self.plan.is_watched and self._spec.spine is not None
        if watched and before is not None:
            record_outcomes(self.lakehouse, self._spec, start)
            if self._ground.watch is not None:
                self._ground.watch(self.lakehouse, registry, before, start)
        trained, promoted, reason = self._train(registry, start)
        champion = registry.champion(self._spec.name)
        if champion is None:
            return None
        if watched:
            self._predict(registry, champion.version, start, end)
        week = Week(start, end, champion.version, trained, promoted, reason)
        self._record(week)
        return week

    def _train(self, registry: Registry, now: datetime) -> tuple[str | None, bool, str]:
        name = self._spec.name
        found = evaluate(self._watched, self.lakehouse, registry, ReplayedRuns(registry), Clock(now))
        if found is not None and found.to_run is None:
            return None, False, found.decision.reason
        decision = None if found is None else found.to_run
        reason = "the first" if decision is None else decision.reason
        who = Who("replay", reason, None if decision is None else decision.id)
        try:
            artifact = self._ground.train(now)
        except SplitError as fault:
            if decision is not None:
                raise
            return None, False, str(fault)
        registry.register(artifact, who)
        judge_challenger(
            self._spec, registry, artifact.version, lambda _, version: self._ground.history.open(version),
            _CHECKS, now, self._ground.code, who, self._quiet,
            forced=None if decision is None else decision.forced,
        )  # fmt: skip
        words, event = decide(name, registry, who)
        promoted = event is not None and event.version == artifact.version and event.happened_at == now
        self._ground.log(f"{now:%Y-%m-%d} {self.plan.name}: {reason}: {words}")
        return artifact.version, promoted, reason

    def _quiet(self, line: str) -> None:
        """Takes what is told of a single training."""

    def _predict(self, registry: Registry, version: str, start: datetime, end: datetime) -> None:
        model = opened(registry.artifact(self._spec.name, version))
        rows = self._ground.history.between(start, end)
        spec = self._spec
        for name in spec.prediction_columns.keys() - PREDICTION_COLUMNS.keys() - set(rows.column_names):
            rows = rows.append_column(name, pa.nulls(rows.num_rows))  # kept of the spine; no model reads it
        made = predictions_of(spec, model, rows, start, 0, name_of(start), MODE)
        replace_batch(self.lakehouse, spec, made, start, end, MODE)

    def _record(self, week: Week) -> None:
        trained = literal(week.trained)

        def work(con: duckdb.DuckDBPyConnection) -> None:
            con.execute(f'delete from {WEEKS} where "start" = {literal(week.start)}')
            con.execute(
                f"insert into {WEEKS} values ({literal(week.start)}, {literal(week.end)}, "
                f"{literal(week.version)}, {trained}, {str(week.promoted).lower()}, {literal(week.reason)})"
            )

        self.lakehouse.write(work)
