"""``groundwork run``: the whole graph, once, with progress on the terminal.

What belongs here: the order of things in that command. What does not: its parts.
"""

import time
from pathlib import Path

import dagster as dg
from pydantic import ValidationError
from rich.console import Console

from orchestration.automation.fingerprint import FINGERPRINT_TAG, Note, compute_fingerprint
from orchestration.automation.jobs import ALL_ASSETS, Span, reached_partitions
from orchestration.automation.local_run import quiet, run_here
from orchestration.cli import UI_HINT
from orchestration.declarations import DeclarationError
from orchestration.definitions import assemble
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.uris import find_place, local_items
from orchestration.instance import open_instance
from orchestration.lakehouse import LakehouseResource, current_snapshot
from orchestration.progress import Progress
from orchestration.project import Project, read_project
from orchestration.quality.loading import ContractError
from orchestration.settings import Settings
from orchestration.transformation import DbtParseError


class UsageFault(ValueError):
    """The command asks for something that is not there."""


FAULTS = (ContractError, DbtParseError, DeclarationError, IngestFault, UsageFault, ValidationError)
"""What is wrong with the project, the settings or the command: told without a stack trace."""


def run_command(
    settings: Settings, first: str | None, last: str | None, select: str | None, *, force: bool
) -> int:
    """Run the graph, unless nothing has changed since it last ran.

    Args:
        settings: The platform's settings.
        first: First partition; the oldest when None.
        last: Last partition; the newest that is over when None.
        select: Assets, as Dagster's selection syntax; all when None.
        force: Run in any case.

    Returns:
        The exit code: 0 when the run succeeded and no blocking check failed.
    """
    started = time.monotonic()
    with quiet(settings.data_dir / "logs" / "run.log") as terminal:
        console = Console(file=terminal, highlight=False, soft_wrap=True)
        project = read_project(settings)
        span = _span(project, first, last)
        fingerprint = _fingerprint(project, span, select)
        if fingerprint is not None and not force and (note := _up_to_date(settings, fingerprint)):
            console.print(
                f"Up to date: nothing has changed since run {note.run_id}. --force runs it again.\n"
            )
            console.print(note.summary, markup=False)
            console.print(f"\n{UI_HINT}")
            return 0
        return _run(project, span, select, fingerprint, console, started)


def _span(project: Project, first: str | None, last: str | None) -> Span | None:
    """The partitions asked for, all that are over by default.

    Raises:
        UsageFault: The project has no such partition.
    """
    reached = reached_partitions(project.declarations, project.clock)
    if not reached:
        return None
    span = Span(first or reached[0], last or reached[-1])
    for day in (span.first, span.last):
        if day not in reached:
            raise UsageFault(f"partition {day}: expected one from {reached[0]} to {reached[-1]}")
    if span.first > span.last:
        raise UsageFault(f"found --from {span.first} after --to {span.last}")
    return span


def _fingerprint(project: Project, span: Span | None, select: str | None) -> str | None:
    """The fingerprint of the run asked for; None when a source can change unseen."""
    files: list[Path] = []
    for table in project.declarations.sources:
        place = find_place(table.ingest, project.settings, f"{table.file}: sources.{table.name}")
        if place.is_network:
            return None
        files += [Path(item.address) for item in local_items(place, table.ingest)]
    arguments = {"span": str(span), "select": select or ""}
    return compute_fingerprint(project.settings, project.clock, files, arguments)


def _snapshot(settings: Settings) -> int:
    with LakehouseResource.from_settings(settings).get_connection() as con:
        return current_snapshot(con)


def _up_to_date(settings: Settings, fingerprint: str) -> Note | None:
    note = Note.read(settings)
    if note is None or note.fingerprint != fingerprint or note.snapshot != _snapshot(settings):
        return None
    return note


def _run(
    project: Project,
    span: Span | None,
    select: str | None,
    fingerprint: str | None,
    console: Console,
    started: float,
) -> int:
    settings = project.settings
    repository = assemble(project).get_repository_def()
    job = repository.get_job(ALL_ASSETS)
    keys = set(job.asset_layer.executable_asset_keys)
    if select is not None:
        selection = dg.AssetSelection.from_string(select)
        keys &= selection.required_multi_asset_neighbors().resolve(repository.asset_graph)
        if not keys:
            raise UsageFault(f"--select {select}: no asset of the graph matches")
    if not any(repository.asset_graph.get(key).is_partitioned for key in keys):
        span = None
    title = f"{len(keys)} assets" + (f", partitions {span}" if span else "")
    console.print(
        f"Groundwork: {title}, {project.clock.mode} clock at {project.clock.now():%Y-%m-%d %H:%M} UTC"
    )
    Note.tear(settings)
    progress = Progress(console)
    tags = {FINGERPRINT_TAG: fingerprint} if fingerprint else {}
    with open_instance(settings) as instance, progress.shown():
        result = run_here(
            job, instance, settings, progress, span=span, assets=sorted(keys) if select else (), tags=tags
        )
    summary = progress.summary()
    console.print(f"\n{summary}", markup=False)
    seconds = time.monotonic() - started
    if result.success and not progress.blocked:
        console.print(f"\nRun {result.run_id} succeeded in {seconds:.1f} s", style="green")
        if fingerprint is not None:
            Note(fingerprint, _snapshot(settings), result.run_id, summary).write(settings)
    else:
        console.print(f"\nRun {result.run_id} failed after {seconds:.1f} s", style="red")
        for line in [*(f"blocked by {name}" for name in progress.blocked), *progress.errors]:
            console.print(f"  {line}", style="red", markup=False)
        console.print(f"  log: {settings.data_dir / 'logs' / 'run.log'}")
    console.print(UI_HINT)
    return 0 if result.success and not progress.blocked else 1
