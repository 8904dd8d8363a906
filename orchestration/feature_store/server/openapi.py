"""The OpenAPI document of the feature server.

What belongs here: what callers can ask for, in OpenAPI's words. What does not: how it is answered.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from orchestration.feature_store.views import Catalog
from orchestration.settings import Settings

Schema = Mapping[str, Any]

_REFUSALS = {
    400: "The body is no JSON object.",
    401: "No key, or a wrong one.",
    403: "The key's role does not allow it.",
    404: "A feature, view, service or source that is not declared.",
    413: "Too many rows, or too large a body.",
    415: "The body is not declared as application/json.",
    422: "The body has another form, or a value another type, than expected.",
    429: "Too many requests of this caller in a second.",
    503: "The online store or the model cannot answer now.",
}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema, description: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: int) -> Schema:
    return {str(status): _json(_reference("Error"), _REFUSALS[status]) for status in statuses}


def _object(properties: Schema, required: Sequence[str] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _listing(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_TEXT: Schema = {"type": "string"}
_COLUMNS: Schema = {"type": "object", "additionalProperties": _listing({})}


def _request(catalog: Catalog, max_rows: int) -> Schema:
    features = [f"{view.name}:{column.name}" for view in catalog.views.values() for column in view.features]
    entities = {
        "type": "object",
        "description": f"A list of values a join key or request column; at most {max_rows} rows. Instants "
        "and days are ISO 8601 or whole seconds since 1970.",
        "additionalProperties": _listing({}),
    }
    service: dict[str, Any] = {"type": "string", "description": "Instead of features."}
    if catalog.services:
        service["enum"] = list(catalog.services)
    return _object(
        {
            "features": {
                **_listing({"type": "string", "examples": features[:1]}),
                "description": "Names as view:feature, or view:* for all of a view.",
                "examples": [features[:2]],
            },
            "feature_service": service,
            "entities": entities,
            "full_feature_names": {
                "type": "boolean",
                "default": False,
                "description": "Whether names in the answer are view__feature.",
            },
            "include_feature_view_version_metadata": {"type": "boolean", "default": False},
        },
        ["entities"],
    )


def _response() -> Schema:
    status = {"type": "string", "enum": ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]}
    return _object(
        {
            "metadata": _object({"feature_names": _listing(_TEXT)}, ["feature_names"]),
            "results": _listing(
                _object(
                    {
                        "values": {
                            **_listing({}),
                            "description": "One a row. Instants and days are whole seconds since 1970. A "
                            "number that JSON cannot write (NaN) is null with status PRESENT.",
                        },
                        "statuses": _listing(status),
                        "event_timestamps": _listing({"type": "string", "format": "date-time"}),
                    },
                    ["values", "statuses", "event_timestamps"],
                )
            ),
        },
        ["metadata", "results"],
    )


def _prediction_request(models: Collection[str], max_rows: int) -> Schema:
    name: dict[str, Any] = {"type": "string"}
    if models:
        name["enum"] = sorted(models)
    told = f"Entity keys and what only a request knows; at most {max_rows} rows."
    return _object({"model": name, "entities": {**_COLUMNS, "description": told}}, ["model", "entities"])


def _prediction_response() -> Schema:
    ages = {
        "type": "object",
        "additionalProperties": {"type": ["number", "null"]},
        "description": "Seconds from each view's row to the prediction; null without a row.",
    }
    prediction = {
        "prediction_id": {"type": "string", "description": "Under which it was written down."},
        "score": {"type": "number", "description": "Probability of the label."},
        "decision": {"type": "boolean", "description": "Whether the score reaches the threshold."},
        "feature_ages": ages,
    }
    made = {
        "model": _TEXT,
        "model_version": _TEXT,
        "dataset_version": _TEXT,
        "predicted_at": {"type": "string", "format": "date-time"},
        "threshold": {"type": "number"},
        "predictions": _listing(_object(prediction, list(prediction))),
    }
    return _object(made, list(made))


def _push(sources: Collection[str], max_rows: int) -> Schema:
    name: dict[str, Any] = {"type": "string"}
    if sources:
        name["enum"] = sorted(sources)
    return _object(
        {
            "push_source_name": name,
            "df": {**_COLUMNS, "description": f"All columns of the source; at most {max_rows} rows."},
            "to": {
                "type": "string",
                "enum": ["online", "offline", "online_and_offline"],
                "default": "online",
                "description": "All mean the same: rows arrive as a delivery, and reach training sets and "
                "the online store by the same run.",
            },
            "allow_registry_cache": {"type": "boolean"},
            "transform_on_write": {"type": "boolean"},
        },
        ["push_source_name", "df"],
    )


def _body(name: str) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": _reference(name)}}}


def _get(summary: str, content: str, *, is_open: bool = False, more: Schema | None = None) -> Schema:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {content: {}}}, **(more or {})},
    }
    if is_open:
        return {"get": {**operation, "security": []}}
    operation["responses"] |= _refusals(401, 429)
    return {"get": operation}


def describe(
    catalog: Catalog, sources: Collection[str], settings: Settings, models: Collection[str] = ()
) -> dict[str, Any]:
    """The document for what is declared.

    Args:
        catalog: Views and services.
        sources: Names of the sources that take pushes.
        settings: The platform's settings.
        models: Names of the models that predict.
    """
    max_rows = settings.server_max_rows
    not_ready = {"503": {"description": "It cannot, and why.", "content": {"application/json": {}}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Groundwork feature server",
            "version": "1",
            "description": "Features as they are now, in the request and response JSON of Feast.",
        },
        "security": [{"key": []}],
        "paths": {
            "/get-online-features": {
                "post": {
                    "summary": "Features of some entities.",
                    "requestBody": _body("FeaturesRequest"),
                    "responses": {
                        "200": _json(_reference("FeaturesResponse"), "A column a join key and feature."),
                        **_refusals(*_REFUSALS),
                    },
                }
            },
            "/predict": {
                "post": {
                    "summary": "Scores and decisions of a model's champion, from features as they are now.",
                    "requestBody": _body("PredictionRequest"),
                    "responses": {
                        "200": _json(_reference("PredictionResponse"), "A prediction a row."),
                        **_refusals(*_REFUSALS),
                    },
                }
            },
            "/push": {
                "post": {
                    "summary": "Rows for a source; once answered they are on the disk, to be landed.",
                    "requestBody": _body("Push"),
                    "responses": {
                        "200": _json(
                            _object({"delivery": _TEXT, "rows": {"type": "integer"}}), "They are taken."
                        ),
                        **_refusals(400, 401, 403, 404, 413, 415, 422, 429),
                    },
                }
            },
            "/health": _get("Whether the process answers.", "application/json", is_open=True),
            "/ready": _get("Whether features can be read.", "application/json", is_open=True, more=not_ready),
            "/metrics": _get("Counters in Prometheus's text format.", "text/plain"),
            "/openapi.json": _get("This document.", "application/json"),
            "/catalog": _get("What the caller may read: a page to search.", "text/html"),
            "/catalog.json": _get("The same facts as data.", "application/json"),
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "FeaturesRequest": _request(catalog, max_rows),
                "FeaturesResponse": _response(),
                "PredictionRequest": _prediction_request(models, max_rows),
                "PredictionResponse": _prediction_response(),
                "Push": _push(sources, max_rows),
                "Error": _object({"error": _TEXT}, ["error"]),
            },
        },
    }
