"""Everything the catalog tells, gathered from the declarations and the lakehouse.

What belongs here: plain facts, ready to be written as JSON. What does not: how they look.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from orchestration.declarations import LAYERS, Declarations, DeclaredColumn, Table, in_words
from orchestration.feature_store.discovery.profiles import FeatureProfile, ViewProfile
from orchestration.feature_store.views import Catalog, Service, View

Age = Literal["fresh", "stale", "overdue", "unknown"]


@dataclass(frozen=True)
class CheckResult:
    """The state of a check for the current data; a check that ``warns`` blocks nothing.

    ``measured`` and ``at`` are from its last result; ``evaluated`` is false if no result is about that data.
    """

    name: str
    dimension: str
    warns: bool
    passed: bool
    measured: float | None
    at: datetime | None
    evaluated: bool = True

    @property
    def outcome(self) -> str:
        """``passed``, ``warned``, ``failed`` or ``not evaluated``."""
        if self.passed:
            return "passed"
        if self.warns:
            return "warned"
        return "failed" if self.evaluated else "not evaluated"


@dataclass(frozen=True)
class Parent:
    """A table that a view is built from."""

    layer: str
    name: str
    description: str
    url: str
    is_direct: bool


@dataclass(frozen=True)
class KeyFacts:
    """A join key of a view."""

    name: str
    data_type: str
    description: str


@dataclass(frozen=True)
class FeatureFacts:
    """One feature; ``profile`` is None while nothing is stored."""

    name: str
    reference: str
    data_type: str
    description: str
    classification: str
    used_by: tuple[str, ...]
    profile: FeatureProfile | None


@dataclass(frozen=True)
class ViewFacts:
    """One feature view; ``age_seconds`` is that of its newest row on the platform's clock."""

    name: str
    description: str
    owner: str
    entity: tuple[KeyFacts, ...]
    timestamp: str
    ttl: str
    online: bool
    schema_hash: str
    declared_in: str
    url: str
    rows: int | None
    entities: int | None
    newest: datetime | None
    age_seconds: float | None
    freshness: Age
    features: tuple[FeatureFacts, ...]
    upstream: tuple[Parent, ...]
    used_by: tuple[str, ...]
    checks: tuple[CheckResult, ...]

    @property
    def key(self) -> str:
        """The names of its join keys."""
        return ", ".join(key.name for key in self.entity)

    @property
    def passed(self) -> int:
        """How many checks have passed."""
        return self._count("passed")

    @property
    def warned(self) -> int:
        """How many checks have not, and stop nothing."""
        return self._count("warned")

    @property
    def failed(self) -> int:
        """How many checks have not, and stop what is downstream."""
        return self._count("failed")

    @property
    def not_evaluated(self) -> int:
        """The number of checks that have no result for the current data and block the downstream assets."""
        return self._count("not evaluated")

    def _count(self, outcome: str) -> int:
        return sum(check.outcome == outcome for check in self.checks)


@dataclass(frozen=True)
class ServiceFacts:
    """One feature service: the features that a model or an application asks for together."""

    name: str
    kind: str
    description: str
    owner: str
    features: tuple[str, ...]
    request: tuple[str, ...]
    on_demand: tuple[str, ...]
    views: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """The whole catalog, as of ``now`` on the platform's clock."""

    now: datetime
    dagster_ui_url: str
    views: tuple[ViewFacts, ...]
    services: tuple[ServiceFacts, ...]

    @property
    def features(self) -> int:
        """How many features there are."""
        return sum(len(view.features) for view in self.views)

    def only(self, views: frozenset[str]) -> "Facts":
        """What somebody sees who may read these views."""
        services = tuple(service for service in self.services if views.issuperset(service.views))
        names = {service.name for service in self.services} - {service.name for service in services}

        def open_to(used_by: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in used_by if name not in names)

        return replace(
            self,
            services=services,
            views=tuple(
                replace(
                    view,
                    used_by=open_to(view.used_by),
                    features=tuple(replace(f, used_by=open_to(f.used_by)) for f in view.features),
                )
                for view in self.views
                if view.name in views
            ),
        )


