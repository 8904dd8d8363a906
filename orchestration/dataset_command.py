"""``groundwork dataset``: versions of training sets in the terminal.

What belongs here: what those commands look up and print. What does not: versions themselves
(``learning.datasets``).
"""

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestration.automation.local_run import quiet
from orchestration.declarations import DeclarationError, parse_duration
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.datasets.comparing import Change, Rows, compare
from orchestration.learning.datasets.keeping import collect
from orchestration.learning.datasets.manifest import DatasetError, Manifest, last_built
from orchestration.learning.datasets.rebuilding import rebuild
from orchestration.learning.datasets.store import DatasetStore, UsedBy
from orchestration.learning.datasets.verifying import verify
from orchestration.learning.registry import Registry
from orchestration.quality import ContractError
from orchestration.settings import Clock, Settings
from orchestration.transformation import DbtParseError

_ENDLESS = 100_000
"""Columns of an output that is no terminal."""

FAULTS = (ContractError, DatasetError, DbtParseError, DeclarationError, ValidationError)
"""What is wrong with the project, a version or the command: told without a stack trace."""


def users(settings: Settings) -> Sequence[UsedBy]:
    """Who tells which versions are in use: the registry, of those that a model was trained on."""
    registry = Registry(LakehouseResource.from_settings(settings), settings.models_dir, Clock())
    return (registry.datasets_in_use,)


def _store(settings: Settings) -> DatasetStore:
    return DatasetStore(settings.datasets_dir)


def _print(shown: Any, *, as_json: bool = False) -> None:
    # Values may hold what rich takes for markup or emoji; without a terminal a line is as long as it is.
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, markup=False, width=_ENDLESS)
    text = json.dumps(shown, indent=2, default=str) if as_json else shown
    console.print(text, soft_wrap=as_json or not isinstance(shown, Table))


