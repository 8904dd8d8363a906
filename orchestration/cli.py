"""The ``groundwork`` command.

What belongs here: arguments, what is printed, exit codes. What does not: how a run is made
(``automation.local_run``) or followed (``progress``), what is served (``serve_command``) or found
(``features_command``, ``dataset_command``), or the commands of ``groundwork models`` (``models_cli``).
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import click

from orchestration.models_cli import models
from orchestration.settings import PROJECT_DIR, Settings

UI_HINT = "open the UI with:  make ui   ->  http://127.0.0.1:3000"


@click.group()
def main() -> None:
    """Groundwork: one Dagster graph from raw files to gated features."""


main.add_command(models)


@main.command()
@click.option("--partition", metavar="DAY", help="Run one partition, such as 2013-06-30.")
@click.option("--from", "first", metavar="DAY", help="First partition to run; default: the oldest.")
@click.option("--to", "last", metavar="DAY", help="Last partition to run; default: the newest that is over.")
@click.option(
    "--select", metavar="SELECTION", help="Assets to run, as in the UI's search: key:raw/* or group:staged."
)
@click.option("--force", is_flag=True, help="Run even when nothing has changed since the last run.")
@click.option("--full-refresh", is_flag=True, help="Rebuild the tables of dbt models from scratch.")
def run(
    partition: str | None,
    first: str | None,
    last: str | None,
    select: str | None,
    force: bool,
    full_refresh: bool,
) -> None:
    """Materialize the whole graph, with every check, in this process."""
    for day in filter(None, (partition, first, last)):
        _check_day(day)
    if partition and (first or last):
        raise click.UsageError("--partition and --from/--to exclude each other")
    if full_refresh and (partition or first or last):
        raise click.UsageError(
            "--full-refresh cannot be used with --partition, --from or --to: other partitions would be lost"
        )
    # A run makes millions of objects that stay and next to no cycles: to look for some costs it a seventh.
    gc.set_threshold(200_000, 50, 100)
    # Dagster takes seconds to import: --help and mistakes need none of it.
    from orchestration.run_command import FAULTS, run_command  # noqa: PLC0415

    try:
        code = run_command(
            Settings(), partition or first, partition or last, select, force=force, full_refresh=full_refresh
        )
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault
    gc.freeze()  # Python would look through everything once more before it ends: a second
    sys.exit(code)


@main.command()
@click.option("--model", help="The model; default: every declared one.")
def replay(model: str | None) -> None:
    """Walk the clock through recorded history: when would have been trained, and what for?"""
    from orchestration.replay_command import FAULTS, replay_command  # noqa: PLC0415

    try:
        code = replay_command(Settings(), model)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault
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
    # As long as dagster.yaml waits for the code server, which answers only once definitions are loaded.
    os.environ.setdefault("DAGSTER_REPOSITORY_GRPC_TIMEOUT_SECONDS", "1800")
    dagster = Path(sys.executable).with_name("dagster")
    os.execv(dagster, [str(dagster), "dev", "--host", "127.0.0.1", "--port", str(port)])


@main.command()
@click.option("--host", help="Address to listen on; default: GROUNDWORK_SERVER_HOST, or 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: GROUNDWORK_SERVER_PORT, or 6567.")
@click.option("--workers", type=click.IntRange(1), help="Default: GROUNDWORK_SERVER_WORKERS, or 1.")
def serve(host: str | None, port: int | None, workers: int | None) -> None:
    """Serve features over HTTP, in Feast's JSON, with the catalog at /catalog."""
    from orchestration.serve_command import FAULTS, serve_command  # noqa: PLC0415

    given = {"server_host": host, "server_port": port, "server_workers": workers}
    try:
        settings = Settings()
        serve_command(settings.model_copy(update={n: v for n, v in given.items() if v is not None}))
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@main.group()
def features() -> None:
    """What features there are, what they mean and what they look like."""


@features.command("list")
@click.argument("words", nargs=-1)
def list_features(words: tuple[str, ...]) -> None:
    """List all features, or those with all WORDS in their name, type or meaning."""
    from orchestration.features_command import FAULTS, list_command  # noqa: PLC0415

    try:
        list_command(Settings(), words)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@features.command("show")
@click.argument("name")
def show_feature(name: str) -> None:
    """Show one view, or one feature as view:feature, with what is stored of it."""
    from orchestration.features_command import FAULTS, show_command  # noqa: PLC0415

    try:
        show_command(Settings(), name)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@main.group()
