"""How the nodes of an invocation ended: what to run again, and what to say when it failed.

What belongs here: pure functions. What does not: waiting and invoking (``invocation`` does that).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from orchestration.lakehouse import is_lock_conflict

_FAILED = frozenset({"error", "fail", "partial success"})


@dataclass(frozen=True)
class Outcome:
    """How one node ended."""

    unique_id: str
    status: str
    message: str
    file: str

    @property
    def failed(self) -> bool:
        """Whether it makes the invocation fail."""
        return self.status in _FAILED

    @property
    def in_conflict(self) -> bool:
        """Whether it failed, with nothing committed, because another writer was in the way."""
        return self.status == "error" and is_conflict(self.message)


def is_conflict(message: str) -> bool:
    """Whether an error of dbt's says that another writer was in the way."""
    return is_lock_conflict(duckdb.Error(message))


def to_repeat(manifest: Mapping[str, Any], outcomes: Sequence[Outcome]) -> list[str]:
    """The nodes that a lock conflict has stopped: those in conflict, and those skipped because of them.

    A node skipped because another one failed for good stays skipped.
    """
    conflicts = [o.unique_id for o in outcomes if o.in_conflict]
    if not conflicts:
        return []
    lost = [o.unique_id for o in outcomes if o.failed and not o.in_conflict]
    behind = _descendants(manifest, lost)
    skipped = [o.unique_id for o in outcomes if o.status == "skipped" and o.unique_id not in behind]
    return conflicts + skipped


def _descendants(manifest: Mapping[str, Any], unique_ids: Iterable[str]) -> Collection[str]:
    """Everything that dbt skips when these nodes fail; a failed test stops what is behind its models."""
    found: set[str] = set()
    todo: list[str] = []
    for unique_id in unique_ids:
        node = manifest["nodes"][unique_id]
        todo.extend(node["depends_on"]["nodes"] if node["resource_type"] == "test" else [unique_id])
    while todo:
        children = set(manifest["child_map"].get(todo.pop(), ())) - found
        found |= children
        todo.extend(children)
    return found


def failure_message(outcomes: Sequence[Outcome], error: str | None) -> str:
    """What failed, where and why, in dbt's own words."""
    if error is not None:
        return f"dbt failed: {error}"
    failed = [o for o in outcomes if o.failed]
    lines = [f"{len(failed)} of {len(outcomes)} dbt nodes failed:"]
    for outcome in failed:
        indented = "\n    ".join(outcome.message.strip().splitlines())
        lines.append(f"  {outcome.unique_id} ({outcome.file}): {outcome.status}\n    {indented}")
    return "\n".join(lines)
