"""The ``groundwork`` command.

What belongs here: arguments, what is printed, exit codes. What does not: how a run is made
(``automation.local_run``) or followed (``progress``), what is served (``serve_command``) or found
(``features_command``),
or what models there are (``models_command``).
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
def models() -> None:
    """What models were trained, which serves, and since when."""


@models.command("list")
@click.argument("model", required=False)
def list_models(model: str | None) -> None:
    """List every version of MODEL, or of all models."""
    from orchestration.models_command import FAULTS, list_command  # noqa: PLC0415

    try:
        list_command(Settings(), model)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@models.command("show")
@click.argument("model")
@click.argument("version", required=False)
def show_model(model: str, version: str | None) -> None:
    """Show what happened to MODEL, or one VERSION."""
    from orchestration.models_command import FAULTS, show_command  # noqa: PLC0415

    try:
        show_command(Settings(), model, version)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@models.command("compare")
@click.argument("model")
@click.argument("one")
@click.argument("other")
def compare_models(model: str, one: str, other: str) -> None:
    """Show versions ONE and OTHER of MODEL beside one another."""
    from orchestration.models_command import FAULTS, compare_command  # noqa: PLC0415

    try:
        compare_command(Settings(), model, (one, other))
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@models.command("promote")
@click.argument("model")
@click.argument("version")
@click.option("--reason", required=True, help="Why; it is kept.")
def promote_model(model: str, version: str, reason: str) -> None:
    """Let VERSION serve from now on, whatever the gate says."""
    from orchestration.models_command import FAULTS, promote_command  # noqa: PLC0415

    try:
        promote_command(Settings(), model, version, reason)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@models.command("rollback")
@click.argument("model")
@click.option("--to", metavar="VERSION", help="An earlier champion; default: the one before.")
@click.option("--reason", required=True, help="Why; it is kept.")
def rollback_model(model: str, to: str | None, reason: str) -> None:
    """Let an earlier champion of MODEL serve again."""
    from orchestration.models_command import FAULTS, rollback_command  # noqa: PLC0415

    try:
        rollback_command(Settings(), model, to, reason)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@models.command("card")
@click.argument("model")
@click.argument("version", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def model_card(model: str, version: str | None, as_json: bool) -> None:
    """Print the model card of VERSION, or of the champion."""
    from orchestration.models_command import FAULTS, card_command  # noqa: PLC0415

    try:
        card_command(Settings(), model, version, as_json=as_json)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@models.command("verify")
@click.option("--head", metavar="HASH", help="Hash of an event, kept elsewhere, that must be there.")
def verify_models(head: str | None) -> None:
    """Check every event and artifact of the registry; exits with 1 if one was changed."""
    from orchestration.models_command import FAULTS, verify_command  # noqa: PLC0415

    try:
        whole = verify_command(Settings(), head)
    except FAULTS as fault:
        raise click.ClickException(str(fault)) from fault
    sys.exit(0 if whole else 1)


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
