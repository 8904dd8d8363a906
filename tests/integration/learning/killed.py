"""What a process does that is killed while it trains, judges, promotes, predicts or records outcomes."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from orchestration.declarations import load_declarations
from orchestration.feature_store.views import Catalog, build_catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.events import Who
from orchestration.learning.predictions.outcomes import record_outcomes
from orchestration.learning.predictions.scoring import Day, predict_days
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.partitions import Window
from orchestration.settings import Clock, Settings
from tests.killing import die
from tests.model_works import MODEL, PREDICT, make_spec, manifest_with, silent

NOW = datetime(2024, 2, 20, tzinfo=UTC)
FIRST, DAYS = date(2024, 2, 3), 4


class Mortal:
    """A DuckDB connection in a process that dies just before or just after a commit, counted from 1."""

    left = 0
    before = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self) -> "Mortal":
        return Mortal(self._connection.cursor())

    def execute(self, query: str, *rest: Any) -> Any:
        if query != "commit":
            return self._connection.execute(query, *rest)
        Mortal.left -= 1
        if Mortal.left == 0 and Mortal.before:
            die()
        done = self._connection.execute(query, *rest)
        if Mortal.left == 0:
            die()
        return done


def day(number: int) -> Day:
    start = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(days=number)
    return Day(start.date(), Window(start, start + timedelta(days=1)))


def declared() -> tuple[ModelSpec, Catalog]:
    """The model and its features."""
    return make_spec(predict=PREDICT), build_catalog(load_declarations(manifest_with(MODEL)))


def a_week(settings: Settings, versions: tuple[str, str], spec: ModelSpec, catalog: Catalog) -> None:
    """Promote one version and then the other, predict the days of both, record what became of them."""
    lakehouse, root = LakehouseResource.from_settings(settings), settings.data_dir / "models"
    for version, at in zip(versions, (day(0), day(2)), strict=True):
        registry = Registry(lakehouse, root, Clock(at.window.start))
        if version not in {e.version for e in registry.events() if e.kind == "promoted"}:
            registry.promote(spec.name, version, Who("anna@example.com", "It is better."))
    predict_days(spec, registry, catalog, lakehouse, [day(n) for n in range(DAYS)], NOW, "run", silent)
    record_outcomes(lakehouse, spec, NOW)


def die_in_a_week(folder: Path, versions: tuple[str, str], commit: int, *, before: bool) -> None:
    """The same, but for its end."""
    spec, catalog = declared()
    become_mortal(commit, before=before)
    a_week(Settings(data_dir=folder, duckdb_threads=1), versions, spec, catalog)


def become_mortal(commit: int, *, before: bool) -> None:
    """This process dies at that commit, counted from now on."""
    Mortal.left, Mortal.before = commit, before
    connect = duckdb.connect
    duckdb.connect = lambda *a, **k: Mortal(connect(*a, **k))  # type: ignore[assignment,misc]
