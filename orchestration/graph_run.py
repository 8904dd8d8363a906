"""The run behind ``groundwork run``: select, run here, show progress, sum up.

What belongs here: what happens once it is clear that something must run. What does not: whether it
must (``run_command``).
"""

import importlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from rich.console import Console

from orchestration.automation.jobs import ALL_ASSETS, Span
from orchestration.automation.local_run import run_here
from orchestration.declarations import LAYERS
from orchestration.definitions import assemble
from orchestration.ingestion.assets import LANDS
from orchestration.instance import open_instance
from orchestration.progress import Progress
from orchestration.project import Project
from orchestration.quality.soda import import_soda
from orchestration.settings import Settings
from orchestration.transformation.manifest import executable_manifest

_NEEDED_LATER = (
    "orchestration.transformation.invocation",
    "dbt.task.build",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)


class UsageFault(ValueError):
    """The command asks for something that is not there."""


@dataclass(frozen=True)
class Outcome:
    """How a run went: its id, whether everything in it succeeded, and the table at its end.

    ``withheld`` names what it did not publish because checks did not pass.
    """

    run_id: str
    succeeded: bool
    summary: str
    withheld: Sequence[str] = ()


def _selected(
    repository: dg.RepositoryDefinition, job: dg.JobDefinition, select: str | None
) -> set[dg.AssetKey]:
    """Keys to run; assets that one op can only make together come together.

    Raises:
        UsageFault: Nothing in the graph matches.
    """
    keys = set(job.asset_layer.executable_asset_keys)
    if select is None:
        return keys
    groups = {spec.group_name for spec in repository.asset_graph.asset_nodes}
    for name in re.findall(r"\bgroup:\"?([\w/-]+)(?![\w/*-])", select):
        if name not in groups:
            known = ", ".join(sorted(filter(None, groups)))
            raise UsageFault(f"--select {select}: found group {name}, expected one of {known}")
    selection = dg.AssetSelection.from_string(select).required_multi_asset_neighbors()
    found = keys & selection.resolve(repository.asset_graph)
    if not found:
        raise UsageFault(f"--select {select}: no asset of the graph matches")
    return found


def _prepare(settings: Settings) -> None:
    """Import Soda, dbt and plots, and read the dbt project: seconds that no layer has to wait for."""
    import_soda()
    for name in _NEEDED_LATER:
        importlib.import_module(name)
    executable_manifest(settings)


class Ahead:
    """Prepares beside the first landings, which leave a processor to spare; other steps wait for it.

    They would import the same modules: two threads that do so may end in a deadlock of Python's locks.
    A step that waited for what then failed fails with the same error.

    Args:
        prepare: What to do beside the landings, once.
        then: Gets each event of the run after it.
    """

    def __init__(self, prepare: Callable[[], object], then: Callable[[dg.EventLogEntry], object]) -> None:
        self._prepare = prepare
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="prepare", daemon=True)
        self._then = then

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:  # noqa: BLE001 - raised in the steps that wait
            self._error = error

    def __call__(self, event: dg.EventLogEntry) -> None:
        """Take an event of the run, in the thread that runs its steps, and hand it on."""
        if event.dagster_event_type == dg.DagsterEventType.STEP_START:
            started = self._thread.ident is not None
            lands = (event.step_key or "").startswith(LANDS)
            if lands and not started:
                sys.setswitchinterval(0.0005)  # the step must not wait for an import to let go of Python
                self._thread.start()
            elif started and not lands:
                self._thread.join()
                if self._error is not None:
                    raise self._error
        self._then(event)

    def join(self) -> None:
        """Wait until it is over: a process whose threads go on while Python ends may be aborted."""
        if self._thread.ident is not None:
            self._thread.join()


def run_graph(
    project: Project, span: Span | None, select: str | None, tags: Mapping[str, str], console: Console
) -> Outcome:
    """Run the graph in this process and tell how it goes.

    Args:
        project: What to run.
        span: Partitions, for assets that have some.
        select: Dagster's selection syntax; everything when None.
        tags: Tags for the run.
        console: Where progress goes.

    Raises:
        UsageFault: ``select`` matches nothing.
    """
    started = time.monotonic()
    repository = assemble(project).get_repository_def()
    job = repository.get_job(ALL_ASSETS)
    keys = _selected(repository, job, select)
    if not any(repository.asset_graph.get(key).is_partitioned for key in keys):
        span = None
    title = f"{len(keys)} assets" + (f", partitions {span}" if span else "")
    now = f"{project.clock.mode} clock at {project.clock.now():%Y-%m-%d %H:%M} UTC"
    console.print(f"Groundwork: {title}, {now}")
    progress = Progress(console)
    ahead = any(key.path[0] in LAYERS[1:] for key in keys)
    beside = Ahead(partial(_prepare, project.settings), progress) if ahead else None
    with open_instance(project.settings) as instance, progress.shown():
        result = run_here(
            job,
            instance,
            project.settings,
            beside or progress,
            span=span,
            assets=sorted(keys) if select else (),
            tags=tags,
        )
    if beside is not None:
        beside.join()
    summary = progress.summary()
    succeeded = result.success and not progress.blocked
    console.print(f"\n{summary}\n", markup=False)
    for line in _skipped(repository.asset_graph, progress):
        console.print(line, style="yellow", markup=False)
    word, style = ("succeeded", "green") if succeeded else ("failed", "red")
    if succeeded and progress.withheld:
        word, style = "succeeded but withheld a promotion", "red"
    console.print(f"Run {result.run_id} {word} in {time.monotonic() - started:.1f} s", style=style)
    for line in [*(() if succeeded else progress.why_failed()), *progress.withheld]:
        console.print(f"  {line}", style=style, markup=False)
    return Outcome(result.run_id, succeeded and not progress.withheld, summary, tuple(progress.withheld))


def _skipped(graph: BaseAssetGraph[Any], progress: Progress) -> Iterator[str]:
    """The checks on built assets that the run did not evaluate, one line per asset."""
    missing = graph.asset_check_keys - progress.evaluated
    for key in sorted(key for key, line in progress.assets.items() if line.is_built):
        names = sorted(check.name for check in missing if check.asset_key == key)
        if names:
            noun = "check" if len(names) == 1 else "checks"
            yield f"not evaluated: {len(names)} {noun} of {key.to_user_string()}: {', '.join(names)}"
