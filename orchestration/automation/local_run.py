"""A run inside this process, on the persistent instance.

What belongs here: starting a job here and now, and keeping what Dagster and its parts print off the
terminal. What does not: what is shown instead.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import dagster as dg
from dagster import EventLogEntry

from orchestration.automation.jobs import Span
from orchestration.automation.liveness import alive, bury_dead_runs, host_tags
from orchestration.settings import Settings


@contextmanager
def quiet(log_file: Path) -> Iterator[IO[str]]:
    """Send whatever this process prints to a file; gives the stream that still reaches the caller.

    Works on file descriptors, so that libraries and child processes are quiet too.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with log_file.open("a", encoding="utf-8") as log, os.fdopen(os.dup(1), "w", encoding="utf-8") as terminal:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        logging.captureWarnings(True)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            logging.captureWarnings(False)
            for target, saved in enumerate(kept, start=1):
                os.dup2(saved, target)
                os.close(saved)


def run_here(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    settings: Settings,
    listener: Callable[[EventLogEntry], object],
    *,
    span: Span | None = None,
    assets: Sequence[dg.AssetKey] = (),
    tags: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process.

    Steps that need a slot in a pool wait for runs elsewhere that hold it. Runs of this host that
    were killed are marked as failed first, so that none of them holds a slot for ever.

    Args:
        job: What to run.
        instance: Where its history goes.
        settings: The platform's settings.
        listener: Gets every event of the run, in this thread.
        span: Partitions to run, for the assets that have some.
        assets: Assets to run; all of the job's when empty.
        tags: More tags for the run.
        config: Its run config.
    """
    bury_dead_runs(instance, settings)
    run_id = str(uuid4())
    partition: dict[str, Any] = {}
    run_tags = {**host_tags(), **(tags or {})}
    if span is not None and span.first == span.last:
        partition = {"partition_key": span.first}
    elif span is not None:
        run_tags |= span.tags
    instance.add_event_listener(run_id, listener)
    with alive(settings, run_id), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return job.execute_in_process(
            instance=instance,
            run_id=run_id,
            tags=run_tags,
            asset_selection=list(assets) or None,
            raise_on_error=False,
            run_config={**(config or {}), "loggers": {"console": {"config": {"log_level": "INFO"}}}},
            **partition,
        )
