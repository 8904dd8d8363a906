"""The JSON of ``/predict``: from a request body to columns, from predictions to a response body.

What belongs here: that form, and what a predictor is to the server. What does not: HTTP, rights, and how a
prediction is made.

    {"model": "low_pressure", "entities": {"pump": ["alder"], "demand": [7]}}
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import orjson

from orchestration.feature_store.server.refusal import Refusal
from orchestration.feature_store.server.wire import check_columns, load_object, parsed_columns

KEYS = ("model", "entities")


class Unavailable(Exception):
    """A prediction that cannot be made now; the message says why."""


class Predicted(Protocol):
    """What a predictor gives; sequences have a value a row."""

    @property
    def model_version(self) -> str:
        """The version that served."""

    @property
    def dataset_version(self) -> str:
        """What that was trained on."""

    @property
    def predicted_at(self) -> datetime:
        """When, on the platform's clock."""

    @property
    def threshold(self) -> float:
        """The score from which on the decision is true."""

    @property
    def prediction_ids(self) -> Sequence[str]:
        """Under which the predictions were written down."""

    @property
    def scores(self) -> Sequence[float]:
        """Probabilities."""

    @property
    def decisions(self) -> Sequence[bool]:
        """Whether they reach the threshold."""

    @property
    def feature_ages(self) -> Mapping[str, Sequence[float | None]]:
        """Seconds since each view's row, by its role."""


class Predictor(Protocol):
    """What predicts."""

    @property
    def models(self) -> frozenset[str]:
        """The declared models."""

    def columns(self, model: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The columns, with their types, that a request must have and may have."""

    async def predict(self, model: str, columns: Mapping[str, Sequence[Any]]) -> Predicted:
        """Predictions for rows; raises ``Unavailable``, and what reading features raises."""


@dataclass(slots=True)
class PredictionRequest:
    """A request for predictions, as far as its JSON tells."""

    model: str
    entities: Mapping[str, list[Any]]
    rows: int


def parse_prediction(body: bytes, max_rows: int) -> PredictionRequest:
    """The request that a body makes.

    Raises:
        Refusal: 400, 413 or 422: it makes none.
    """
    held = load_object(body)
    unknown = next((key for key in held if key not in KEYS), None)
    if unknown is not None:
        raise Refusal(422, f"found unknown key {unknown!r}, expected {' and '.join(KEYS)}")
    model = held.get("model")
    if type(model) is not str:
        raise Refusal(422, "model: expected the name of a model")
    if "entities" not in held:
        raise Refusal(422, "entities: found nothing, expected an object: a list of values a column")
    return PredictionRequest(model, held["entities"], check_columns(held["entities"], "entities", max_rows))


def check_model(model: str, predictor: Predictor | None, allowed: Collection[str]) -> Predictor:
    """What predicts for that model.

    Raises:
        Refusal: 404, there is no such model; the message names those that the caller may ask.
    """
    if predictor is None or model not in predictor.models:
        known = ", ".join(sorted(allowed)) or "none"
        raise Refusal(404, f"unknown model {model!r}. Known: {known}")
    return predictor


def prediction_columns(request: PredictionRequest, predictor: Predictor) -> dict[str, list[Any]]:
    """The columns that the predictor needs, their JSON turned into values.

    Raises:
        Refusal: 422, a column is missing or not known, or a value is none of its type.
    """
    required, optional = predictor.columns(request.model)
    found = request.entities.keys()
    if missing := required.keys() - found:
        raise Refusal(
            422, f"entities: no column {', '.join(sorted(missing))}, expected {', '.join(sorted(required))}"
        )
    if unknown := found - required.keys() - optional.keys():
        expected = ", ".join(sorted({*required, *optional}))
        raise Refusal(422, f"entities: unknown column {', '.join(sorted(unknown))}, expected {expected}")
    return parsed_columns(request.entities, {**required, **optional})


def encode_predictions(request: PredictionRequest, made: Predicted) -> bytes:
    """The response body."""
    ages = made.feature_ages
    return orjson.dumps(
        {
            "model": request.model,
            "model_version": made.model_version,
            "dataset_version": made.dataset_version,
            "predicted_at": made.predicted_at,
            "threshold": made.threshold,
            "predictions": [
                {
                    "prediction_id": made.prediction_ids[row],
                    "score": made.scores[row],
                    "decision": made.decisions[row],
                    "feature_ages": {role: found[row] for role, found in ages.items()},
                }
                for row in range(request.rows)
            ],
        },
        option=orjson.OPT_UTC_Z,
    )
