"""The Dagster instance: which storage it has, and how a process opens it.

What belongs here: the classes that ``dagster.yaml`` names, so that Dagster's own storage follows
``orchestration.settings`` like everything else. What does not: the lakehouse, which holds the data.
"""

import fcntl
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from pydantic import SecretStr

from orchestration.event_log import BatchingSqliteEventLog, enable_batches
from orchestration.settings import PROJECT_DIR, Settings

COMPUTE_LOGS = "compute_logs"

enable_batches()


class BatchingSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with the batching event log."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        folder = Path(base_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # Two processes that make the tables at the same moment would trip over each other.
        with (folder / "storage.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            super().__init__(base_dir, inst_data)
            self._event_log_storage = BatchingSqliteEventLog(str(folder / "history" / "runs"))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """The storage in the configured folder."""
        return cls(config_value["base_dir"], inst_data=inst_data)


def _with_driver(url: SecretStr) -> str:
    """The address with the driver that dagster-postgres installs; SQLAlchemy 2.1 would look for another."""
    return re.sub("^postgres(ql)?://", "postgresql+psycopg2://", url.get_secret_value())


class _BySettings:
    """What the settings decide alone: a class of ``dagster.yaml`` without config of its own."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No config: the settings decide."""
        return {}


class PlatformStorage(_BySettings, DagsterStorage, ConfigurableClass):
    """Runs, events and schedules: SQLite under the data folder, or PostgreSQL when the settings name one.

    It has no config of its own, so that no connection string ends up in an instance's description.
    """

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> DagsterStorage:
        """The storage of the present settings."""
        settings = Settings()
        url = settings.dagster_postgres_url
        if url is None:
            settings.dagster_dir.mkdir(parents=True, exist_ok=True)
            return BatchingSqliteStorage(str(settings.dagster_dir), inst_data=inst_data)
        # Only a deployment on PostgreSQL pays for importing its driver.
        from dagster_postgres import DagsterPostgresStorage  # noqa: PLC0415

        return DagsterPostgresStorage(_with_driver(url), inst_data=inst_data)


class PlatformComputeLogs(_BySettings, LocalComputeLogManager):
    """What steps print, under the data folder."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """The log folder of the present settings."""
        return cls(base_dir=str(Settings().dagster_dir / COMPUTE_LOGS), inst_data=inst_data)


class PlatformArtifacts(_BySettings, LocalArtifactStorage):
    """Other files of the instance, under the data folder."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """The artifact folder of the present settings."""
        return cls(base_dir=str(Settings().dagster_dir), inst_data=inst_data)


def _configured(cls: type[ConfigurableClass], **config: str) -> dict[str, object]:
    return {"module": cls.__module__, "class": cls.__name__, "config": config}


def open_instance(settings: Settings) -> DagsterInstance:
    """The persistent instance of these settings, as ``dagster dev`` in the project folder opens it.

    Use it in a ``with`` block.
    """
    home = settings.dagster_dir
    home.mkdir(parents=True, exist_ok=True)
    storage: dict[str, object] = {"custom": _configured(BatchingSqliteStorage, base_dir=str(home))}
    if settings.dagster_postgres_url is not None:
        storage = {"postgres": {"postgres_url": _with_driver(settings.dagster_postgres_url)}}
    overrides: Any = {
        "storage": storage,
        "compute_logs": _configured(LocalComputeLogManager, base_dir=str(home / COMPUTE_LOGS)),
        "local_artifact_storage": _configured(LocalArtifactStorage, base_dir=str(home)),
    }
    return DagsterInstance.from_ref(
        InstanceRef.from_dir(str(home), config_dir=str(PROJECT_DIR), overrides=overrides)
    )
