"""Lengths of time as declarations write them."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DURATION = re.compile(r"^\s*(\d+)\s+(second|minute|hour|day|week)s?\s*$")


def parse_duration(value: object) -> timedelta:
    """A length of time written as ``6 hours``, ``10 minutes``, ``28 days``.

    Raises:
        ValueError: Any other text.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a whole number and a unit from seconds to weeks, such as '6 hours'")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


def in_words(span: timedelta) -> str:
    """A length of time in its largest whole unit: ``6 hours``, ``28 days``."""
    seconds = int(span.total_seconds())
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds >= size and (seconds % size == 0 or seconds >= 3 * size):
            count = round(seconds / size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "0 seconds"
