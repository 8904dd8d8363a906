"""Run keys of sensors: a request starts one run, and can be repeated once that run has ended."""

from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG

_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0
"""Seconds between the end of a run and the next run of the same request; the pause doubles each time."""


@dataclass(frozen=True)
class RunKey:
    """The key of a request; ``wait_seconds`` is how long to wait before requesting it."""

    key: str
    wait_seconds: float = 0


def run_key(instance: dg.DagsterInstance, sensor: str, request: str, now: float) -> RunKey:
    """The run key of a request. Dagster skips a key that any run has had, including a failed run.

    Until a run of the request has ended, the key is that of the run, so that a tick that is evaluated twice
    starts one run. After that the key is a new one: a repeated request is still needed.

    Args:
        instance: Where runs are recorded.
        sensor: The sensor's name.
        request: A text that identifies the request.
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
