"""``groundwork models``: the arguments of its commands.

What belongs here: arguments and exit codes. What does not: what the commands do (``models_command``).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from orchestration.settings import Settings


@contextmanager
def _told() -> Iterator[Any]:
    # Dagster takes seconds to import: --help and mistakes need none of it.
    from orchestration import models_command  # noqa: PLC0415

    try:
        yield models_command
    except models_command.FAULTS as fault:
        raise click.ClickException(str(fault)) from fault


@click.group()
def models() -> None:
    """What models were trained, which serves, and since when."""


@models.command("list")
@click.argument("model", required=False)
def list_models(model: str | None) -> None:
    """List every version of MODEL, or of all models."""
    with _told() as command:
        command.list_command(Settings(), model)


@models.command("show")
@click.argument("model")
@click.argument("version", required=False)
def show_model(model: str, version: str | None) -> None:
    """Show what happened to MODEL, or one VERSION."""
    with _told() as command:
        command.show_command(Settings(), model, version)


@models.command("compare")
@click.argument("model")
@click.argument("one")
@click.argument("other")
def compare_models(model: str, one: str, other: str) -> None:
    """Show versions ONE and OTHER of MODEL beside one another."""
    with _told() as command:
        command.compare_command(Settings(), model, (one, other))


@models.command("promote")
@click.argument("model")
@click.argument("version")
@click.option("--reason", required=True, help="Why; it is kept.")
@click.option(
    "--ignore-failed-checks",
    is_flag=True,
    help="Promote even if input checks do not hold; the registry records them.",
)
def promote_model(model: str, version: str, reason: str, ignore_failed_checks: bool) -> None:
    """Make VERSION the champion, whatever the gate says, if the input checks hold."""
    with _told() as command:
        command.promote_command(Settings(), model, version, reason, ignore_failed_checks=ignore_failed_checks)


@models.command("rollback")
@click.argument("model")
@click.option("--to", metavar="VERSION", help="An earlier champion; default: the one before.")
@click.option("--reason", required=True, help="Why; it is kept.")
def rollback_model(model: str, to: str | None, reason: str) -> None:
    """Let an earlier champion of MODEL serve again."""
    with _told() as command:
        command.rollback_command(Settings(), model, to, reason)


@models.command("card")
@click.argument("model")
@click.argument("version", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def model_card(model: str, version: str | None, as_json: bool) -> None:
    """Print the model card of VERSION, or of the champion."""
    with _told() as command:
        command.card_command(Settings(), model, version, as_json=as_json)


@models.command("verify")
@click.option("--head", metavar="HASH", help="Hash of an event, kept elsewhere, that must be there.")
def verify_models(head: str | None) -> None:
    """Check every event and artifact of the registry; exits with 1 if one was changed."""
    with _told() as command:
        whole = command.verify_command(Settings(), head)
    sys.exit(0 if whole else 1)


@models.command("retrain")
@click.argument("model")
@click.option("--reason", required=True, help="Why; the log of decisions keeps it.")
def retrain_model(model: str, reason: str) -> None:
    """Ask for MODEL to be trained again; its sensor sees that at its next tick."""
    with _told() as command:
        command.retrain_command(Settings(), model, reason)


@models.command("decisions")
@click.argument("model")
@click.option("--all", "with_quiet", is_flag=True, help="Also those in which no trigger was in alarm.")
def model_decisions(model: str, with_quiet: bool) -> None:
    """Show when MODEL was to be trained again, why, and what held that back."""
    with _told() as command:
        command.decisions_command(Settings(), model, with_quiet=with_quiet)
