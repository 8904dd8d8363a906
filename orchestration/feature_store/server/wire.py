"""Feast's JSON: from a request body to what is asked for, and from an answer to a response body.

What belongs here: the form of ``/get-online-features``, and how values and JSON become each other. What does
not: HTTP, rights, and reading the online store.

Feast's JSON has no dates: instants and days among the values are whole seconds since 1970, in a request as in
a response (a request may also say them in ISO 8601). A number that JSON cannot write (NaN, infinities) is
null with status PRESENT; a missing value is null with status NULL_VALUE. ``event_timestamps`` are ISO 8601,
and the first second of 1970 where there is no row.
"""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from typing import Any, Protocol

import orjson

from orchestration.declarations import DeclaredColumn, canonical, innermost, list_element
from orchestration.feature_store.online.encoding import NOT_STORED, from_micros
from orchestration.feature_store.online.reading import Status
from orchestration.feature_store.server.refusal import Refusal
from orchestration.feature_store.views import Catalog, Role, Service, UnknownFeatureError, Wanted

_NO_ROW = b"1970-01-01T00:00:00Z"
ON_DEMAND = "on_demand"
"""Under which name values of on-demand features are counted."""
KEYS = (
    "entities",
    "features",
    "feature_service",
    "full_feature_names",
    "include_feature_view_version_metadata",
)

Column = Sequence[Any]
_STATUS_JSON = {status: f'"{status.value}"'.encode() for status in Status}
_KEYS = frozenset(KEYS)
_TEXTS = frozenset({str})
_PLANS_KEPT = 1_000


class Answer(Protocol):
    """What a reader gives, column by column: join keys and request values, then features as asked for."""

    @property
    def feature_names(self) -> Sequence[str]:
        """Name of each column."""

    @property
    def values(self) -> Sequence[Column]:
        """A value for each entity row."""

    @property
    def statuses(self) -> Sequence[Sequence[Status]]:
        """What the value of each entity row means."""

    @property
    def instants(self) -> Sequence[Sequence[int] | None]:
        """Since when the value of each entity row holds, in microseconds since 1970, or ``NOT_STORED``.

        None for what is no stored feature; features of one row share one sequence.
        """


@dataclass(frozen=True)
class Plan:
    """What one way of asking comes to, worked out once.

    Attributes:
        features: References, or the name of a service: what the reader is asked for.
        views: The views that are read.
        required: Columns that a request must have.
        parse: How JSON becomes a column's values, where it is not the value already.
        count: How many features there are.
        spans: Under which name values are counted: the name, and from which feature to before which.
        write: How a feature's values become JSON, by its place among the features.
    """

    features: tuple[str, ...] | str
    views: frozenset[str]
    required: frozenset[str]
    parse: Mapping[str, Callable[[Any], Any]]
    count: int
    spans: tuple[tuple[str, int, int], ...]
    write: Mapping[int, Callable[[Any], Any]]


@dataclass(slots=True)
class Request:
    """A request for features, as far as its JSON tells."""

    entities: Mapping[str, list[Any]]
    features: tuple[str, ...]
    service: str | None
    full_feature_names: bool
    rows: int


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def load_object(body: bytes) -> dict[str, Any]:
    """A body that is one JSON object.

    Raises:
        Refusal: 400, it is none.
    """
    try:
        held = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is no JSON: {error.msg} at character {error.pos}") from error
    if type(held) is not dict:
        raise Refusal(400, f"the body is {_kind(held)}, expected an object")
    return held


def check_columns(held: object, key: str, max_rows: int) -> int:
    """The number of rows of an object of equally long lists.

    Raises:
        Refusal: 422, it is none; 413, there are more rows than ``max_rows``.
    """
    if type(held) is not dict or not held:
        raise Refusal(422, f"{key}: found {_kind(held)}, expected an object: a list of values a column")
    rows = -1
    for name, column in held.items():
        if type(column) is not list:
            raise Refusal(422, f"{key}.{name}: found {_kind(column)}, expected a list of values")
        if rows not in (-1, len(column)):
            raise Refusal(422, f"{key}.{name}: found {len(column)} values, expected {rows} as before it")
        rows = len(column)
    if rows > max_rows:
        raise Refusal(413, f"{key}: found {rows} rows, expected at most {max_rows}")
    if rows == 0:
        raise Refusal(422, f"{key}: found no row, expected at least one")
    return rows


