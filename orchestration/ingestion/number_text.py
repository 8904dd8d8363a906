"""Numbers in a text file that a reader would not tell from others: found in the bytes before any row is read.

What belongs here: what decides whether a cheaper way to read numbers loses nothing. What does not: casts.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestration.declarations import Table, canonical, decimal_shape
from orchestration.ingestion.casts import INTEGERS
from orchestration.sql import literal

_BLOCK = 1 << 18
_OVERLAP = 32
_ZEROS = b"0" * 300


@dataclass(frozen=True)
class OddNumbers:
    """Whether a file may hold numbers that a double does not tell apart.

    Attributes:
        for_integers: An integer and a fraction beside it, or zero and a tiny fraction.
        for_doubles: Zero and a number too small for a double.
    """

    for_integers: bool
    for_doubles: bool


def odd_numbers(path: Path) -> OddNumbers:
    """Look for digits like ``5.0000001``, for 17 digits before an exponent, for exponents
    of three digits, and for two signs.

    A double that equals an integer of 32 bits is that integer's text unless one of these is there: texts of
    at most 15 digits have a double each.
    """
    integers, tail = False, b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found = _look(tail + block)
            if found.for_doubles:
                return OddNumbers(True, True)
            integers = integers or found.for_integers
            # Long runs of zeros may begin in the block before.
            tail = block[-len(_ZEROS) :]
    return OddNumbers(integers, False)


def _look(block: bytes) -> OddNumbers:
    data = np.frombuffer(block + b" " * _OVERLAP, np.uint8)
    at = np.flatnonzero(((data | 32) == ord("e")) | (data == ord(".")) | (data == ord("+")))
    signs, points, exponents = (
        at[data[at] == ord("+")], at[data[at] == ord(".")], at[(data[at] | 32) == ord("e")]
    )  # fmt: skip
    if (data[signs + 1] == ord("-")).any():
        return OddNumbers(True, True)
    integers = False
    for digit in b"09":
        run = points
        for n in range(1, 7):
            run = run[data[run + n] == digit]
            if not run.size:
                break
        integers = integers or bool(run.size)
    exponents = exponents[exponents > 0]
    before = data[exponents - 1]
    exponents = exponents[((before >= ord("0")) & (before <= ord("9"))) | (before == ord("."))]
    after = data[exponents + 1]
    exponents = exponents[
        ((after >= ord("0")) & (after <= ord("9"))) | (after == ord("-")) | (after == ord("+"))
    ]
    doubles = _ZEROS in block if integers else False
    for n in exponents.tolist():
        text = block[max(n - 40, 0) : n + 8]
        if re.search(rb"[eE][-+]?0*[1-9][0-9]{2}", text):
            return OddNumbers(True, True)
        integers = integers or re.search(rb"[0-9.]{17}[eE]", text) is not None
    return OddNumbers(integers, doubles)


_LONG = r"[0-9]{14}[.eE]|[0-9]{10}\.[0-9]{3}|[0-9]{5}\.[0-9]{7}|\.[0-9]{12}"
"""Numbers that may have more than 15 digits, and are no integers."""
_TINY = r"[0-9.][eE]-[0-9]{3}|\.0{200}"
_MOST_KEYS = 200


def lossy_line(table: Table, names: Iterable[str]) -> str:
    """A condition on a JSON line ``l``: DuckDB may change the text, or the value, of a number in it.

    DuckDB reads every number with a point or an exponent as a double: that alters its text (columns of text
    and nested ones), and its value if it has more than 15 digits (other numbers than doubles).
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
