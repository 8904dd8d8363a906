"""``groundwork models``: the registry in the terminal.

What belongs here: what those commands look up, do and print. What does not: what a promotion needs.
"""

import getpass
import json
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.declarations import DeclarationError
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import CorruptArtifactError
from orchestration.learning.card import card_json, card_markdown
from orchestration.learning.events import Event, RegistryError, Who, champion_of
from orchestration.learning.registry import Registry
from orchestration.model_checks import input_verdicts
from orchestration.project import read_project
from orchestration.settings import Settings
from orchestration.transformation import DbtParseError

FAULTS = (CorruptArtifactError, DbtParseError, DeclarationError, RegistryError, ValidationError)
"""What is wrong with the project, the registry or the command: told without a stack trace."""


def open_registry(settings: Settings) -> Registry:
    """The registry of the project that the settings name, on its clock."""
    return Registry(
        LakehouseResource.from_settings(settings), settings.models_dir, read_project(settings).clock
    )


def _person(reason: str) -> Who:
    return Who(getpass.getuser(), reason)


def _terminal() -> Console:
    # Into a file or a pipe nothing is cut off.
    return Console(soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading)
    return table


def _instant(event: Event) -> str:
    return f"{event.happened_at:%Y-%m-%d %H:%M}"


def list_command(settings: Settings, model: str | None) -> None:
    """Print every version, the champions marked."""
    events = open_registry(settings).events(model)
    if not events:
        raise RegistryError(f"found no version of {model or 'any model'}: none has been trained yet")
    table = _table("model", "version", "registered (UTC)", "algorithm", "dataset", "log loss", "area", "")
    for event in events:
        if event.kind != "registered":
            continue
        champion = champion_of(events, event.model)
        serves = champion is not None and champion.version == event.version
        since = f"champion since {_instant(champion)}" if serves and champion is not None else ""
        metrics = event.detail["metrics"]
        table.add_row(
            event.model, event.version, _instant(event), event.detail["algorithm"], event.detail["dataset"],
            f"{metrics['log_loss']:.4f}", f"{metrics['auc']:.4f}" if "auc" in metrics else "", since,
        )  # fmt: skip
    _terminal().print(table)


def show_command(settings: Settings, model: str, version: str | None) -> None:
    """Print what happened to a model, or one version's card."""
    registry = open_registry(settings)
    if version is not None:
        card_command(settings, model, version, as_json=False)
        return
    events = registry.events(model)
    if not events:
        raise RegistryError(
            f"found no model {model!r}, expected one of: {', '.join(registry.models()) or 'none'}"
        )
    table = _table("", "at (UTC)", "what", "version", "before", "by", "run", "why")
    for event in events:
        table.add_row(
            str(event.sequence), _instant(event), event.kind.replace("_", " "), event.version,
            event.before or "", event.actor, event.run_id or "", event.reason,
        )  # fmt: skip
    _terminal().print(table)


def compare_command(settings: Settings, model: str, versions: Sequence[str]) -> None:
    """Print what two versions say of themselves beside one another, where it differs."""
    registry = open_registry(settings)
    cards = []
    for version in versions:
        artifact = registry.artifact(model, version)
        cards.append(card_json(artifact.version, artifact.manifest, ()))
    one, other = cards
    table = _table("", one["version"], other["version"])
    for part in ("train", "evaluation"):
        table.add_row(f"{part} rows", *(f"{c['split'][part]['rows']:,}" for c in cards))
        table.add_row(f"{part} until", *(c["split"][part]["end"][:16] for c in cards))
    for name in one["metrics"]["evaluation"]:
        table.add_row(name, *(_number(c["metrics"]["evaluation"].get(name)) for c in cards))
    for name, values in _differing(one, other):
        table.add_row(name, *values)
    console = _terminal()
    console.print(table)
    if one["split"]["evaluation"] != other["split"]["evaluation"]:
        console.print("The two were evaluated on other rows: their metrics do not tell which is better.")


def _number(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['value']:.4f}"


