"""The ``groundwork`` command.

What belongs here: arguments, what is printed, exit codes. What does not: how a run is made
(``automation.local_run``) or followed (``progress``).
"""

import gc
import os
import sys
from datetime import date
from pathlib import Path

import click

from orchestration.settings import PROJECT_DIR, Settings

UI_HINT = "open the UI with:  make ui   ->  http://127.0.0.1:3000"


@click.group()
def main() -> None:
    """Groundwork: one Dagster graph from raw files to gated features."""


@main.command()
@click.option("--partition", metavar="DAY", help="Run one partition, such as 2013-06-30.")
@click.option("--from", "first", metavar="DAY", help="First partition to run; default: the oldest.")
@click.option("--to", "last", metavar="DAY", help="Last partition to run; default: the newest that is over.")
@click.option(
    "--select", metavar="SELECTION", help="Assets to run, as in the UI's search: key:raw/* or group:staged."
)
@click.option("--force", is_flag=True, help="Run even when nothing has changed since the last run.")
def run(partition: str | None, first: str | None, last: str | None, select: str | None, force: bool) -> None:
    """Materialize the whole graph, with every check, in this process."""
    for day in filter(None, (partition, first, last)):
        _check_day(day)
    if partition and (first or last):
        raise click.UsageError("--partition and --from/--to exclude each other")
    # Dagster takes seconds to import: --help and mistakes need none of it.
    from orchestration.run_command import FAULTS, run_command  # noqa: PLC0415

    try:
        code = run_command(Settings(), partition or first, partition or last, select, force=force)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault
    gc.freeze()  # Python would look through everything once more before it ends: a second
    sys.exit(code)


@main.command()
@click.option("--port", default=3000, show_default=True, help="Port on 127.0.0.1.")
def ui(port: int) -> None:
    """Serve Dagster's UI, with its daemon, on 127.0.0.1."""
    # Where dagster.yaml and workspace.yaml are; what is stored goes where the settings say.
    os.chdir(PROJECT_DIR)
    os.environ["DAGSTER_HOME"] = str(PROJECT_DIR)
    # It would say that `dg dev` exists, which needs a package only developers have.
    os.environ["PYTHONWARNINGS"] = "ignore:Function `dev_command`"
    dagster = Path(sys.executable).with_name("dagster")
    os.execv(dagster, [str(dagster), "dev", "--host", "127.0.0.1", "--port", str(port)])


def _check_day(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"found {text!r}, expected a day such as 2013-06-30") from None
