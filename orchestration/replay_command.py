"""``groundwork replay``: the walk through recorded history, in this process, told as it goes.

What belongs here: what is printed. What does not: the walk (``replay``).
"""

import time
from collections.abc import Sequence

import dagster as dg
from pydantic import ValidationError
from rich.console import Console

from orchestration.automation.local_run import quiet, run_here
from orchestration.declarations import DeclarationError
from orchestration.definitions import assemble
from orchestration.graph_run import UsageFault
from orchestration.instance import open_instance
from orchestration.project import read_project
from orchestration.quality import ContractError
from orchestration.replay.assets import JOB, replay_key
from orchestration.settings import Settings
from orchestration.transformation import DbtParseError

FAULTS = (ContractError, DbtParseError, DeclarationError, UsageFault, ValidationError)
"""What is wrong with the project or the settings: told without a stack trace."""


def replay_command(settings: Settings, model: str | None) -> int:
    """Walk through history and print the report's tables.

    Returns:
        The exit code: 0 when the walk came to its end.

    Raises:
        UsageFault: There is no such model.
    """
    started = time.monotonic()
    log = settings.data_dir / "logs" / "replay.log"
    with quiet(log) as terminal:
        console = Console(file=terminal, highlight=False, soft_wrap=True)
        repository = assemble(read_project(settings)).get_repository_def()
        names = [job.name for job in repository.get_all_jobs()]
        keys = sorted(repository.get_job(JOB).asset_layer.executable_asset_keys) if JOB in names else []
        if model is not None:
            keys = [key for key in keys if key == replay_key(model)]
        if not keys:
            raise UsageFault(f"model {model}: found none declared" if model else "found no model declared")

        def told(event: dg.EventLogEntry) -> None:
            if event.step_key is not None and not event.is_dagster_event:
                console.print(f"  {event.user_message}", markup=False)

        with open_instance(settings) as instance:
            result = run_here(repository.get_job(JOB), instance, settings, told, assets=keys)
        for place in _reports(result, keys):
            console.print("\n" + _tables(place), markup=False)
            console.print(f"the whole report: {place}", markup=False)
        seconds = time.monotonic() - started
        word = "ended" if result.success else "failed"
        console.print(f"Replay {word} after {seconds:.0f} s" + ("" if result.success else f", log: {log}"))
        for failure in () if result.success else result.filter_events(lambda e: e.is_step_failure):
            error = failure.step_failure_data.error
            console.print(
                f"  {error.cause.message if error and error.cause else failure.message}", markup=False
            )
    return 0 if result.success else 1


def _reports(result: dg.ExecuteInProcessResult, keys: Sequence[dg.AssetKey]) -> list[str]:
    return [
        str(event.materialization.metadata["file"].value)
        for event in result.get_asset_materialization_events()
        if event.asset_key in keys
    ]


def _tables(place: str) -> str:
    with open(place, encoding="utf-8") as file:
        text = file.read()
    return text.split("## What was held back")[0].rstrip()
