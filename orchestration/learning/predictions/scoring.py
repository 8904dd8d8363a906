"""Batches of predictions: each day's rows, scored by the version that was champion when the day was over.

What belongs here: which version scores which rows, from which features. What does not: how features are
joined (``feature_store.offline``), how a row is scored (``model``), where predictions go (``table``).
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.feature_store.offline import get_historical_features
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.learning.contest import learnt_until
from orchestration.learning.encoding import InfiniteValueError
from orchestration.learning.events import Event, champion_of
from orchestration.learning.infinite import infinite_words
from orchestration.learning.model import ServedModel, opened
from orchestration.learning.predictions.table import Written, replace_batch
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.partitions import Window
from orchestration.sql import identifier, literal

BATCH_DAYS = 31
"""So many days at most are in memory, and in one transaction, together."""

_INSTANT = pa.timestamp("us", tz="UTC")


class PredictionError(ValueError):
    """Rows that cannot be predicted; the message says why."""


@dataclass(frozen=True)
class Day:
    """A partition: its day, and its instants from ``start`` up to, not including, ``end``."""

    day: date
    window: Window


@dataclass
class Batch:
    """What came of predicting some days."""

    snapshot: int
    rows: int = 0
    """Predictions that there now are."""
    added: int = 0
    removed: int = 0
    shadow: int = 0
    """Predictions of challengers in their shadow period, beside the champion's."""
    without_champion: list[date] = field(default_factory=list)
    learnt_from: int = 0
    """Rows left out, as the version had seen what came after their prediction time."""
    versions: dict[str, int] = field(default_factory=dict)
    by_day: dict[date, int] = field(default_factory=dict)


def champions(
    spec: ModelSpec, registry: Registry, days: Sequence[Day], now: datetime, newest: date | None = None
) -> list[Event | None]:
    """The champion at the end of each day; for a day that has not ended, the present champion.

    The newest day gets the present champion if it had none at its end: a first champion is promoted after it,
    and on a replay clock no later day follows.
    """
    events = registry.events(spec.name)

    def champion(day: Day) -> Event | None:
        found = champion_of(events, spec.name, min(day.window.end, now))
        if found is None and day.day == newest:
            return champion_of(events, spec.name, now)
        return found

    return [champion(day) for day in days]


def shadows(spec: ModelSpec, registry: Registry, days: Sequence[Day], now: datetime) -> list[Event | None]:
    """The challenger that was judged last when each day was over and lacks nothing but its shadow period."""
    events = registry.events(spec.name)

    def shadow(moment: datetime) -> Event | None:
        champion = champion_of(events, spec.name, moment)
        judged = [e for e in events if e.kind == "judged" and e.happened_at <= moment]
        if champion is None or not judged or judged[-1].sequence < champion.sequence:
            return None
        failed = {r["name"] for r in judged[-1].detail["results"] if not r["passed"]}
        return judged[-1] if failed == {"shadow_period"} else None

    return [shadow(min(day.window.end, now)) for day in days]


def predict_days(
    spec: ModelSpec,
    registry: Registry,
    catalog: Catalog,
    lakehouse: LakehouseResource,
    days: Sequence[Day],
    now: datetime,
    run_id: str,
    log: Callable[[str], None],
    newest: date | None = None,
    snapshot: int | None = None,
) -> Batch:
    """Predict the spine's rows of some days and make the table say so.

    Days before the first promotion have no predictions, except the newest day. Repeating the same days
    changes nothing, unless rows of the spine were added or removed since.

    Args:
        spec: The model.
        registry: Tells who was champion, and has the versions.
        catalog: The features.
        lakehouse: Where spine, features and predictions are.
        days: In order, without gaps.
        now: The platform's present instant.
        run_id: Of the run that predicts.
        log: Takes progress.
        newest: The newest day that has ended.
        snapshot: The snapshot of spine and features; the newest if left out.

    Raises:
        CorruptArtifactError: A champion's files are not what was registered; nothing of its days is written.
        PredictionError: The spine has a row twice, or the features have no longer what a champion reads.
    """
    done = Batch(lakehouse.newest_snapshot() if snapshot is None else snapshot)
    read = partial(feature_rows, spec, catalog, lakehouse, done.snapshot)
    served = champions(spec, registry, days, now, newest)
    done.without_champion = [day.day for day, event in zip(days, served, strict=True) if event is None]
    modes = {"batch": served}
    if spec.declared.gate.shadow is not None:
        modes["shadow"] = shadows(spec, registry, days, now)
    model: ServedModel | None = None
    for mode, events in modes.items():
        for event, span in _spans(days, events):
            if model is None or model.version != event.version:
                model = opened(registry.artifact(spec.name, event.version))
                refuse_lacking(spec, model)
            start, end = span[0].window.start, span[-1].window.end
            rows = read(start, end)
            unseen = _after(rows, spec, learnt_until(model))
            made = predictions_of(spec, model, unseen, now, done.snapshot, run_id, mode)
            written = replace_batch(lakehouse, spec, made, start, end, mode)
            if mode == "batch":
                if event.happened_at <= end:  # A later first champion owes the newest day nothing.
                    done.learnt_from += rows.num_rows - unseen.num_rows
                _count(done, spec, model.version, made, written, span)
            else:
                done.shadow += made.num_rows
            log(
                f"{span[0].day} to {span[-1].day}: {made.num_rows:,} predictions ({mode}) by "
                f"{model.version}, {written.added:,} new, {written.removed:,} removed"
            )
    return done


