"""``groundwork run``: the whole graph, once, unless nothing has changed since it last ran.

What belongs here: the order of things in that command. What does not: its parts.
"""

from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from orchestration.automation.fingerprint import FINGERPRINT_TAG, Note, compute_fingerprint, folders_of
from orchestration.automation.jobs import Span, project_partition, reached_partitions
from orchestration.automation.local_run import quiet
from orchestration.cli import UI_HINT
from orchestration.declarations import DeclarationError
from orchestration.graph_run import UsageFault, run_graph
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.uris import find_place, local_items
from orchestration.lakehouse import LakehouseResource, current_snapshot
from orchestration.project import Project, read_project
from orchestration.quality import ContractError
from orchestration.settings import Settings
from orchestration.transformation import DbtParseError
from orchestration.transformation.selection import FULL_REFRESH_TAG

FAULTS = (ContractError, DbtParseError, DeclarationError, IngestFault, UsageFault, ValidationError)
"""What is wrong with the project, the settings or the command: told without a stack trace."""


def run_command(
    settings: Settings,
    first: str | None,
    last: str | None,
    select: str | None,
    *,
    force: bool,
    full_refresh: bool = False,
) -> int:
    """Run the graph, unless nothing has changed since it last ran.

    Args:
        settings: The platform's settings.
        first: First partition; the oldest when None.
        last: Last partition; the newest that is over when None.
        select: Assets, as Dagster's selection syntax; all when None.
        force: Run in any case.
        full_refresh: Rebuild the tables of dbt models from scratch; implies ``force``.

    Returns:
        The exit code: 0 when the run succeeded, no blocking check failed, and no promotion was withheld
        because checks did not pass.

    Raises:
        UsageFault: There is no such partition or asset.
    """
    log = settings.data_dir / "logs" / "run.log"
    with quiet(log) as terminal:
        console = Console(file=terminal, highlight=False, soft_wrap=True)
        project = read_project(settings)
        span = requested_span(project, first, last)
        if span is None and project_partition(project.declarations) is not None:
            words = "no partition has ended yet: only assets without partitions run"
            console.print(words, style="yellow")
        fingerprint = _fingerprint(project, span, select)
        note = None if force or full_refresh or fingerprint is None else _up_to_date(settings, fingerprint)
        if note is not None:
            console.print(f"Up to date: nothing has changed since run {note.run_id}.", style="green")
            console.print(f"--force runs it again.\n\n{note.summary}\n\n{UI_HINT}", markup=False)
            return 0
        Note.tear(settings)
        tags = {FINGERPRINT_TAG: fingerprint} if fingerprint else {}
        if full_refresh:
            tags[FULL_REFRESH_TAG] = "true"
        outcome = run_graph(project, span, select, tags, console)
        if outcome.succeeded and fingerprint is not None:
            snapshot, folders = _snapshot(settings), folders_of(settings)
            Note(fingerprint, snapshot, outcome.run_id, outcome.summary, folders).write(settings)
        console.print(UI_HINT if outcome.succeeded else f"  log: {log}\n{UI_HINT}", markup=False)
        for line in outcome.withheld:
            console.print(f"Not up to date: {line}. The next run tries again.", style="red", markup=False)
        return 0 if outcome.succeeded else 1


def requested_span(project: Project, first: str | None, last: str | None) -> Span | None:
    """The partitions asked for, all that are over by default.

    Raises:
        UsageFault: The project has no such partition.
    """
    reached = reached_partitions(project.declarations, project.clock)
    if not reached:
        if first or last:
            raise UsageFault(f"partition {first or last}: no partition is over on the platform's clock")
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
    if note is None or note.fingerprint != fingerprint or not note.holds:
        return None
    return note if note.snapshot == _snapshot(settings) else None
