"""Numbers in JSON lines that DuckDB would change, because it reads them as doubles.

What belongs here: the condition that finds such lines. What does not: casts.
"""

import re
from collections.abc import Iterable

from orchestration.declarations import Table, canonical, decimal_shape
from orchestration.ingestion.casts import INTEGERS
from orchestration.sql import literal

_LONG = r"[0-9]{14}[.eE]|[0-9]{10}\.[0-9]{3}|[0-9]{5}\.[0-9]{7}|\.[0-9]{12}"
"""A regular expression for numbers that may have more than 15 digits and are not integers."""
_TINY = r"[0-9.][eE]-[0-9]{3}|\.0{200}"
_MOST_KEYS = 200


def lossy_line(table: Table, names: Iterable[str]) -> str:
    """A condition on a JSON line ``l``: DuckDB may change the text, or the value, of a number in it.

    DuckDB reads every number with a point or an exponent as a double. That alters its text, which matters in
    text and nested columns, and its value if it has more than 15 digits, which matters in all but doubles.
    """
    texts, numbers = [], []
    for name in names:
        column = table.column(name)
        declared = canonical(column.data_type) if column is not None else "varchar"
        if declared in INTEGERS or declared == "float" or decimal_shape(declared) is not None:
            numbers.append(name)
        elif declared != "double":
            texts.append(name)
    patterns = [_TINY]
    if texts:
        patterns.append(f"{_key(texts)}(-?[0-9]+[.eE]|-0|[\\[{{].*([0-9][.eE]|-0))")
    if numbers:
        patterns.append(f"{_key(numbers)}-?[0-9]*({_LONG})")
    if texts or numbers:
        # An escaped key.
        patterns.append(r"\\u00[2-7]")
    return f"regexp_matches(l, {literal('|'.join(patterns))})"


def _key(names: list[str]) -> str:
    keys = "|".join(map(re.escape, names)) if len(names) <= _MOST_KEYS else '[^"]*'
    return f'"({keys})"\\s*:\\s*'