def _table(*headings: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        right = heading in numbers
        table.add_column(heading, justify="right" if right else "left", no_wrap=right)
    return table


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _when(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def list_command(settings: Settings, dataset: str | None, *, as_json: bool) -> int:
    """Print every version, the one built last first; gives the exit code: 1 when one cannot be read.

    Raises:
        DatasetError: The dataset has no version.
    """
    store = _store(settings)
    if dataset is not None and not store.versions(dataset):
        store.resolve(dataset)
    found: list[dict[str, Any]] = []
    faults: list[str] = []
    for name in store.names() if dataset is None else [dataset]:
        pins, builds = store.pins(name, faults), store.builds(name)
        uses = {v: user for told in users(settings) for v, user in told(name).items()}
        for manifest in store.manifests(name, faults):
            pin = pins.get(manifest.version)
            found.append(
                {
                    "dataset": name,
                    "version": manifest.version,
                    "built": last_built(manifest, builds).isoformat(),
                    "builds": sum(build.version == manifest.version for build in builds),
                    "rows": manifest.rows,
                    "splits": dict(manifest.splits),
                    "bytes": manifest.bytes,
                    "snapshot": manifest.built.lake.snapshot,
                    "pinned": None if pin is None else pin.reason,
                    "used_by": uses.get(manifest.version),
                }
            )
    for fault in faults:
        Console(stderr=True, highlight=False, emoji=False, markup=False).print(fault, soft_wrap=True)
    if as_json:
        _print(found, as_json=True)
        return 1 if faults else 0
    numbers = ("rows", "size", "builds", "snapshot")
    table = _table(
        "version", "last built (UTC)", "rows", "size", "builds", "snapshot", "kept for", numbers=numbers
    )
    for one in found:
        table.add_row(
            f"{one['dataset']}@{one['version']}", _when(datetime.fromisoformat(one["built"])),
            f"{one['rows']:,}", _size(one["bytes"]), str(one["builds"]), str(one["snapshot"]),
            Text(", ".join(filter(None, (one["pinned"], one["used_by"])))),
        )  # fmt: skip
    if found or not faults:
        _print(table if found else "no dataset version yet: groundwork dataset build makes one")
    return 1 if faults else 0


def show_command(settings: Settings, dataset: str, version: str, *, as_json: bool) -> None:
    """Print the manifest of a version.

    Raises:
        DatasetError: There is none, or more than one is meant.
    """
    store = _store(settings)
    manifest = store.resolve(dataset, version)
    if as_json:
        _print(manifest.model_dump(mode="json"), as_json=True)
        return
    builds = [build for build in store.builds(dataset) if build.version == manifest.version]
    table = _table("what", "is")
    for what, value in _facts(manifest, str(store.path(dataset, manifest.version)), len(builds)):
        table.add_row(what, Text(value))
    pin = store.pins(dataset).get(manifest.version)
    if pin is not None:
        table.add_row("pinned", Text(f"{_when(pin.pinned_at)}: {pin.reason}"))
    _print(table)


def _facts(manifest: Manifest, path: str, builds: int) -> list[tuple[str, str]]:
    built, shards = manifest.built, manifest.shards
    git = "none" if built.git is None else built.git.commit + (", changed since" if built.git.dirty else "")
    outcomes: dict[str, int] = {}
    for check in built.checks:
        outcomes[check.outcome] = outcomes.get(check.outcome, 0) + 1
    reads = [f"{name} ({source.changed_at})" for name, source in built.lake.inputs.items() if source.is_read]
    groups = sum(len(shard.row_groups) for shard in shards)
    versions = built.engine.versions
    return [
        ("version", manifest.reference),
        ("content", manifest.content_hash),
        ("rows", f"{manifest.rows:,} by {len(manifest.columns)} columns"),
        ("splits", ", ".join(f"{name} {rows:,}" for name, rows in manifest.splits.items())),
        ("split rule", ", ".join(f"{name} {value}" for name, value in built.split.rule.items())),
        ("key, order", f"{', '.join(manifest.key) or 'none'}; {', '.join(manifest.order)}"),
        ("files", f"{len(shards)} of {groups} row groups, {_size(manifest.bytes)}, in {path}"),
        ("built", f"{_when(built.built_at)}, {builds} builds gave it; run {built.run_id}"),
        ("labels known", f"by {_when(built.cutoff)}"),
        ("snapshot", f"{built.lake.snapshot}, made {_when(built.lake.snapshot_at)}"),
        ("reads", ", ".join(reads) + " (snapshot that changed it last)"),
        ("git", git),
        ("engine", ", ".join(f"{name} {value}" for name, value in versions.items())),
        ("checks", ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "none"),
    ]


def build_command(settings: Settings, dataset: str | None) -> int:
    """Make the version of a training set as it is, or of each; gives the exit code.

    Raises:
        DatasetError: The project declares no such training set.
    """
    # A run imports Dagster's executor and dbt.
    from orchestration.graph_run import run_graph  # noqa: PLC0415
    from orchestration.project import read_project  # noqa: PLC0415

    project = read_project(settings)
    names = [table.name for table in project.declarations.training_sets]
    if dataset is not None and dataset not in names:
        raise DatasetError(f"{dataset}: found no such training set, expected one of {', '.join(names)}")
    select = " or ".join(f'key:"datasets/{name}"' for name in names if dataset in (None, name))
    log = settings.data_dir / "logs" / "run.log"
    with quiet(log) as terminal:
        console = Console(file=terminal, highlight=False, soft_wrap=True, emoji=False)
        outcome = run_graph(project, None, select, {}, console)
        store = _store(settings)
        for name in names if dataset is None else [dataset]:
            if outcome.succeeded:
                console.print(store.resolve(name).reference, markup=False)
    return 0 if outcome.succeeded else 1


def verify_command(settings: Settings, dataset: str, version: str, *, as_json: bool) -> int:
    """Look at every byte and value of a version; gives the exit code: 0 when it is whole.

    Raises:
        DatasetError: There is no such version.
    """
    store = _store(settings)
    manifest = store.resolve(dataset, version)
    faults = verify(store, manifest, settings)
    if as_json:
        _print({"version": manifest.reference, "whole": not faults, "faults": faults}, as_json=True)
    elif faults:
        _print(Text("\n".join([f"{manifest.reference} is not as it was written:", *faults]), style="red"))
    else:
        _print(
            f"{manifest.reference} is whole: {len(manifest.shards)} files, {manifest.rows:,} rows, "
            f"content {manifest.content_hash}"
        )
    return 1 if faults else 0


def rebuild_command(settings: Settings, dataset: str, version: str, *, as_json: bool) -> int:
    """Make a version again from its manifest; gives the exit code: 0 when it comes out the same.

    Raises:
        DatasetError: There is no such version, or its snapshot has been expired.
    """
    store = _store(settings)
    manifest = store.resolve(dataset, version)
    found = rebuild(store, LakehouseResource.from_settings(settings), manifest)
    if as_json:
        _print({"version": manifest.reference, **dataclasses.asdict(found)}, as_json=True)
        return 0 if found.equal else 1
    for name, (then, now) in found.engine.items():
        _print(f"{name}: {then} then, {now} now")
    if found.equal:
        _print(
            f"{manifest.reference} comes out the same from snapshot {found.snapshot}: {found.count:,} rows, "
            f"content {found.content_hash}"
        )
        return 0
    _print(
        Text(
            f"{manifest.reference} comes out otherwise from snapshot {found.snapshot}: {found.count:,} rows, "
            f"content {found.content_hash}, expected {manifest.rows:,} rows, {manifest.content_hash}",
            style="red",
        )
    )
    _print_rows(found.rows)
    return 1


def diff_command(settings: Settings, dataset: str, before: str, after: str, *, as_json: bool) -> None:
    """Print what tells two versions apart.

    Raises:
        DatasetError: There is no such version.
    """
    store = _store(settings)
    one, other = store.resolve(dataset, before), store.resolve(dataset, after)
    found = compare(store, one, other, settings)
    if as_json:
        said = {"before": one.reference, "after": other.reference, **dataclasses.asdict(found)}
        _print(said, as_json=True)
        return
    _print(f"{one.reference} -> {other.version}")
    if found.same_content:
        _print("same content")
    else:
        _print_rows(found.rows)
    for title, changes in (("columns", found.columns), ("made from", found.made_from)):
        if changes:
            _print_changes(title, changes)


def _print_rows(rows: Rows) -> None:
    _print(f"rows: {rows.added:,} added, {rows.removed:,} removed, {rows.changed:,} changed")
    if rows.columns:
        table = _table("changed column", "rows", numbers=("rows",))
        for name, count in rows.columns.items():
            table.add_row(Text(name), f"{count:,}")
        _print(table)
    for kind, samples in rows.samples.items():
        for sample in samples:
            key = ", ".join(f"{name} {value}" for name, value in sample["key"].items())
            columns = ", ".join(sample.get("columns", ()))
            _print(Text(f"  {kind}: {key}" + (f" in {columns}" if columns else "")))


def _print_changes(title: str, changes: Sequence[Change]) -> None:
    def short(value: Any) -> str:
        text = "" if value is None else str(value)
        return text if len(text) <= 40 else f"{text[:12]}..."

    table = _table(title, "before", "after")
    for change in changes:
        table.add_row(Text(change.what), Text(short(change.before)), Text(short(change.after)))
    _print(table)


def pin_command(settings: Settings, dataset: str, version: str, reason: str) -> None:
    """Keep a version whatever its age.

    Raises:
        DatasetError: There is no such version, or no reason.
    """
    store = _store(settings)
    manifest = store.resolve(dataset, version)
    store.pin(dataset, manifest.version, reason, datetime.now(UTC))
    _print(f"{manifest.reference} is pinned")


def unpin_command(settings: Settings, dataset: str, version: str) -> None:
    """Take a pin away.

    Raises:
        DatasetError: There is no such version, or it is not pinned.
    """
    store = _store(settings)
    manifest = store.resolve(dataset, version)
    store.unpin(dataset, manifest.version)
    _print(f"{manifest.reference} is not pinned any more")


def gc_command(
    settings: Settings,
    dataset: str | None,
    keep: int | None,
    older_than: str | None,
    *,
    remove: bool,
    as_json: bool,
) -> None:
    """Remove the versions that nothing keeps, or tell which they are.

    Raises:
        DatasetError: There is no such dataset, or no limit is given.
    """
    store = _store(settings)
    try:
        age = None if older_than is None else parse_duration(older_than)
    except ValueError as error:
        raise DatasetError(f"--older-than: found {older_than!r}, {error}") from error
    if dataset is not None:
        store.resolve(dataset)
    judged = [
        one
        for name in (store.names() if dataset is None else [dataset])
        for one in collect(
            store, name, users(settings), datetime.now(UTC), keep=keep, older_than=age, dry_run=not remove
        )
    ]
    going = [one for one in judged if one.reason is None]
    if as_json:
        found = [
            {"version": one.manifest.reference, "bytes": one.manifest.bytes, "kept_for": one.reason,
             "removed": remove and one.reason is None}
            for one in judged
        ]  # fmt: skip
        _print(found, as_json=True)
        return
    table = _table("version", "last built (UTC)", "size", "stays for", numbers=("size",))
    for one in judged:
        reason = one.reason or ("removed" if remove else "would be removed")
        style = None if one.reason else "red"
        size = _size(one.manifest.bytes)
        table.add_row(one.manifest.reference, _when(one.last_built), size, Text(reason), style=style)
    _print(table)
    total = _size(sum(one.manifest.bytes for one in going))
    word = "removed" if remove else "would go: --remove removes them" if going else "would go"
    _print(f"{len(going)} of {len(judged)} versions, {total}, {word}")
