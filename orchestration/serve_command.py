"""``groundwork serve``: the feature server of a project.

What belongs here: which parts it is made of, in each of its processes. What does not: the parts.
"""

import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestration.declarations import DeclarationError
from orchestration.feature_catalog import LiveCatalog
from orchestration.feature_store.online.opening import open_online_store
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.online.store import OnlineStore
from orchestration.feature_store.server import (
    ROUTES,
    Access,
    AccessLog,
    FeatureServer,
    KeysFault,
    Metrics,
    Parts,
    PushFault,
    ServingFault,
    check_exposure,
    counted_views,
    serve,
)
from orchestration.feature_store.views import Catalog, build_catalog
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.pushes import deliver_push, pushable_sources
from orchestration.learning.spec import build_models
from orchestration.model_serving import open_serving
from orchestration.project import read_project
from orchestration.settings import Settings
from orchestration.transformation import DbtParseError

FAULTS = (DbtParseError, DeclarationError, KeysFault, ServingFault, ValidationError)
"""What is wrong with the project or the settings: told without a stack trace."""


def serve_command(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        ServingFault: The address is open to others and there is no keys file.
        KeysFault: The keys file cannot be used.
        DeclarationError: The project's declarations cannot be.
    """
    check_exposure(settings)
    # Faults are told here, once; each process reads the project for itself.
    project = read_project(settings)
    catalog, sources = build_catalog(project.declarations), pushable_sources(project.declarations, settings)
    Access(settings, catalog.views, sources, build_models(project.declarations, catalog))
    settings.tmp_dir.mkdir(parents=True, exist_ok=True)
    counters = settings.tmp_dir / f"server-{secrets.token_hex(8)}.counters"
    try:
        serve(settings, partial(make_server, settings, counters))
    finally:
        counters.unlink(missing_ok=True)


def make_server(settings: Settings, counters: Path) -> FeatureServer:
    """The application of one process; ``counters`` is the file that all of them share."""
    project = read_project(settings)
    catalog = build_catalog(project.declarations)
    sources = pushable_sources(project.declarations, settings)
    access = Access(settings, catalog.views, sources, build_models(project.declarations, catalog))
    store, live = open_online_store(settings), LiveCatalog(project, catalog)
    reader = OnlineReader(catalog, store, project.clock)
    serving = open_serving(project, catalog, reader)

    def push(source: str, columns: Mapping[str, list[Any]]) -> str:
        try:
            return deliver_push(sources[source], settings, columns)
        except IngestFault as fault:
            raise PushFault(str(fault)) from fault

    def close() -> None:
        live.close()
        if serving is not None:
            serving.close()
        store.close()

    return FeatureServer(
        Parts(
            settings=settings,
            catalog=catalog,
            reader=reader,
            unready=partial(unready, catalog, store),
            push=push,
            sources=frozenset(sources),
            access=access,
            metrics=Metrics(counters, settings.server_workers, ROUTES, counted_views(catalog), list(sources)),
            access_log=AccessLog(settings.server_access_log),
            facts=live.facts,
            close=close,
            predictor=serving,
        )
    )


def unready(catalog: Catalog, store: OnlineStore) -> list[str]:
    """Why an online view cannot be served, a line each; nothing when all can be."""
    found = []
    for name, view in catalog.views.items():
        position = store.position(name) if view.online else None
        if not view.online:
            continue
        if position is None:
            found.append(
                f"{name}: found nothing in the online store, expected online_store/{name} materialized"
            )
        elif position.schema != view.schema_hash:
            found.append(f"{name}: found values of schema {position.schema}, expected {view.schema_hash}")
    return found