def gather(
    catalog: Catalog,
    declarations: Declarations,
    profiles: Mapping[str, ViewProfile | None],
    checks: Mapping[str, Sequence[CheckResult]],
    now: datetime,
    dagster_ui_url: str,
) -> Facts:
    """The catalog's facts.

    Args:
        catalog: Views and services.
        declarations: What they are declared in.
        profiles: Profiles by view.
        checks: Last results by view.
        now: The platform's clock.
        dagster_ui_url: Where Dagster's UI is.
    """
    tables = {table.name: table for table in declarations.feature_views}
    url = dagster_ui_url.rstrip("/")

    def facts(name: str, view: View) -> ViewFacts:
        results = tuple(checks.get(name, ()))
        return _view(view, tables[name], catalog, declarations, profiles.get(name), results, now, url)

    return Facts(
        now=now,
        dagster_ui_url=url,
        views=tuple(facts(name, view) for name, view in sorted(catalog.views.items())),
        services=tuple(_service(service) for _, service in sorted(catalog.services.items())),
    )


def _asset_url(url: str, table: Table) -> str:
    return f"{url}/assets/{'/'.join(table.asset_path)}"


def _freshness(table: Table, profile: ViewProfile | None, now: datetime) -> tuple[float | None, Age]:
    if profile is None or profile.newest is None:
        return None, "unknown"
    age, limits = now - profile.newest, table.meta.freshness
    if limits is None:
        return age.total_seconds(), "unknown"
    if limits.fail_after is not None and age > limits.fail_after:
        return age.total_seconds(), "overdue"
    return age.total_seconds(), "stale" if age > limits.warn_after else "fresh"


def _upstream(table: Table, declarations: Declarations, url: str) -> Iterator[Parent]:
    found = sorted(declarations.ancestors(table.unique_id), key=lambda t: (-LAYERS.index(t.layer), t.name))
    for parent in found:
        direct = parent.unique_id in table.upstream
        yield Parent(parent.layer, parent.name, parent.description, _asset_url(url, parent), direct)


def _users(catalog: Catalog, declarations: Declarations, table: Table, view: View) -> Iterator[str]:
    """Services that read a view, and other exposures that are built on it."""
    for name, service in sorted(catalog.services.items()):
        if any(wanted.role.view.name == view.name for wanted in service.features):
            yield name
    for name, exposure in sorted(declarations.exposures.items()):
        if name not in catalog.services and table.unique_id in exposure.upstream:
            yield name


def _feature(
    view: View, column: DeclaredColumn, catalog: Catalog, profile: ViewProfile | None
) -> FeatureFacts:
    users = (
        name
        for name, service in sorted(catalog.services.items())
        if any((w.role.view.name, w.feature.name) == (view.name, column.name) for w in service.features)
    )
    return FeatureFacts(
        name=column.name,
        reference=f"{view.name}:{column.name}",
        data_type=column.data_type,
        description=column.description,
        classification=column.classification,
        used_by=tuple(users),
        profile=None if profile is None else profile.features.get(column.name),
    )


def _view(
    view: View, table: Table, catalog: Catalog, declarations: Declarations, profile: ViewProfile | None,
    checks: tuple[CheckResult, ...], now: datetime, url: str,
) -> ViewFacts:  # fmt: skip
    age, freshness = _freshness(table, profile, now)
    return ViewFacts(
        name=view.name,
        description=view.description,
        owner=view.owner,
        entity=tuple(KeyFacts(c.name, c.data_type, c.description) for c in view.entity),
        timestamp=view.timestamp,
        ttl=in_words(view.ttl),
        online=view.online,
        schema_hash=view.schema_hash,
        declared_in=table.file,
        url=_asset_url(url, table),
        rows=None if profile is None else profile.rows,
        entities=None if profile is None else profile.entities,
        newest=None if profile is None else profile.newest,
        age_seconds=age,
        freshness=freshness,
        features=tuple(_feature(view, column, catalog, profile) for column in view.features),
        upstream=tuple(_upstream(table, declarations, url)),
        used_by=tuple(_users(catalog, declarations, table, view)),
        checks=checks,
    )


def _service(service: Service) -> ServiceFacts:
    return ServiceFacts(
        name=service.name,
        kind=service.exposure.kind,
        description=service.exposure.description,
        owner=service.exposure.meta.owner,
        features=tuple(wanted.reference for wanted in service.features),
        request=tuple(service.declared.request),
        on_demand=tuple(service.declared.on_demand),
        views=tuple(dict.fromkeys(wanted.role.view.name for wanted in service.features)),
    )
