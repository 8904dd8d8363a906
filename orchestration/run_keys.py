"""Keys of runs that sensors request: one request starts one run, and can be made again once that is over."""

from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG

_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0
"""Seconds between two runs for the same request; the pause doubles with each run."""


@dataclass(frozen=True)
class RunKey:
    """The key of a request; ``wait_seconds`` is how long to wait before it is made again."""

    key: str
    wait_seconds: float = 0


def run_key(instance: dg.DagsterInstance, sensor: str, request: str, now: float) -> RunKey:
    """The key under which a request is made: Dagster skips a key that any run has had, failed ones too.

    While a run of the request has not ended, the key is that run's, so that a tick which is evaluated twice
    starts one run. After that it is a new one: what is requested again is needed again.

    Args:
        instance: It knows the runs.
        sensor: The sensor's name.
        request: What identifies the request.
        now: The wall clock, in seconds since 1970.
    """
    attempt, ended = 0, 0.0
    while True:
        key = f"{request}#{attempt}" if attempt else request
        filters = dg.RunsFilter(tags={RUN_KEY_TAG: key, SENSOR_NAME_TAG: sensor})
        records = instance.get_run_records(filters, limit=1)
        if not records:
            break
        if not records[0].dagster_run.is_finished:
            return RunKey(key)
        ended = max(ended, records[0].end_time or records[0].update_timestamp.timestamp())
        attempt += 1
    if not attempt:
        return RunKey(key)
    pause = min(_FIRST_PAUSE * 2.0 ** (attempt - 1), _LONGEST_PAUSE)
    return RunKey(key, max(0.0, ended + pause - now))
