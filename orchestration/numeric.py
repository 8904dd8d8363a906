"""Conversion of Arrow tables for libraries that accept only plain numbers.

What belongs here: decimals and booleans as doubles. What does not: texts as categories, which a model learns
(``learning.encoding``).
"""

import pyarrow as pa
import pyarrow.compute as pc


def as_numeric(table: pa.Table) -> pa.Table:
    """Convert each decimal and boolean column to doubles, so that pandas has numbers, with NaN for null."""
    for place, field in enumerate(table.schema):
        values = table.column(place)
        if pa.types.is_boolean(field.type):
            values = pc.cast(values, pa.int8())
        elif not pa.types.is_decimal(field.type):
            continue
        table = table.set_column(place, field.name, pc.cast(values, pa.float64(), safe=False))
    return table
