"""The feature catalog of a project: declarations, profiles and last checks, brought together.

What belongs here: where the parts meet, for the server and the command line. What does not: the parts.
"""

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing

import dagster as dg
import duckdb

from orchestration.asset_specs import asset_key
from orchestration.dagster_ext import CheckState, CheckStatus
from orchestration.feature_store.discovery import CheckResult, Facts, ProfileCache, ViewProfile, gather
from orchestration.feature_store.views import Catalog, View
from orchestration.instance import open_instance
from orchestration.lakehouse import LakehouseResource, current_snapshot
from orchestration.project import Project
from orchestration.quality import load_contracts
from orchestration.quality.contract import Check
from orchestration.quality.history import check_states


def gather_facts(project: Project, catalog: Catalog, views: Collection[str] | None = None) -> Facts:
    """What the catalog tells now.

    Args:
        project: The dbt project.
        catalog: Its views and services.
        views: Look at what is stored of these only; of all when None.

    Raises:
        ContractError: A contract of the project cannot be used.
    """
    wanted = [view for name, view in catalog.views.items() if views is None or name in views]
    if not wanted or not _lakehouse(project).attachment.exists:
        return _facts(project, catalog, {}, {})
    with closing(_open(project)) as con:
        return _look(con, project, catalog, wanted)


class LiveCatalog:
    """The catalog of a running server: looked up again when the lakehouse or the minute has changed."""

    def __init__(self, project: Project, catalog: Catalog) -> None:
        self._project, self._catalog = project, catalog
        self._lock = threading.Lock()
        self._con: duckdb.DuckDBPyConnection | None = None
        self._known: tuple[object, Facts] | None = None

    def facts(self) -> Facts:
        """What it tells now; the same object until something has changed. Safe in threads.

        Raises:
            ContractError: A contract of the project cannot be used.
        """
        with self._lock:
            minute = self._project.clock.now().replace(second=0, microsecond=0)
            if self._con is None and _lakehouse(self._project).attachment.exists:
                self._con = _open(self._project)
            key = (minute, None if self._con is None else current_snapshot(self._con))
            if self._known is None or self._known[0] != key:
                self._known = (key, self._gather())
            return self._known[1]

    def _gather(self) -> Facts:
        if self._con is None:
            return _facts(self._project, self._catalog, {}, {})
        return _look(self._con, self._project, self._catalog, list(self._catalog.views.values()))

    def close(self) -> None:
        """Close its connection to the lakehouse."""
        with self._lock:
            if self._con is not None:
                self._con.close()
                self._con = None


def _lakehouse(project: Project) -> LakehouseResource:
    return LakehouseResource.from_settings(project.settings)


def _open(project: Project) -> duckdb.DuckDBPyConnection:
    con = _lakehouse(project).open(read_only=True)
    # Whoever reads features meanwhile needs a processor too.
    con.execute(f"set threads = {max((os.cpu_count() or 1) // 2, 1)}")
    return con


def _look(con: duckdb.DuckDBPyConnection, project: Project, catalog: Catalog, views: Sequence[View]) -> Facts:
    cache = ProfileCache(project.settings)
    profiles = {view.name: cache.get(con, view) for view in views}
    return _facts(project, catalog, profiles, _checks(project))


def _checks(project: Project) -> dict[str, list[CheckResult]]:
    settings = project.settings
    if settings.dagster_postgres_url is None and not settings.dagster_dir.is_dir():
        return {}
    contracts = load_contracts(project.declarations, settings.soda_checks_dir)
    of_views = [c for c in contracts if c.target.table.meta.feature_view is not None]
    with open_instance(settings) as instance:
        states = check_states(instance, of_views)
    found: dict[str, list[CheckResult]] = {}
    for contract in of_views:
        table = contract.target.table
        for check in contract.checks:
            state = states[dg.AssetCheckKey(asset_key(table), check.name)]
            found.setdefault(table.name, []).append(_result(state, check))
    return found


def _result(state: CheckState, check: Check) -> CheckResult:
    settled = state.settled
    measured = None if settled is None else settled.evaluation.metadata.get("measured")
    value = None if measured is None else measured.value
    return CheckResult(
        check.name,
        check.dimension,
        check.warns,
        state.status is CheckStatus.PASSED,
        float(value) if isinstance(value, int | float) else None,
        None if settled is None else settled.at,
        state.status in (CheckStatus.PASSED, CheckStatus.WARNED, CheckStatus.FAILED),
    )


def _facts(
    project: Project,
    catalog: Catalog,
    profiles: Mapping[str, ViewProfile | None],
    checks: Mapping[str, Sequence[CheckResult]],
) -> Facts:
    now, url = project.clock.now(), project.settings.dagster_ui_url
    return gather(catalog, project.declarations, profiles, checks, now, url)
