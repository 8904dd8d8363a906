"""The files an invocation of dbt leaves for people: its log and its results, one folder a run.

What belongs here: where they are and how long they stay. What does not: dbt's working files, which
live in a temporary folder and are gone when the invocation ends.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration.settings import Settings

KEPT_RUNS = 50
_PREFIX = "dbt-"
_ABANDONED_AFTER_SECONDS = 24 * 3600


def record_dir(settings: Settings, run_id: str, step: str, given: Path | None = None) -> Path:
    """The folder of one step of a run, made; the oldest runs beyond the last 50 are removed.

    A given one is used instead; where it is relative, to the dbt project.
    """
    if given is not None:
        folder = settings.dbt_project_dir / given
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    runs = settings.data_dir / "dbt" / "runs"
    folder = runs / run_id / step
    folder.mkdir(parents=True, exist_ok=True)
    newest_first = sorted(runs.iterdir(), key=_modified, reverse=True)
    for old in newest_first[KEPT_RUNS:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _modified(path: Path) -> float:
    # Another process may remove the same old folder.
    return path.stat().st_mtime if path.exists() else 0.0


@contextmanager
def target_dir(settings: Settings) -> Iterator[Path]:
    """dbt's target folder: outside the project, removed whatever happens.

    A folder that a killed process has left behind is removed a day later.
    """
    settings.tmp_dir.mkdir(parents=True, exist_ok=True)
    for folder in settings.tmp_dir.glob(f"{_PREFIX}*"):
        if _modified(folder) < time.time() - _ABANDONED_AFTER_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=_PREFIX, dir=settings.tmp_dir, ignore_cleanup_errors=True
    ) as folder_name:
        yield Path(folder_name)


def results_file(records: Path, attempt: int) -> Path:
    """Where dbt's results of an attempt are kept."""
    return records / ("run_results.json" if attempt == 1 else f"run_results.attempt_{attempt}.json")


def keep_compiled(target: Path, records: Path) -> None:
    """Copy the SQL that ran out of dbt's target folder."""
    if (target / "compiled").is_dir():
        shutil.copytree(target / "compiled", records / "compiled", dirs_exist_ok=True)
