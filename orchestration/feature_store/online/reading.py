"""Online features of entities, as a caller asks for them: by reference or service, in one read of the store.

What belongs here: from a request to keys, from values to an answer, ttl. What does not: where values are
(``store``), how they are laid out (``encoding``), HTTP.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import duckdb

from orchestration.feature_store.online.encoding import NOT_STORED, Decoded, Layout, from_micros, micros
from orchestration.feature_store.online.keys import EntityKeys, EntityTypeError
from orchestration.feature_store.online.on_demand import OnDemand, OnDemandError, is_of_type
from orchestration.feature_store.online.store import Held, OnlineStore
from orchestration.feature_store.views import Catalog, Role, Service, UnknownFeatureError, View, Wanted
from orchestration.settings import Clock

_Features = tuple[list[list[Any]], list[list["Status"]], list[Sequence[int]]]
"""Values, statuses and instants, a list a feature."""
EntityRows = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]


class Status(enum.Enum):
    """What a value in an answer means."""

    __hash__ = object.__hash__  # each member is one object, and Enum's own hash is slow

    PRESENT = "PRESENT"
    NULL_VALUE = "NULL_VALUE"
    NOT_FOUND = "NOT_FOUND"
    OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"


class FeatureNameError(ValueError):
    """Two columns of an answer would have one name."""


class RequestValueError(ValueError):
    """A request value is missing, or of another type than declared."""


class UnservedViewError(UnknownFeatureError):
    """A view that is not online."""

    def __init__(self, view: str) -> None:
        super().__init__(f"feature view {view}: found online: false, expected online: true to serve it")


class OnlineResponse:
    """Values of features for entity rows, column by column.

    Attributes:
        feature_names: The entity's keys, the request's values, then the features, as asked for.
        values: A list a name, in it one value an entity row; None where the status is not ``PRESENT``.
        statuses: A status for each value. Columns without a missing value share one list.
        instants: The row timestamp of each value in microseconds since 1970, or ``NOT_STORED``; None for what
            is no stored feature. Features of one row share one sequence.
    """

    __slots__ = ("__dict__", "_held", "feature_names", "instants", "statuses", "values")

    def __init__(
        self,
        feature_names: list[str],
        values: list[list[Any]],
        statuses: list[list[Status]],
        instants: Sequence[Sequence[int] | None],
        held: Sequence[Held],
    ) -> None:
        self.feature_names, self.values, self.statuses = feature_names, values, statuses
        self.instants, self._held = instants, held

    @property
    def cutoffs(self) -> list[int]:
        """Up to when the store knew the rows of each role's view, in microseconds since 1970.

        Roles are in the order of their first features.
        """
        return [cutoff for _, cutoff in self._held]

    @cached_property
    def event_timestamps(self) -> list[list[datetime | None]]:
        """The row timestamp of each value; None where there is no row, and for what is no stored feature."""
        made: dict[int, list[datetime | None]] = {}
        count = len(self.values[0]) if self.values else 0
        columns: list[list[datetime | None]] = []
        for instants in self.instants:
            if instants is None:
                columns.append([None] * count)
                continue
            if id(instants) not in made:
                made[id(instants)] = [None if at == NOT_STORED else from_micros(at) for at in instants]
            columns.append(list(made[id(instants)]))
        return columns

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, list[Any]]:
        """Values by name; with ``<name>__ts`` beside each feature if asked for, as Feast has it."""
        found = dict(zip(self.feature_names, self.values, strict=True))
        if include_event_timestamps:
            for name, instants, timestamps in zip(
                self.feature_names, self.instants, self.event_timestamps, strict=True
            ):
                if instants is not None:
                    found[f"{name}__ts"] = timestamps
        return found


@dataclass(frozen=True)
class _Group:
    """The features asked for of one role of one view."""

    role: Role
    layout: Layout
    keys: EntityKeys
    ttl: int
    positions: tuple[int, ...]


class _Plan:
    """All that follows from what is asked for, whatever the entities."""

    def __init__(
        self, features: Sequence[Wanted], views: Mapping[str, tuple[Layout, EntityKeys]], full_names: bool
    ) -> None:
        by_role: dict[str, list[int]] = {}
        for place, wanted in enumerate(features):
            by_role.setdefault(wanted.role.name, []).append(place)
        roles = {wanted.role.name: wanted.role for wanted in features}
        self.join_keys = list(dict.fromkeys(key for role in roles.values() for key in role.join_keys))
        self.request: dict[str, str] = {}
        self.on_demand: OnDemand | None = None
        self.features = features
        self.full_names = [wanted.full_name for wanted in features]
        self.names = [w.full_name if full_names else w.feature.name for w in features]
        self.groups: list[_Group] = []
        places = [place for places in by_role.values() for place in places]
        self.order = None if places == sorted(places) else [places.index(n) for n in range(len(places))]
        """For each feature asked for, which it is of the groups' features one after the other."""
        for name, places in by_role.items():
            layout, keys = views[roles[name].view.name]
            ttl = int(roles[name].view.ttl.total_seconds()) * 1_000_000
            positions = tuple(layout.position(features[place].feature.name) for place in places)
            self.groups.append(_Group(roles[name], layout, keys, ttl, positions))

    def add_service(self, service: Service) -> None:
        """Take in what a service has beside its features."""
        declared = service.declared
        self.request = {name: column.data_type for name, column in declared.request.items()}
        if declared.on_demand:
            inputs = self.request | {w.full_name: w.feature.data_type for w in self.features}
            place = f"{service.exposure.file}: exposures.{service.name}.config.meta.feature_service"
            self.on_demand = OnDemand(place, declared.on_demand, inputs)

    @cached_property
    def inputs(self) -> list[str]:
        """The columns that an entity row must have."""
        return list(dict.fromkeys([*self.join_keys, *self.request]))

    @cached_property
    def all_names(self) -> list[str]:
        """The names of an answer's columns."""
        return [*self.inputs, *self.names, *(self.on_demand.names if self.on_demand else ())]

    def check_names(self) -> None:
        """Raise if two columns of the answer would have one name.

        Raises:
            FeatureNameError: They would.
        """
        names = self.all_names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise FeatureNameError(
                f"found {', '.join(twice)} twice among the names of the answer, expected each once: "
                "ask with full_feature_names"
            )


