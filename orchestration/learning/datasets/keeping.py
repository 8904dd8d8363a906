"""Which versions stay: pinned ones, those in use, the newest; and which snapshots they need.

What belongs here: that decision. What does not: who uses a version (they tell), or how one is removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orchestration.learning.datasets.manifest import DatasetError, Manifest, last_built
from orchestration.learning.datasets.store import DatasetStore, UsedBy

READ = "in use: a process reads it"


@dataclass(frozen=True)
class Kept:
    """A version, and why it stays; ``reason`` is None when it may go."""

    manifest: Manifest
    last_built: datetime
    reason: str | None


def judge(
    store: DatasetStore,
    dataset: str,
    used_by: Sequence[UsedBy],
    now: datetime,
    *,
    keep: int | None,
    older_than: timedelta | None,
) -> list[Kept]:
    """Every version of a dataset, the one built last first, and why it stays.

    Args:
        store: Where versions are.
        dataset: Whose.
        used_by: Tell which versions are in use.
        now: When ages are counted from, by the wall clock.
        keep: How many of the newest stay; at least one always does.
        older_than: Younger ones stay.

    Raises:
        DatasetError: Neither limit is given, or ``keep`` is not positive.
    """
    if keep is None and older_than is None:
        raise DatasetError("found neither keep nor older_than, expected how many, or from which age on")
    if keep is not None and keep < 1:
        raise DatasetError(f"keep: found {keep}, expected 1 or more: the newest version always stays")
    pins, builds = store.pins(dataset), store.builds(dataset)
    uses: dict[str, list[str]] = {}
    for told in used_by:
        for version, user in told(dataset).items():
            uses.setdefault(version, []).append(user)
    found = []
    for place, manifest in enumerate(store.manifests(dataset)):
        built, version = last_built(manifest, builds), manifest.version
        reason = None
        if version in pins:
            reason = f"pinned: {pins[version].reason}"
        elif version in uses:
            reason = f"in use: {', '.join(uses[version])}"
        elif place < (keep or 1):
            reason = "latest" if place == 0 else f"one of the newest {keep}"
        elif older_than is not None and now - built < older_than:
            reason = f"younger than {older_than}"
        elif store.is_read(dataset, version):
            reason = READ
        found.append(Kept(manifest, built, reason))
    return found


def collect(
    store: DatasetStore,
    dataset: str,
    used_by: Sequence[UsedBy],
    now: datetime,
    *,
    keep: int | None,
    older_than: timedelta | None,
    dry_run: bool,
) -> list[Kept]:
    """Remove the versions that nothing keeps, unless it is a dry run; gives what was judged.

    Raises:
        DatasetError: As ``judge``.
    """
    if dry_run:
        return judge(store, dataset, used_by, now, keep=keep, older_than=older_than)
    with store.writing(dataset):
        judged = judge(store, dataset, used_by, now, keep=keep, older_than=older_than)
        return [
            replace(one, reason=READ)
            if one.reason is None and not store.remove_unread(dataset, one.manifest.version)
            else one
            for one in judged
        ]


def needed_snapshots(store: DatasetStore) -> set[int]:
    """The lakehouse snapshots from which a kept version can be rebuilt.

    Raises:
        DatasetError: A manifest cannot be read: nothing may be expired then.
    """
    return {manifest.built.lake.snapshot for name in store.names() for manifest in store.manifests(name)}
