"""What a point-in-time join has to give, by looking at every pair of rows: slow, plain, independent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class OracleView:
    """A view's rows in a role: its keys by the spine's names for them, its ttl, its columns in order."""

    rows: Sequence[Row]
    keys: Mapping[str, str]
    ttl: timedelta
    columns: tuple[str, ...]
    nulls_match: bool = False


def _rank(value: Any) -> tuple[bool, Any]:
    return (value is not None, value)


def known(view: OracleView, spine_row: Row, at: datetime | None, as_of: datetime | None = None) -> Row | None:
    """The row of the view that counts for a row of the spine, or None."""
    best: tuple[Any, ...] | None = None
    found: Row | None = None
    for row in view.rows:
        same = all(
            row[key] == spine_row[column] and (view.nulls_match or row[key] is not None)
            for key, column in view.keys.items()
        )
        stamp = row["known_at"]
        if not same or at is None or stamp is None or (as_of is not None and stamp > as_of):
            continue
        if not at - view.ttl <= stamp <= at:
            continue
        rank = (stamp, *(_rank(row[column]) for column in view.columns))
        if best is None or rank > best:
            best, found = rank, row
    return found


def join(
    spine: Sequence[Row], time_column: str, views: Mapping[str, OracleView], as_of: datetime | None = None
) -> list[dict[str, Any]]:
    """Every row of the spine with ``<role>__<column>`` of each view, in order."""
    joined = []
    for spine_row in spine:
        row = dict(spine_row)
        for role, view in views.items():
            held = known(view, spine_row, spine_row[time_column], as_of)
            row |= {f"{role}__{c}": None if held is None else held[c] for c in view.columns}
            row[f"{role}__known_at"] = None if held is None else held["known_at"]
        joined.append(row)
    return joined
