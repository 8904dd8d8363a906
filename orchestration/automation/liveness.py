"""Which runs of the command line are alive.

A run inside a terminal's process has no daemon that watches it. It holds a file lock for as long as
its process lives; when the next one finds that lock free, the run was killed: it is marked as failed
and its slot in the pool is given back. What belongs here: just that. What does not: runs launched by
the daemon, which watches them itself.
"""

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.storage.tags import MAX_RETRIES_TAG

from orchestration.settings import Settings

HOST_TAG = "groundwork/host"
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def host_tags() -> dict[str, str]:
    """Tags of a run that lives in a process of this host, holds a lock and is repeated by its user alone."""
    return {HOST_TAG: socket.gethostname(), MAX_RETRIES_TAG: "0"}


def _lock_file(settings: Settings, run_id: str) -> Path:
    folder = settings.dagster_dir / "alive"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{run_id}.lock"


@contextmanager
def alive(settings: Settings, run_id: str) -> Iterator[None]:
    """Hold the run's lock; the system lets go of it when the process ends, however it ends."""
    path = _lock_file(settings, run_id)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_alive(settings: Settings, run_id: str) -> bool:
    try:
        with _lock_file(settings, run_id).open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def bury_dead_runs(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """Mark this host's killed runs as failed and free their slots in the pools.

    Returns:
        Their ids.
    """
    dead = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED, tags={HOST_TAG: socket.gethostname()})):
        if _is_alive(settings, run.run_id):
            continue
        instance.report_run_failed(run, "The process of this run was killed before the run ended.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        _lock_file(settings, run.run_id).unlink(missing_ok=True)
        dead.append(run.run_id)
    return dead