def _spans(days: Sequence[Day], served: Sequence[Event | None]) -> Iterator[tuple[Event, list[Day]]]:
    """Days of one champion that follow one another, at most ``BATCH_DAYS`` together."""
    for event, group in itertools.groupby(zip(days, served, strict=True), key=lambda pair: pair[1]):
        if event is not None:
            found = [day for day, _ in group]
            for at in range(0, len(found), BATCH_DAYS):
                yield event, found[at : at + BATCH_DAYS]


def _count(
    done: Batch, spec: ModelSpec, version: str, made: pa.Table, written: Written, span: Sequence[Day]
) -> None:
    done.rows += made.num_rows
    done.added += written.added
    done.removed += written.removed
    done.versions[version] = done.versions.get(version, 0) + made.num_rows
    instants = pc.cast(made.column(spec.predicted.partition_by), _INSTANT)
    for day in span:
        inside = pc.and_(
            pc.greater_equal(instants, pa.scalar(day.window.start, _INSTANT)),
            pc.less(instants, pa.scalar(day.window.end, _INSTANT)),
        )
        done.by_day[day.day] = pc.sum(inside).as_py() or 0


def refuse_lacking(spec: ModelSpec, model: ServedModel) -> None:
    """Refuse a version that reads what the declared features have no longer.

    Raises:
        PredictionError: It does.
    """
    declared = {i.name: i.data_type for i in spec.inputs}
    trained = {told["name"]: told["data_type"] for told in model.manifest["features"]}
    faults = [
        f"{name} ({kind})" + (f", which is {declared[name]} now" if name in declared else "")
        for name, kind in trained.items()
        if declared.get(name) != kind and name in model.scorer.columns
    ]
    if faults:
        raise PredictionError(
            f"{spec.exposure.file}: {spec.name} {model.version} reads {', '.join(faults)}: found features "
            "that have changed since it was trained; train and promote a version on those that there are"
        )


def feature_rows(
    spec: ModelSpec,
    catalog: Catalog,
    lakehouse: LakehouseResource,
    snapshot: int,
    start: datetime,
    end: datetime,
) -> pa.Table:
    """The spine's rows of a span with every input of the model as known at each row's prediction time.

    Raises:
        PredictionError: A row is there twice, or an instant is missing.
    """
    spine = spec.predicted
    by, asked = identifier(spine.partition_by), identifier(spec.training_set.prediction_time)
    key = ", ".join(map(identifier, spine.key))
    names = ", ".join(identifier(column.name) for column in spine.columns)
    query = (
        f"select {names} from {relation(spine.table.schema, spine.table.name)} "
        f"where {by} >= {literal(start)} and {by} < {literal(end)} order by {asked}, {key}"
    )
    with lakehouse.reader(snapshot=snapshot) as con:
        rows: pa.Table = con.execute(query).to_arrow_table()
    place = f"{spine.table.schema}.{spine.table.name}"
    different = rows.select(list(spine.key)).group_by(list(spine.key)).aggregate([]).num_rows
    if different != rows.num_rows:
        raise PredictionError(
            f"{place}: found {rows.num_rows - different} rows from {start} to {end} whose "
            f"{', '.join(spine.key)} another row has too, expected each once"
        )
    missing = rows.column(spec.training_set.prediction_time).null_count
    if missing:
        raise PredictionError(
            f"{place}: found {missing} rows without a prediction time, expected one in each"
        )
    return get_historical_features(
        catalog,
        lakehouse,
        rows,
        spec.service.name,
        event_timestamp=spec.training_set.prediction_time,
        snapshot=snapshot,
        full_feature_names=True,
    ).to_arrow()


def _after(rows: pa.Table, spec: ModelSpec, learnt: datetime) -> pa.Table:
    asked = pc.cast(rows.column(spec.training_set.prediction_time), _INSTANT)
    return rows.filter(pc.greater_equal(asked, pa.scalar(learnt, _INSTANT)))


def prediction_ids(spec: ModelSpec, rows: pa.Table) -> pa.Array:
    """For each row a text that follows from the model's name and the row's key alone."""
    keys = zip(*(rows.column(name).to_pylist() for name in spec.predicted.key), strict=True)
    texts = ("\x1f".join([spec.name, *map(str, key)]) for key in keys)
    return pa.array([hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts], pa.string())


def predictions_of(
    spec: ModelSpec,
    model: ServedModel,
    rows: pa.Table,
    now: datetime,
    snapshot: int,
    run_id: str,
    mode: str,
) -> pa.Table:
    """Rows with features, scored: the columns of ``predictions.<model>``.

    Raises:
        PredictionError: A feature is infinite in some rows and the version rejects that.
    """
    try:
        scores = model.scorer.score(rows) if rows.num_rows else np.empty(0)
    except InfiniteValueError:
        place = f"{spec.predicted.table.schema}.{spec.predicted.table.name}"
        raise PredictionError(infinite_words(spec, rows, f"{place} for {model.version}")) from None
    count = rows.num_rows
    made: dict[str, Any] = {
        "prediction_id": prediction_ids(spec, rows),
        "prediction_at": pc.cast(rows.column(spec.training_set.prediction_time), _INSTANT),
        "predicted_at": pa.repeat(pa.scalar(now, _INSTANT), count),
        "model_version": pa.repeat(model.version, count),
        "dataset_version": pa.repeat(model.manifest["dataset"]["version"], count),
        "snapshot_id": pa.repeat(pa.scalar(snapshot, pa.int64()), count),
        "score": pa.array(scores, pa.float64()),
        "decision": pa.array(scores >= model.threshold, pa.bool_()),
        "mode": pa.repeat(mode, count),
        "run_id": pa.repeat(run_id, count),
    }
    made |= {name: rows.column(name) for name in spec.prediction_columns if name not in made}
    return pa.table(made)