def dataset() -> None:
    """Versions of training sets: what there is, where it comes from, and whether it still holds.

    VERSION is an id, the beginning of one, or latest.
    """


_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_NAME = click.argument("name")
_VERSION = click.argument("version", default="latest")


def _datasets() -> Any:
    # Arrow takes tenths of a second to import: --help and mistakes need none of it.
    from orchestration import dataset_command  # noqa: PLC0415

    return dataset_command


@contextmanager
def _told_plainly(faults: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except faults as fault:
        raise click.ClickException(str(fault)) from fault


@dataset.command("list")
@click.argument("name", required=False)
@_AS_JSON
def list_datasets(name: str | None, as_json: bool) -> None:
    """List the versions of all training sets, or of NAME."""
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        sys.exit(commands.list_command(Settings(), name, as_json=as_json))


@dataset.command("show")
@_NAME
@_VERSION
@_AS_JSON
def show_dataset(name: str, version: str, as_json: bool) -> None:
    """Show a version: its rows and files, and what it was made from."""
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        commands.show_command(Settings(), name, version, as_json=as_json)


@dataset.command("build")
@click.argument("name", required=False)
def build_dataset(name: str | None) -> None:
    """Make the version of training set NAME as it is in the lakehouse, or of each."""
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        sys.exit(commands.build_command(Settings(), name))


@dataset.command("verify")
@_NAME
@_VERSION
@_AS_JSON
def verify_dataset(name: str, version: str, as_json: bool) -> None:
    """Look at every byte and value of a version: is it as it was written?"""
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        sys.exit(commands.verify_command(Settings(), name, version, as_json=as_json))


@dataset.command("rebuild")
@_NAME
@_VERSION
@_AS_JSON
def rebuild_dataset(name: str, version: str, as_json: bool) -> None:
    """Make a version again from its manifest, apart: does it come out the same?"""
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        sys.exit(commands.rebuild_command(Settings(), name, version, as_json=as_json))


@dataset.command("diff")
@_NAME
@click.argument("before")
@click.argument("after", default="latest")
@_AS_JSON
def diff_dataset(name: str, before: str, after: str, as_json: bool) -> None:
    """Tell which rows, columns and inputs differ between versions BEFORE and AFTER."""
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        commands.diff_command(Settings(), name, before, after, as_json=as_json)


@dataset.command("pin")
@_NAME
@_VERSION
@click.option("--reason", required=True, help="Why it is kept.")
def pin_dataset(name: str, version: str, reason: str) -> None:
    """Keep a version whatever its age."""
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        commands.pin_command(Settings(), name, version, reason)


@dataset.command("unpin")
@_NAME
@click.argument("version")
def unpin_dataset(name: str, version: str) -> None:
    """Take the pin of a version away."""
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        commands.unpin_command(Settings(), name, version)


@dataset.command("gc")
@click.argument("name", required=False)
@click.option("--keep", type=click.IntRange(1), help="How many of the newest versions stay.")
@click.option("--older-than", metavar="AGE", help="Younger versions stay, such as '90 days'.")
@click.option("--remove", is_flag=True, help="Remove them; without it they are only told.")
@_AS_JSON
def gc_datasets(
    name: str | None, keep: int | None, older_than: str | None, remove: bool, as_json: bool
) -> None:
    """Remove old versions, but none that is pinned, in use or the newest."""
    if keep is None and older_than is None:
        raise click.UsageError("expected --keep, --older-than or both")
    commands = _datasets()
    with _told_plainly(commands.FAULTS):
        commands.gc_command(Settings(), name, keep, older_than, remove=remove, as_json=as_json)


@main.group()
def keys() -> None:
    """Keys of the feature server's callers."""


@keys.command("new")
@click.argument("name")
@click.option("--role", required=True, help="A role of the keys file.")
def new_key(name: str, role: str) -> None:
    """Make a key for the caller NAME: the key once, and the line for the keys file."""
    from orchestration.feature_store.server.access import new_key as make  # noqa: PLC0415

    try:
        key, digest = make(name)
    except ValueError as fault:
        raise click.UsageError(f"NAME: found {name!r}, {fault}") from fault
    click.echo(f"for the caller, shown this once:\n  {key}", err=True)
    click.echo("for keys: in the file that GROUNDWORK_SERVER_KEYS_FILE names:", err=True)
    click.echo(f"  - {{name: {name}, role: {role}, sha256: {digest}}}")


def _check_day(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"found {text!r}, expected a day such as 2013-06-30") from None