def _differing(one: dict[str, object], other: dict[str, object]) -> list[tuple[str, tuple[str, str]]]:
    found = []
    for name in ("dataset", "algorithm", "code", "packages", "schema_hash", "views", "operating_point"):
        if one[name] != other[name]:
            found.append((name, (json.dumps(one[name]), json.dumps(other[name]))))
    features = [{f["name"] for f in card["features"]} for card in (one, other)]  # type: ignore[attr-defined]
    if features[0] != features[1]:
        only = (", ".join(sorted(a - b)) for a, b in (features, features[::-1]))
        found.append(("features that the other lacks", (next(only), next(only))))
    return found


def promote_command(
    settings: Settings, model: str, version: str, reason: str, *, ignore_failed_checks: bool = False
) -> None:
    """Make a version champion by hand: the gate is skipped, and the event says so.

    Raises:
        RegistryError: A blocking check that the model depends on does not hold, and that is not ignored.
    """
    from orchestration.learning.gate import not_holding  # noqa: PLC0415 - imports NumPy

    registry = open_registry(settings)
    faults = not_holding(input_verdicts(settings, model))
    if faults and not ignore_failed_checks:
        raise RegistryError(
            f"{model}: found input checks that do not hold: {faults}; expected all to pass, or "
            "--ignore-failed-checks"
        )
    evidence = {"gate": "not asked: promoted by hand", **({"ignored_checks": faults} if faults else {})}
    event = registry.promote(model, version, _person(reason), evidence=evidence)
    if faults:
        _terminal().print(f"warning: promoted although input checks do not hold: {faults}", style="yellow")
    _terminal().print(f"{model}: {event.version} serves, instead of {event.before or 'none'}")


def rollback_command(settings: Settings, model: str, to: str | None, reason: str) -> None:
    """Let an earlier champion serve again."""
    event = open_registry(settings).rollback(model, _person(reason), to=to)
    _terminal().print(f"{model}: {event.version} serves, instead of {event.before}")


def card_command(settings: Settings, model: str, version: str | None, *, as_json: bool) -> None:
    """Print the card of a version, or of the champion."""
    registry = open_registry(settings)
    if version is None:
        champion = registry.champion(model)
        if champion is None:
            raise RegistryError(f"{model}: found no champion, expected one or a version")
        version = champion.version
    artifact, events = registry.artifact(model, version), registry.events(model)
    if as_json:
        text = json.dumps(card_json(artifact.version, artifact.manifest, events), indent=1)
    else:
        text = card_markdown(artifact.version, artifact.manifest, events)
    _terminal().print(text, markup=False)


def verify_command(settings: Settings, expected_head: str | None) -> bool:
    """Check every event and artifact, print what was found, and tell whether all is as it was written."""
    registry, console = open_registry(settings), _terminal()
    faults, events = registry.verify(expected_head), registry.events()
    for fault in faults:
        console.print(fault, markup=False)
    for model, versions in registry.unregistered().items():
        console.print(f"{model}: {', '.join(versions)} lie there unregistered; no harm", markup=False)
    head = events[-1].hash if events else "none"
    console.print(f"{len(events)} events, the newest of hash {head}: {len(faults)} faults")
    return not faults


def open_decisions(settings: Settings) -> DecisionLog:
    """The log of decisions of the project that the settings name, on its clock."""
    return DecisionLog(LakehouseResource.from_settings(settings), read_project(settings).clock)


def retrain_command(settings: Settings, model: str, reason: str) -> None:
    """Write down that somebody wants a model trained again.

    Raises:
        RegistryError: No version of it serves: its sensor does not look at it before.
    """
    if open_registry(settings).champion(model) is None:
        raise RegistryError(
            f"{model}: found no champion, expected one: the first comes from a run of the graph"
        )
    made = open_decisions(settings).ask(model, getpass.getuser(), reason)
    _terminal().print(f"{model}: request {made.id} is written down; the sensor retrain_{model} decides on it")


def decisions_command(settings: Settings, model: str, *, with_quiet: bool) -> None:
    """Print the decisions on a model's triggers."""
    found = open_decisions(settings).decisions(model)
    table = _table("at (UTC)", "decision", "what", "triggers", "why")
    for decision in found:
        if with_quiet or decision.outcome != "quiet":
            table.add_row(
                f"{decision.decided_at:%Y-%m-%d %H:%M}", decision.id, decision.outcome,
                ", ".join(decision.triggers), decision.reason,
            )  # fmt: skip
    console = _terminal()
    console.print(table)
    console.print(f"{len(found)} decisions, {sum(d.outcome == 'fired' for d in found)} trainings")
