"""The feature server over a benchmark's own views: no project, no pushes, no catalog."""

from datetime import datetime
from pathlib import Path
from typing import NoReturn

from orchestration.feature_store.discovery import Facts
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.server import (
    ROUTES,
    Access,
    AccessLog,
    FeatureServer,
    Metrics,
    Parts,
    counted_views,
)
from orchestration.feature_store.views import Catalog
from orchestration.model_serving import ModelServing
from orchestration.settings import Settings


def _takes_no_push(source: str, _columns: object) -> NoReturn:
    raise LookupError(f"source {source}: found none, expected none to be asked for")


def make_app(
    folder: Path,
    catalog: Catalog,
    reader: OnlineReader,
    now: datetime,
    workers: int = 1,
    predictor: ModelServing | None = None,
) -> FeatureServer:
    """The application of one worker; its counters and its log are in ``folder``."""
    settings = Settings(data_dir=folder, server_access_log=folder / "access.jsonl", server_workers=workers)
    return FeatureServer(
        Parts(
            settings=settings,
            catalog=catalog,
            reader=reader,
            unready=lambda: (),
            push=_takes_no_push,
            sources=frozenset(),
            access=Access(settings, catalog.views, (), () if predictor is None else sorted(predictor.models)),
            metrics=Metrics(folder / "counters", workers, ROUTES, counted_views(catalog), ()),
            access_log=AccessLog(settings.server_access_log),
            facts=lambda: Facts(now, settings.dagster_ui_url, (), ()),
            close=reader.store.close,
            predictor=predictor,
        )
    )