def _flag(held: Mapping[str, Any], key: str) -> bool:
    value = held.get(key, False)
    if type(value) is not bool:
        raise Refusal(422, f"{key}: found {_kind(value)}, expected true or false")
    return value


def parse_request(body: bytes, max_rows: int) -> Request:
    """The request that a body makes.

    Raises:
        Refusal: 400, 413 or 422: it makes none.
    """
    held = load_object(body)
    if not _KEYS.issuperset(held):
        key = next(key for key in held if key not in _KEYS)
        raise Refusal(422, f"found unknown key {key!r}, expected some of {', '.join(KEYS)}")
    if "entities" not in held:
        raise Refusal(422, "entities: found nothing, expected an object: a list of values a column")
    rows = check_columns(held["entities"], "entities", max_rows)
    features, service = held.get("features") or [], held.get("feature_service")
    if type(features) is not list or not _TEXTS.issuperset(map(type, features)):
        raise Refusal(422, "features: expected a list of names such as view:feature")
    if service is not None and type(service) is not str:
        raise Refusal(422, f"feature_service: found {_kind(service)}, expected a name")
    if bool(features) == bool(service):
        found = "both" if features else "neither"
        raise Refusal(422, f"features and feature_service: found {found}, expected one of them")
    _flag(held, "include_feature_view_version_metadata")
    return Request(
        held["entities"], tuple(features), service or None, _flag(held, "full_feature_names"), rows
    )


def _instant(value: Any) -> Any:
    if isinstance(value, str):
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            raise ValueError("an instant without an offset")
        return found
    if type(value) is int:
        return datetime.fromtimestamp(value, UTC)
    return value


def _local_instant(value: Any) -> Any:
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=None)
    return _instant(value).replace(tzinfo=None) if type(value) is int else value


def _day(value: Any) -> Any:
    if isinstance(value, str):
        return date.fromisoformat(value)
    return _instant(value).date() if type(value) is int else value


def _decimal(value: Any) -> Any:
    return Decimal(str(value)) if type(value) in (str, int, float) else value


def _base_type(data_type: str) -> str:
    """A type without its arguments, under its short name."""
    base = data_type.lower().split("(")[0].strip()
    if base in {"timestamp with time zone", "timestamptz"}:
        return "timestamptz"
    return "timestamp" if base.startswith(("timestamp", "datetime")) else base


_PARSE: Mapping[str, Callable[[Any], Any]] = {
    "timestamptz": _instant,
    "timestamp": _local_instant,
    "date": _day,
    "time": lambda value: time.fromisoformat(value) if isinstance(value, str) else value,
    "decimal": _decimal,
    "numeric": _decimal,
}


def _instant_seconds(value: datetime | None) -> int | None:
    return None if value is None else int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


def _day_seconds(value: date | None) -> int | None:
    return None if value is None else (value.toordinal() - 719_163) * 86_400


def _wide_integer(value: int | None) -> int | float | None:
    return value if value is None or -(2**63) <= value < 2**64 else float(value)


_WRITE: Mapping[str, Callable[[Any], Any]] = {
    "timestamptz": _instant_seconds,
    "timestamp": _instant_seconds,
    "date": _day_seconds,
    "hugeint": _wide_integer,
    "uhugeint": _wide_integer,
}


