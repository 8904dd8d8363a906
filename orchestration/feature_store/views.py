"""Feature views and services as the feature store uses them: resolved, typed, with a schema hash.

What belongs here: from declarations to views, from names to features. What does not: reading values.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from functools import cached_property

import duckdb

from orchestration.declarations import (
    DeclarationError,
    Declarations,
    DeclaredColumn,
    Exposure,
    FeatureService,
    NullKeys,
    RoleView,
    Table,
    TrainingSet,
    cast_loses_digits,
)
from orchestration.sql import identifier


class UnknownFeatureError(LookupError):
    """A feature, view or service that is not declared; the message says what is."""


@dataclass(frozen=True)
class View:
    """A declared feature view: one row an entity and instant, values valid from ``timestamp`` for ``ttl``."""

    name: str
    schema: str
    table: str
    entity: tuple[DeclaredColumn, ...]
    timestamp: str
    ttl: timedelta
    online: bool
    features: tuple[DeclaredColumn, ...]
    description: str
    owner: str
    null_keys: NullKeys = "reject"
    """Whether an entity with a null in its key has values (``match``) or none (``reject``)."""

    @cached_property
    def schema_hash(self) -> str:
        """16 hex digits that change when a key, a feature or a type does."""
        facts: dict[str, object] = {
            "entity": [[c.name, c.data_type] for c in self.entity],
            "timestamp": self.timestamp,
            "features": [[c.name, c.data_type] for c in self.features],
        }
        if self.null_keys == "match":
            facts["null_keys"] = self.null_keys
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"View({self.name}, entity {', '.join(self.keys)}, {len(self.features)} features)"

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the entity's columns, in declared order."""
        return tuple(column.name for column in self.entity)

    def of_same_entity(self, one: str, other: str) -> str:
        """SQL: rows of two relations belong to the same entity."""
        operator = "is not distinct from" if self.null_keys == "match" else "="
        return " and ".join(
            f"{one}.{identifier(key)} {operator} {other}.{identifier(key)}" for key in self.keys
        )

    @property
    def has_entity(self) -> str:
        """SQL: the entity of a row can have values."""
        if self.null_keys == "match":
            return "true"
        return " and ".join(f"{identifier(key)} is not null" for key in self.keys)

    def feature(self, name: str) -> DeclaredColumn:
        """A feature of the view.

        Raises:
            UnknownFeatureError: The view has no such feature.
        """
        for column in self.features:
            if column.name == name:
                return column
        raise UnknownFeatureError(
            _unknown(f"feature {self.name}:{name}", name, [c.name for c in self.features])
        )


@dataclass(frozen=True)
class Role:
    """A view under a caller's name for it, and the caller's names of its entity keys."""

    name: str
    view: View
    join_keys: tuple[str, ...]
    """The caller's column for each of ``view.keys``, in that order."""


@dataclass(frozen=True)
class Wanted:
    """One feature somebody asked for: ``view:feature`` or ``role:feature``."""

    role: Role
    feature: DeclaredColumn

    @property
    def reference(self) -> str:
        """``role:feature``, as it is asked for."""
        return f"{self.role.name}:{self.feature.name}"

    @property
    def full_name(self) -> str:
        """``role__feature``, a column name."""
        return f"{self.role.name}__{self.feature.name}"


@dataclass(frozen=True)
class Service:
    """A declared feature service, resolved."""

    name: str
    exposure: Exposure
    declared: FeatureService
    features: tuple[Wanted, ...]

    def __repr__(self) -> str:
        return f"Service({self.name}, {len(self.features)} features)"


@dataclass(frozen=True)
class Catalog:
    """Every view and service by name, and how names become features."""

    views: Mapping[str, View]
    services: Mapping[str, Service] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Catalog({len(self.views)} views, {len(self.services)} services)"

    def view(self, name: str) -> View:
        """The view of that name.

        Raises:
            UnknownFeatureError: There is none.
        """
        if name not in self.views:
            raise UnknownFeatureError(_unknown(f"feature view {name}", name, list(self.views)))
        return self.views[name]

    def service(self, name: str) -> Service:
        """The service of that name.

        Raises:
            UnknownFeatureError: There is none.
        """
        if name not in self.services:
            raise UnknownFeatureError(_unknown(f"feature service {name}", name, list(self.services)))
        return self.services[name]

    def resolve(
        self, references: Sequence[str], roles: Mapping[str, Role] | None = None
    ) -> tuple[Wanted, ...]:
        """Features by their references, in the order asked for.

        Args:
            references: ``view:feature``, ``role:feature``, or ``view:*`` for all features of one.
            roles: Roles by name, beside the views under their own names.

        Raises:
            UnknownFeatureError: A reference names nothing that is declared.
            ValueError: A reference has another form, or stands twice.
        """
        found: dict[str, Wanted] = {}
        for reference in references:
            name, colon, feature = reference.partition(":")
            if not (name and colon and feature):
                raise ValueError(f"found {reference!r}, expected view:feature")
            role = (roles or {}).get(name) or _own_role(self.view(name))
            columns = role.view.features if feature == "*" else (role.view.feature(feature),)
            for column in columns:
                wanted = Wanted(role, column)
                if wanted.reference in found:
                    raise ValueError(f"{wanted.reference} is asked for twice")
                found[wanted.reference] = wanted
        return tuple(found.values())


def _own_role(view: View) -> Role:
    return Role(view.name, view, view.keys)