class OnlineReader:
    """Reads online features.

    Args:
        catalog: The declared views and services.
        store: Where their values are.
        clock: The platform's clock, on which values grow old.

    Raises:
        UnsupportedTypeError: An online view has a type that the store cannot hold.
        OnDemandError: A service's on-demand feature cannot be evaluated.
    """

    def __init__(self, catalog: Catalog, store: OnlineStore, clock: Clock) -> None:
        self.catalog, self.store, self.clock = catalog, store, clock
        self.is_immediate = store.is_immediate
        online = (view for view in catalog.views.values() if view.online)
        self._views = {view.name: (Layout(view), EntityKeys(view)) for view in online}
        self._plans: dict[tuple[str | tuple[str, ...], bool], _Plan] = {}
        for name, service in catalog.services.items():
            if all(wanted.role.view.online for wanted in service.features):
                self._plan(name, True)

    def get_online_features(
        self, features: Sequence[str] | str, entity_rows: EntityRows, *, full_feature_names: bool = False
    ) -> OnlineResponse:
        """The latest values of features for entities.

        Args:
            features: References (``view:feature``, ``view:*``), or the name of a feature service.
            entity_rows: One mapping an entity, or one sequence a key; with a value for each of the request
                columns of a service. A null in a key is found nowhere.
            full_feature_names: Whether features are named ``view__feature``.

        Raises:
            UnknownFeatureError: A name that is not declared.
            EntityTypeError: An entity row lacks a key, or has one of another type.
            RequestValueError: An entity row lacks a request value, or has one of another type.
            FeatureNameError: Two features would have one name.
            NotMaterializedError: The store has nothing of a view.
            SchemaMismatchError: The store was written for another declaration of a view.
        """
        plan = self._plan(features, full_feature_names)
        given, count = _columns(entity_rows, plan)
        wanted = self._wanted(plan, given) if count else []
        return self._answer(plan, given, count, self.store.read(wanted) if wanted else [])

    async def get_online_features_async(
        self,
        features: Sequence[str] | str,
        entity_rows: EntityRows,
        *,
        full_feature_names: bool = False,
        now: datetime | None = None,
    ) -> OnlineResponse:
        """``get_online_features`` for an event loop; ``now`` stands for the clock's if given."""
        plan = self._plan(features, full_feature_names)
        given, count = _columns(entity_rows, plan)
        wanted = self._wanted(plan, given) if count else []
        found = await self.store.read_async(wanted) if wanted else []
        return self._answer(plan, given, count, found, now)

    def _plan(self, features: Sequence[str] | str, full_names: bool) -> _Plan:
        asked = features if isinstance(features, str) else tuple(features)
        plan = self._plans.get((asked, full_names))
        if plan is None:
            plan = self._make_plan(asked, full_names)
            if len(self._plans) > 1000:  # callers may make up any number of requests
                self._plans.clear()
            self._plans[asked, full_names] = plan
        return plan

    def _make_plan(self, asked: str | tuple[str, ...], full_names: bool) -> _Plan:
        service = self.catalog.service(asked) if isinstance(asked, str) else None
        features = service.features if service is not None else self.catalog.resolve(asked)
        if not features:
            raise ValueError("features: found none, expected at least one")
        for wanted in features:
            if wanted.role.view.name not in self._views:
                raise UnservedViewError(wanted.role.view.name)
        plan = _Plan(features, self._views, full_names)
        if service is not None:
            plan.add_service(service)
        plan.check_names()
        return plan

    def _wanted(self, plan: _Plan, given: Mapping[str, Sequence[Any]]) -> list[tuple[View, Sequence[bytes]]]:
        return [
            (group.role.view, group.keys.encode([given[key] for key in group.role.join_keys]))
            for group in plan.groups
        ]

    def _answer(
        self,
        plan: _Plan,
        given: Mapping[str, Sequence[Any]],
        count: int,
        found: Sequence[Held],
        now: datetime | None = None,
    ) -> OnlineResponse:
        present = [Status.PRESENT] * count
        values: list[list[Any]] = [list(given[name]) for name in plan.inputs]
        statuses = [_statuses(column, {}, present) for column in values]
        instants: list[Sequence[int] | None] = [None] * len(values)
        features = self._features(plan, present, found, now or self.clock.now()) if count else _nothing(plan)
        if plan.order is not None:
            features = tuple([part[n] for n in plan.order] for part in features)  # type: ignore[assignment]
        values += features[0]
        statuses += features[1]
        instants += features[2]
        if plan.on_demand is not None:
            computed = _on_demand(plan, plan.on_demand, given, features[0], count)
            values += computed
            statuses += [_statuses(column, {}, present) for column in computed]
            instants += [None] * len(computed)
        return OnlineResponse(plan.all_names, values, statuses, instants, found)

    def _features(self, plan: _Plan, present: list[Status], found: Sequence[Held], at: datetime) -> _Features:
        now = micros(at)
        values: list[list[Any]] = []
        statuses: list[list[Status]] = []
        instants: list[Sequence[int]] = []
        for group, (stored, _) in zip(plan.groups, found, strict=True):
            decoded = _decode(group, stored)
            reasons = _absences(decoded.timestamps, now - group.ttl)
            columns = decoded.columns
            values += columns
            instants += [decoded.timestamps] * len(columns)
            if reasons or decoded.has_nulls:
                statuses += [_statuses(column, reasons, present) for column in columns]
            else:
                statuses += [present] * len(columns)
        return values, statuses, instants


