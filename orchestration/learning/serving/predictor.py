"""A request scored: features of now from the online store, the champion's probability, and a line in the log.

What belongs here: one request, from its columns to predictions. What does not: HTTP and its JSON
(``feature_store.server``), which version serves (``champions``).
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, Protocol

from orchestration.feature_store.online.encoding import NOT_STORED, from_micros, micros
from orchestration.feature_store.online.keys import whole_number
from orchestration.feature_store.online.reading import OnlineReader, OnlineResponse, RequestValueError
from orchestration.learning.encoding import InfiniteValueError
from orchestration.learning.infinite import infinite_inputs
from orchestration.learning.model import ServedModel
from orchestration.learning.serving.accepting import accepts, dumped, is_integer, plain
from orchestration.learning.serving.champions import CannotPredictError
from orchestration.learning.serving.log import PredictionLog
from orchestration.learning.spec import ONLINE_COLUMNS, PREDICTION_COLUMNS, ModelSpec
from orchestration.settings import Clock

MODE = "online"
_AT_ONCE = 50
"""So many rows are scored in the event loop; to score more takes longer than to start a thread."""


class UnloggedError(CannotPredictError):
    """A prediction could not be written down, and so is not given."""


class Current(Protocol):
    """Tells which version serves."""

    def current(self, model: str) -> ServedModel:
        """See ``Champions.current``."""
        ...


@dataclass(frozen=True)
class Predictions:
    """What a request gets, a value a row.

    ``feature_ages`` are seconds from each role's row to the prediction, None where there is no row; an older
    row than the view's ttl has an age and gives no value.
    """

    model: str
    model_version: str
    dataset_version: str
    predicted_at: datetime
    threshold: float
    prediction_ids: Sequence[str]
    scores: Sequence[float]
    decisions: Sequence[bool]
    feature_ages: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Asked:
    """What a model must be told of a row."""

    spec: ModelSpec

    @cached_property
    def asked_at(self) -> str | None:
        """The column of the service that says as of when a prediction is asked for, if it has one."""
        name = self.spec.training_set.prediction_time
        return name if name in self.spec.service.declared.request else None

    @cached_property
    def required(self) -> dict[str, str]:
        """Columns that a request must have, and their types: entity keys, the service's, the model's."""
        found: dict[str, str] = {}
        for wanted in self.spec.service.features:
            keys = zip(wanted.role.join_keys, wanted.role.view.entity, strict=True)
            found |= {name: column.data_type for name, column in keys}
        found |= {name: c.data_type for name, c in self.spec.service.declared.request.items()}
        found |= {i.name: i.data_type for i in self.spec.inputs if i.source == "request"}
        return {name: kind for name, kind in found.items() if name != self.asked_at}

    @cached_property
    def optional(self) -> dict[str, str]:
        """Columns that a request may have: the instant, now if left out, and by what an outcome is found."""
        spine = () if self.spec.spine is None else self.spec.spine.columns
        instant = {} if self.asked_at is None else {self.asked_at: "timestamptz"}
        return instant | {
            c.name: c.data_type
            for c in spine
            if c.name not in {*self.required, *PREDICTION_COLUMNS, *ONLINE_COLUMNS}
        }

    @cached_property
    def roles(self) -> dict[str, int]:
        """Of each role the place of its first feature among those of the service."""
        found: dict[str, int] = {}
        for place, wanted in enumerate(self.spec.service.features):
            found.setdefault(wanted.role.name, place)
        return found

    @cached_property
    def _accepts(self) -> dict[str, tuple[Callable[[Any], bool], bool]]:
        told = {**self.required, **self.optional}
        return {name: (accepts(kind), is_integer(kind)) for name, kind in told.items()}

    def checked(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """The columns; a float that is whole is the integer where one is declared.

        Raises:
            RequestValueError: A value is none of its column's type: written down, it could never be landed.
        """
        found = {}
        for name, values in columns.items():
            holds, is_whole = self._accepts[name]
            if is_whole:  # As pandas has integers in a column with nulls.
                values = [whole_number(v) for v in values]
            found[name] = values
            for row, value in enumerate(values):
                if value is not None and not holds(value):
                    declared = {**self.required, **self.optional}[name]
                    raise RequestValueError(
                        f"entities.{name}: row {row} is a {type(value).__name__}, expected a {declared} "
                        f"for {self.spec.name}"
                    )
        return found

    @cached_property
    def logged(self) -> dict[str, str]:
        """The columns that its predictions are written down with, and their types."""
        inputs = {i.name: i.data_type for i in self.spec.inputs}
        return {**PREDICTION_COLUMNS, **ONLINE_COLUMNS, **self.required, **self.optional, **inputs}


class Predictor:
    """Predicts on request.

    Args:
        specs: The declared models by name.
        champions: Which versions serve.
        reader: Reads features.
        log: Where predictions are written down.
        clock: The platform's clock.
    """

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        champions: Current,
        reader: OnlineReader,
        log: PredictionLog,
        clock: Clock,
    ) -> None:
        self._asked = {name: Asked(spec) for name, spec in specs.items()}
        self._champions, self._reader, self._log, self._clock = champions, reader, log, clock

    @property
    def models(self) -> frozenset[str]:
        """The declared models."""
        return frozenset(self._asked)

    def columns(self, model: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The columns, with their types, that a request must have and may have."""
        asked = self._asked[model]
        return asked.required, asked.optional

    async def predict(self, model: str, columns: Mapping[str, Sequence[Any]]) -> Predictions:
        """Predictions for rows, given column by column.

        Raises:
            UnservedModelError: No version can serve.
            RequestValueError: A value has another type than declared, or is infinite.
            CannotPredictError: A feature is infinite and the version rejects that.
            NotMaterializedError: The store has nothing of a view.
            SchemaMismatchError: The store was written for another declaration of a view.
            UnloggedError: The predictions could not be written down.
        """
        asked, served, now = self._asked[model], self._champions.current(model), self._clock.now()
        count = len(next(iter(columns.values())))
        if asked.asked_at is not None:
            told_at = columns.get(asked.asked_at, [None] * count)
            columns = {**columns, asked.asked_at: [now if at is None else at for at in told_at]}
        columns = asked.checked(columns)
        answer = await self._reader.get_online_features_async(
            asked.spec.service.name, columns, full_feature_names=True, now=now
        )
        values: dict[str, Sequence[Any]] = dict(columns)
        values |= zip(answer.feature_names, answer.values, strict=True)
        try:
            if count > _AT_ONCE:
                scores = await asyncio.to_thread(_score, served, values, count)
            else:
                scores = _score(served, values, count)
        except InfiniteValueError as fault:
            raise _infinite_error(asked.spec, fault) from None
        made = Predictions(
            model,
            served.version,
            served.manifest["dataset"]["version"],
            now,
            served.threshold,
            [secrets.token_hex(16) for _ in range(count)],
            scores,
            [score >= served.threshold for score in scores],
            _ages(asked, answer, micros(now)),
        )
        try:
            self._log.write(model, _lines(asked, made, values, answer.cutoffs))
        except OSError as fault:
            raise UnloggedError(f"model {model}: the prediction cannot be written down: {fault}") from fault
        return made


