"""Infinite numbers among a model's inputs: detection and messages.

What belongs here: finding and naming them. What does not: how they are treated (``encoding``).
"""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from orchestration.learning.spec import ModelSpec

_EXAMPLES = 3


class InfiniteFeatureError(ValueError):
    """Features that are infinite in some rows; the message names view, column, rows and examples."""


def has_infinite(values: pa.ChunkedArray) -> bool:
    """Whether a column has an infinite number."""
    return bool(pa.types.is_floating(values.type) and pc.any(pc.is_inf(values)).as_py())


def infinite_inputs(spec: ModelSpec, rows: Mapping[str, int]) -> str:
    """What was found and expected, given the number of rows by column, and the key that changes it."""
    by_name = {i.name: i for i in spec.inputs}
    found = []
    for name, count in rows.items():
        given = by_name.get(name)
        named = name if given is None or given.reference == name else f"{given.reference} (column {name})"
        found.append(f"infinite values of {named} in {count:,} row{'' if count == 1 else 's'}")
    place = f"{spec.exposure.file}: exposures.{spec.name}.config.meta.model.infinite"
    return (
        f"found {', '.join(found)}, expected finite numbers: correct the feature's SQL, "
        f"or declare {place}: null to treat them as missing"
    )


def infinite_words(spec: ModelSpec, rows: pa.Table, place: str) -> str:
    """The message about infinite inputs of rows, with the keys of a few rows unless they are classified."""
    columns = [i.name for i in spec.inputs if has_infinite(rows.column(i.name))]
    counts = {name: int(pc.sum(pc.is_inf(rows.column(name))).as_py()) for name in columns}
    declared = {name: spec.table.column(name) for name in spec.row_keys}
    shown = [
        n for n, c in declared.items() if c is not None and not c.is_classified and n in rows.column_names
    ]
    examples = []
    for name in columns:
        inside = pc.fill_null(pc.is_inf(rows.column(name)), False)
        keys = rows.select(shown).filter(inside).slice(0, _EXAMPLES).to_pylist() if shown else []
        said = "; ".join(", ".join(f"{key} {value}" for key, value in row.items()) for row in keys)
        if said:
            examples.append(f"{name}, such as {said}")
    more = f" ({' | '.join(examples)})" if examples else ""
    return f"{spec.name}: {place}: {infinite_inputs(spec, counts)}{more}"
