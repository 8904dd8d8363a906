"""What is wrong with a delivery, in words for the person who has to mend it.

What belongs here: the one exception for bad data, and how it is phrased. What does not: finding the
fault, or telling Dagster about it.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any


class IngestFault(Exception):
    """A delivery, a source or a declaration that cannot be landed as declared.

    Args:
        place: The file or table, credentials redacted, and the key, line or column.
        found: What is there.
        expected: What the declaration asks for.
        metadata: Plain values that help to mend it.
    """

    def __init__(
        self, place: str, found: str, expected: str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        self.metadata = dict(metadata or {})
        super().__init__(f"{place}: found {found}, expected {expected}")


def shown(text: object, limit: int = 80) -> str:
    """A value as it is shown in a message: quoted, printable, cut."""
    quoted = repr(text)
    return quoted if len(quoted) <= limit else quoted[: limit - 3] + "..."


def hint(name: str, candidates: list[str]) -> str:
    """``' (did you mean ...?)'`` for the closest candidate, or nothing."""
    lowered = {c.lower(): c for c in candidates}
    close = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return f" (did you mean {lowered[close[0]]!r}?)" if close else ""