def _score(served: ServedModel, values: Mapping[str, Sequence[Any]], count: int) -> list[float]:
    scores: list[float] = served.scorer.score_matrix(
        served.scorer.encoding.matrix_of_values(values, count)
    ).tolist()
    return scores


def _infinite_error(spec: ModelSpec, fault: InfiniteValueError) -> Exception:
    """The error of the request if all infinite values are its own, otherwise of the features."""
    message = f"{spec.name}: {infinite_inputs(spec, fault.rows)}"
    requested = {i.name for i in spec.inputs if i.source == "request"}
    kind = RequestValueError if fault.rows.keys() <= requested else CannotPredictError
    return kind(message)


def _ages(asked: Asked, answer: OnlineResponse, now: int) -> dict[str, list[float | None]]:
    first = len(answer.feature_names) - len(asked.spec.service.features)
    first -= len(asked.spec.service.declared.on_demand)
    found = {}
    for role, place in asked.roles.items():
        instants = answer.instants[first + place]
        assert instants is not None
        found[role] = [None if at == NOT_STORED else (now - at) / 1e6 for at in instants]
    return found


@lru_cache(maxsize=1024)
def _instant(at: int) -> str:
    return from_micros(at).isoformat()


def _lines(
    asked: Asked, made: Predictions, values: Mapping[str, Sequence[Any]], cutoffs: Sequence[int]
) -> list[bytes]:
    """What is written down of predictions, a JSON object each."""
    at = made.predicted_at
    common = {
        "predicted_at": at,
        "model_version": made.model_version,
        "dataset_version": made.dataset_version,
        "mode": MODE,
        "features_as_of": dict(zip(asked.roles, map(_instant, cutoffs), strict=True)),
    }
    names = [name for name in asked.logged if name in values and name not in PREDICTION_COLUMNS]
    instants = [at] * len(made.scores) if asked.asked_at is None else values[asked.asked_at]
    lines = []
    for row, (key, score, decision) in enumerate(
        zip(made.prediction_ids, made.scores, made.decisions, strict=True)
    ):
        told = {
            "prediction_id": key,
            "prediction_at": instants[row],
            **common,
            "score": score,
            "decision": decision,
        }
        for name in names:
            told[name] = plain(values[name][row])
        lines.append(dumped(told))
    return lines