def _nothing(plan: _Plan) -> _Features:
    """The features of no entity."""
    count = len(plan.features)
    return [[] for _ in range(count)], [[] for _ in range(count)], [()] * count


def _statuses(column: list[Any], reasons: Mapping[int, Status], present: list[Status]) -> list[Status]:
    """The statuses of a column; in the rows for which there are reasons it has no value from now on."""
    for row in reasons:
        column[row] = None
    if None not in column:
        return present
    return [
        Status.PRESENT if value is not None else reasons.get(row, Status.NULL_VALUE)
        for row, value in enumerate(column)
    ]


def _decode(group: _Group, values: Sequence[bytes | None]) -> Decoded:
    if None in values:
        blank = group.layout.blank
        return group.layout.decode([blank if value is None else value for value in values], group.positions)
    return group.layout.decode(values, group.positions)  # type: ignore[arg-type]


def _absences(timestamps: Sequence[int], oldest: int) -> dict[int, Status]:
    """The rows that have no value to give, and why."""
    if min(timestamps) >= oldest:
        return {}
    return {
        row: Status.NOT_FOUND if at == NOT_STORED else Status.OUTSIDE_MAX_AGE
        for row, at in enumerate(timestamps)
        if at < oldest
    }


def _columns(entity_rows: EntityRows, plan: _Plan) -> tuple[Mapping[str, Sequence[Any]], int]:
    """The entity rows column by column, and how many they are.

    Raises:
        EntityTypeError: A key is missing, or columns differ in length.
        RequestValueError: A request value is missing.
    """
    inputs = plan.inputs
    if isinstance(entity_rows, (dict, Mapping)):  # the first is quick to tell
        for name in inputs:
            if name not in entity_rows:
                raise _missing(name, "entity_rows", plan)
        lengths = {len(entity_rows[name]) for name in inputs}
        if len(lengths) > 1:
            raise EntityTypeError(
                f"entity_rows: found columns of {sorted(lengths)} rows, expected one length"
            )
        return entity_rows, lengths.pop()
    try:
        return {name: [row[name] for row in entity_rows] for name in inputs}, len(entity_rows)
    except (KeyError, TypeError, IndexError):
        for number, row in enumerate(entity_rows):
            if not isinstance(row, Mapping):
                raise EntityTypeError(
                    f"entity_rows[{number}]: found a {type(row).__name__}, expected a mapping by key"
                ) from None
            for name in inputs:
                if name not in row:
                    raise _missing(name, f"entity_rows[{number}]", plan) from None
        raise


def _missing(name: str, place: str, plan: _Plan) -> ValueError:
    message = f"{place}: found no {name!r}, expected {', '.join(plan.inputs)}"
    return EntityTypeError(message) if name in plan.join_keys else RequestValueError(message)


def _on_demand(
    plan: _Plan,
    on_demand: OnDemand,
    given: Mapping[str, Sequence[Any]],
    features: Sequence[Sequence[Any]],
    count: int,
) -> list[list[Any]]:
    if not count:
        return [[] for _ in on_demand.names]
    columns = {name: given[name] for name in plan.request}
    columns |= dict(zip(plan.full_names, features, strict=True))
    try:
        return on_demand.evaluate(columns, count)
    except duckdb.Error as error:
        for name, kind in plan.request.items():
            wrong = next((v for v in given[name] if not is_of_type(v, kind)), None)
            if wrong is not None:
                raise RequestValueError(
                    f"request value {name}: found a value of type {type(wrong).__name__} that is no {kind}, "
                    f"expected a {kind}"
                ) from None
        # Its own message may show values.
        raise OnDemandError(
            f"on-demand features: {type(error).__name__} on the values of this request"
        ) from None
