"""Whether anything a run depends on has changed since the last one succeeded.

What belongs here: the hash of a run's inputs and the note the last successful run left. What does
not: what a source's files are (the caller names them).
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from orchestration.settings import PROJECT_DIR, Clock, Settings

FINGERPRINT_TAG = "groundwork/fingerprint"
_NO_INPUT = frozenset({"target", "logs", "__pycache__", ".user.yml"})
_SETTINGS = {"environment", "dbt_project_dir", "soda_checks_dir", "lake_data_path", "s3_endpoint",
             "online_store_redis_url", "online_store_redis_prefix", "dataset_dir"}  # fmt: skip
_PASSWORD = re.compile(r"(?<=password=)('[^']*'|\S+)|(?<=:)[^:/@]+(?=@)")


@dataclass(frozen=True)
class Note:
    """What the last successful run left: its fingerprint, the snapshot it ended on, its summary.

    ``folders`` are those beside the lakehouse that there were at its end.
    """

    fingerprint: str
    snapshot: int
    run_id: str
    summary: str
    folders: tuple[str, ...]

    @classmethod
    def path(cls, settings: Settings) -> Path:
        """Where the note is kept."""
        return settings.data_dir / "last_run.json"

    @classmethod
    def read(cls, settings: Settings) -> "Note | None":
        """The note, or None when the last run left none."""
        try:
            note = cls(**json.loads(cls.path(settings).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return replace(note, folders=tuple(note.folders))

    @property
    def holds(self) -> bool:
        """Whether no folder has gone since."""
        return all(Path(folder).is_dir() for folder in self.folders)

    def write(self, settings: Settings) -> None:
        """Leave the note, whole or not at all."""
        path = self.path(settings)
        staging = path.with_name(f"{path.name}.{os.getpid()}")
        staging.write_text(json.dumps(asdict(self)))
        staging.replace(path)

    @classmethod
    def tear(cls, settings: Settings) -> None:
        """Drop the note: a run begins that may change what it says."""
        cls.path(settings).unlink(missing_ok=True)


def folders_of(settings: Settings) -> tuple[str, ...]:
    """What a run has left beside the lakehouse: history, online values, dataset versions, models."""
    places = (settings.dagster_dir, settings.online_dir, settings.datasets_dir, settings.models_dir)
    return tuple(str(place) for place in places if place.is_dir())


def _without_password(address: SecretStr | None) -> str:
    return "" if address is None else _PASSWORD.sub("", address.get_secret_value())


def _files(root: Path) -> Iterable[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - _NO_INPUT)
        for name in sorted(set(names) - _NO_INPUT):
            yield Path(folder, name)


def compute_fingerprint(
    settings: Settings, clock: Clock, sources: Sequence[Path], arguments: Mapping[str, str]
) -> str:
    """A hash of everything a run's outcome follows from.

    That is the platform's code and locked dependencies, the dbt project, the contracts, the source
    files, the settings that name a place, the run's own arguments, and the platform's clock: the
    instant of a replay clock, the day of the wall clock.
    """
    digest = hashlib.sha256()

    def add(*facts: str) -> None:
        for fact in facts:
            digest.update(fact.encode() + b"\0")

    now = clock.now()
    add(clock.mode, now.isoformat() if clock.mode == "replay" else now.date().isoformat())
    add(*(f"{name}={value}" for name, value in sorted(arguments.items())))
    add(settings.model_dump_json(include=_SETTINGS))
    add(*map(_without_password, (settings.dagster_postgres_url, settings.lake_catalog_postgres)))
    roots = [PROJECT_DIR / "orchestration", settings.dbt_project_dir, settings.soda_checks_dir]
    files = [PROJECT_DIR / "requirements.lock", *(f for root in roots for f in _files(root)), *sources]
    for file in files:
        add(str(file))
        if file.is_file():
            with file.open("rb") as handle:
                add(hashlib.file_digest(handle, "sha256").hexdigest())
    return digest.hexdigest()