def resolve_role(catalog: Catalog, name: str, declared: RoleView) -> Role:
    """A declared role with its view.

    Raises:
        ValueError: There is no such view, or its keys are not the ones that the role names.
    """
    view = catalog.views.get(declared.view)
    if view is None:
        known = ", ".join(sorted(catalog.views))
        raise ValueError(f"{name}.view: found {declared.view!r}, expected one of {known}")
    if set(declared.join_keys) != set(view.keys):
        raise ValueError(
            f"{name}.join_keys: found {', '.join(declared.join_keys)}, "
            f"expected a name for each of {', '.join(view.keys)}"
        )
    return Role(name, view, tuple(declared.join_keys[key] for key in view.keys))


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown {what}{hint} Known: {', '.join(sorted(known)) or 'none'}"


def _view(table: Table) -> View:
    declared = table.meta.feature_view
    if declared is None:
        raise LookupError(f"{table.unique_id} declares no feature view")
    by_name = {column.name: column for column in table.columns}
    outside = {*declared.entity, declared.timestamp}
    return View(
        name=table.name,
        schema=table.schema,
        table=table.name,
        entity=tuple(by_name[name] for name in declared.entity),
        timestamp=declared.timestamp,
        ttl=declared.ttl,
        online=declared.online,
        features=tuple(column for column in table.columns if column.name not in outside),
        description=table.description,
        owner=table.meta.owner,
        null_keys=table.null_keys,
    )


def _service(
    catalog: Catalog, exposure: Exposure, declared: FeatureService, faults: list[str]
) -> Service | None:
    place = f"{exposure.file}: exposures.{exposure.name}.config.meta.feature_service"
    roles: dict[str, Role] = {}
    for name, role in declared.roles.items():
        try:
            roles[name] = resolve_role(catalog, name, role)
        except ValueError as fault:
            faults.append(f"{place}.roles.{fault}")
    if len(roles) < len(declared.roles):
        return None
    try:
        features = catalog.resolve(declared.features, roles)
    except (UnknownFeatureError, ValueError) as fault:
        faults.append(f"{place}.features: {fault}")
        return None
    found = list(_on_demand_faults(place, declared, features))
    faults.extend(found)
    return None if found else Service(exposure.name, exposure, declared, features)


def _on_demand_faults(place: str, declared: FeatureService, features: Sequence[Wanted]) -> Iterator[str]:
    """Faults of on-demand features: not an expression over a row, or a type that drops digits."""
    if not declared.on_demand:
        return
    columns = {name: column.data_type for name, column in declared.request.items()}
    columns |= {wanted.full_name: wanted.feature.data_type for wanted in features}
    row = ", ".join(f"null::{data_type} as {identifier(name)}" for name, data_type in columns.items())
    with duckdb.connect() as con:
        for name, feature in declared.on_demand.items():
            if name in columns:
                yield f"{place}.on_demand.{name}: found a request column {name}, expected another name"
            cast = f"cast(({feature.expression}) as {feature.data_type})"
            query = f"select *, {cast}, ({feature.expression}) from (select {row})"
            try:
                found = str(con.execute(f"describe {query}").fetchall()[-1][1])
            except duckdb.Error as error:
                reason = " ".join(str(error).split("\n\nLINE")[0].split())
                yield (
                    f"{place}.on_demand.{name}.expression: found {reason}, "
                    f"expected SQL over {', '.join(columns)}"
                )
                continue
            if cast_loses_digits(found, feature.data_type):
                yield (
                    f"{place}.on_demand.{name}.data_type: found {feature.data_type} for an expression of "
                    f"type {found.lower()}, whose digits it cannot hold, expected {found.lower()}, "
                    "or a cast or round() in the expression"
                )


def _training_faults(catalog: Catalog, table: Table, declared: TrainingSet) -> Iterator[str]:
    """What a training set lacks of its service: each column that is not there, or of another type."""
    place = f"{table.file}: models.{table.name}"
    service = catalog.services.get(declared.feature_service)
    if service is None:
        known = ", ".join(sorted(catalog.services)) or "none"
        yield (
            f"{place}.config.meta.training_set.feature_service: found {declared.feature_service!r}, "
            f"expected one of {known}"
        )
        return
    roles = {wanted.role.name: wanted.role for wanted in service.features}.values()
    expected: dict[str, str | None] = {
        column: key.data_type if role.view.null_keys == "match" else None
        for role in roles
        for column, key in zip(role.join_keys, role.view.entity, strict=True)
    }
    expected |= {name: column.data_type.lower() for name, column in service.declared.request.items()}
    expected |= {f"{role.name}__{role.view.timestamp}": "timestamptz" for role in roles}
    expected |= {wanted.full_name: wanted.feature.data_type for wanted in service.features}
    expected |= {name: feature.data_type.lower() for name, feature in service.declared.on_demand.items()}
    for name, data_type in expected.items():
        column = table.column(name)
        if column is None:
            yield f"{place}.columns: found no {name}, expected it: {service.name} has or needs it"
        elif data_type not in {None, column.data_type}:
            yield f"{place}.columns.{name}.data_type: found {column.data_type}, expected {data_type}"


def build_catalog(declarations: Declarations) -> Catalog:
    """Every declared view and service.

    Raises:
        DeclarationError: A service names what no view has, or a training set lacks what its service has;
            all faults are listed.
    """
    catalog = Catalog({table.name: _view(table) for table in declarations.feature_views})
    faults: list[str] = []
    services: dict[str, Service] = {}
    for exposure in declarations.exposures.values():
        if exposure.meta.feature_service is not None:
            service = _service(catalog, exposure, exposure.meta.feature_service, faults)
            if service is not None:
                services[service.name] = service
    catalog = Catalog(catalog.views, services)
    if not faults:  # A service with a fault would only make more of them.
        for table in declarations.training_sets:
            if table.meta.training_set is not None:
                faults.extend(_training_faults(catalog, table, table.meta.training_set))
    if faults:
        raise DeclarationError(faults)
    return catalog