def _default(value: object) -> object:
    """How orjson writes what it does not know: a decimal as a number, bytes in base 64."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in Feast's JSON")


def _converter(data_type: str, of_type: Mapping[str, Callable[[Any], Any]]) -> Callable[[Any], Any] | None:
    """What converts a value of a type, in a list each element; None where values are right as they are."""
    found = of_type.get(_base_type(innermost(data_type)))
    element = list_element(canonical(data_type))
    while found is not None and element is not None:
        found, element = partial(_each, found), list_element(element)
    return found


def _each(convert: Callable[[Any], Any], value: Any) -> Any:
    return list(map(convert, value)) if isinstance(value, list) else value


class Plans:
    """From what callers ask for to plans."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._plans: dict[tuple[str, ...] | str, Plan] = {}
        self._known_columns = frozenset(
            name
            for view in catalog.views.values()
            for name in view.keys
        ) | {
            name
            for service in catalog.services.values()
            for wanted in service.features
            for name in wanted.role.join_keys
        }  # fmt: skip

    def plan(self, request: Request, views: frozenset[str]) -> Plan:
        """The plan for a request of a caller who may read these views.

        Raises:
            Refusal: 404, it asks for what is not declared; 422, it asks for a feature twice.
        """
        asked = request.service or request.features
        plan = self._plans.get(asked)
        if plan is None:
            try:
                plan = _make(asked, self._catalog)
            except UnknownFeatureError:
                raise Refusal(404, _unknown(asked, self._catalog, views)) from None
            except ValueError as fault:
                raise Refusal(422, f"features: {fault}") from fault
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            self._plans[asked] = plan
        return plan

    def columns(self, request: Request, plan: Plan) -> dict[str, list[Any]]:
        """The columns that the reader needs, their JSON turned into values.

        Raises:
            Refusal: 422, a column is missing or not known, or a value is none of its type.
        """
        entities = request.entities
        if not plan.required.issubset(entities):
            missing = ", ".join(sorted(plan.required.difference(entities)))
            raise Refusal(422, f"entities: no column {missing}, expected {', '.join(sorted(plan.required))}")
        if len(entities) > len(plan.required):
            unknown = entities.keys() - plan.required - self._known_columns
            if unknown:
                expected = ", ".join(sorted(plan.required))
                raise Refusal(
                    422, f"entities: unknown column {', '.join(sorted(unknown))}, expected {expected}"
                )
        columns = {name: column for name, column in entities.items() if name in plan.required}
        for name, parse in plan.parse.items():
            columns[name] = _parsed(name, columns[name], parse)
        return columns


def parsed_columns(entities: Mapping[str, list[Any]], types: Mapping[str, str]) -> dict[str, list[Any]]:
    """Columns of declared types, their JSON turned into values.

    Raises:
        Refusal: 422, a value is none of its type.
    """
    found = {}
    for name, column in entities.items():
        parse = _converter(types[name], _PARSE)
        found[name] = column if parse is None else _parsed(name, column, parse)
    return found


def _parsed(name: str, column: list[Any], parse: Callable[[Any], Any]) -> list[Any]:
    values = []
    for row, value in enumerate(column):
        try:
            values.append(parse(value))
        except (ValueError, OverflowError, OSError, InvalidOperation) as fault:
            # The value itself stays out of the message: it may be classified.
            raise Refusal(
                422, f"entities.{name}: row {row} is {_kind(value)} that is none of its type"
            ) from fault
    return values


def _join_keys(role: Role) -> dict[str, DeclaredColumn]:
    return dict(zip(role.join_keys, role.view.entity, strict=True))


def _spans(labels: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    since = 0
    for place in range(1, len(labels) + 1):
        if place == len(labels) or labels[place] != labels[since]:
            yield labels[since], since, place
            since = place


def _plan(features: tuple[str, ...] | str, wanted: Sequence[Wanted], service: Service | None = None) -> Plan:
    types: dict[str, str] = {}
    for feature in wanted:
        types |= {name: column.data_type for name, column in _join_keys(feature.role).items()}
    labels = [feature.role.view.name for feature in wanted]
    written = [feature.feature.data_type for feature in wanted]
    if service is not None:
        types |= {name: column.data_type for name, column in service.declared.request.items()}
        labels += [ON_DEMAND] * len(service.declared.on_demand)
        written += [feature.data_type for feature in service.declared.on_demand.values()]
    return Plan(
        features=features,
        views=frozenset(feature.role.view.name for feature in wanted),
        required=frozenset(types),
        parse={n: parse for n, t in types.items() if (parse := _converter(t, _PARSE)) is not None},
        count=len(labels),
        spans=tuple(_spans(labels)),
        write={n: write for n, t in enumerate(written) if (write := _converter(t, _WRITE)) is not None},
    )


def _make(asked: tuple[str, ...] | str, catalog: Catalog) -> Plan:
    if isinstance(asked, str):
        service = catalog.service(asked)
        return _plan(service.name, service.features, service)
    return _plan(asked, catalog.resolve(asked))


def _unknown(asked: tuple[str, ...] | str, catalog: Catalog, views: frozenset[str]) -> str:
    """Why nothing of that name is there, for somebody who is to learn of these views only."""
    services = {
        name: service
        for name, service in catalog.services.items()
        if views.issuperset(wanted.role.view.name for wanted in service.features)
    }
    seen = Catalog({name: view for name, view in catalog.views.items() if name in views}, services)
    try:
        _make(asked, seen)
    except UnknownFeatureError as unknown:
        return str(unknown)
    raise LookupError("found what is not there")


Tally = tuple[str, Sequence[Status], int]
"""Columns of an answer that are counted under one name: that name, their statuses, how many they are."""


def encode(answer: Answer, plan: Plan, entities: Mapping[str, list[Any]]) -> tuple[bytes, list[Tally]]:
    """The response body of an answer, and what is in it.

    Args:
        answer: The reader's answer.
        plan: What was asked for.
        entities: The request's columns as they came: join keys are given back unchanged.
    """
    names, statuses, instants = answer.feature_names, answer.statuses, answer.instants
    first = len(names) - plan.count
    columns: list[Column] = list(answer.values)
    for place in range(first):
        columns[place] = entities.get(names[place], columns[place])
    for place, write in plan.write.items():
        columns[first + place] = list(map(write, columns[first + place]))
    parts, tallies = [], []
    for since, until in _alike(statuses, instants, 0, first):
        parts.append(_results(columns[since:until], statuses[since], instants[since]))
    for label, begin, end in plan.spans:
        for since, until in _alike(statuses, instants, first + begin, first + end):
            parts.append(_results(columns[since:until], statuses[since], instants[since]))
            tallies.append((label, statuses[since], until - since))
    body = b'{"metadata":{"feature_names":%b},"results":[%b]}' % (orjson.dumps(names), b",".join(parts))
    return body, tallies


def _alike(
    statuses: Sequence[Sequence[Status]], instants: Sequence[Sequence[int] | None], begin: int, end: int
) -> Iterator[tuple[int, int]]:
    """Columns of the same statuses and instants, as those of one row mostly are: from which, to which."""
    since = begin
    while since < end:
        status, at, until = statuses[since], instants[since], since + 1
        if statuses[since:end].count(status) == instants[since:end].count(at) == end - since:
            until = end
        while until < end and instants[until] is at and statuses[until] == status:
            until += 1
        yield since, until
        since = until


def _results(columns: Sequence[Column], statuses: Sequence[Status], instants: Sequence[int] | None) -> bytes:
    """The results of columns that have the same statuses and instants."""
    if len(statuses) == 1:
        rest, between = _rest_of_one(statuses[0], NOT_STORED if instants is None else instants[0])
    else:
        rest, between = _rest(statuses, [NOT_STORED] * len(statuses) if instants is None else instants)
    listed = _dumps(columns)
    # All lists in one go, where no text has what stands between two of them.
    if listed.count(b"],[") == len(columns) - 1:
        written = listed[1:-1].replace(b"],[", b"]%b[" % between)
    else:
        written = between.join(map(_dumps, columns))
    return b'{"values":%b%b' % (written, rest)


def _rest(statuses: Sequence[Status], instants: Sequence[int]) -> tuple[bytes, bytes]:
    """What follows on the values of a column, to its end and to the values of the next column."""
    rest = b',"statuses":[%b],"event_timestamps":["%b"]}' % (
        b",".join([_STATUS_JSON[status] for status in statuses]),
        b'","'.join(map(_iso, instants)),
    )
    return rest, rest + b',{"values":'


@lru_cache(maxsize=16_384)
def _rest_of_one(status: Status, instant: int) -> tuple[bytes, bytes]:
    return _rest((status,), (instant,))


_dumps = partial(orjson.dumps, default=_default)


@lru_cache(maxsize=65_536)
def _iso(micros: int) -> bytes:
    """An instant as Feast writes it; the first second of 1970 for none."""
    if micros == NOT_STORED:
        return _NO_ROW
    return from_micros(micros).isoformat().removesuffix("+00:00").encode() + b"Z"
