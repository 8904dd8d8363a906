"""What a check may ask of a column: that it exists, and that its type fits the question.

What belongs here: the rules that follow from declared names and types. What does not: SQL text
(``reading`` binds it).
"""

from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from orchestration.declarations import LAYERS
from orchestration.lakehouse import LAKE
from orchestration.quality.declared_lake import DeclaredLake, DeclaredTable, first_line
from orchestration.quality.model import Aggregate, Body, Format, Freshness, Invalid
from orchestration.quality.statements import literal
from orchestration.quality.yaml_source import Path as Place

_TIMES = ("TIMESTAMP", "DATE")


def is_numeric(data_type: str) -> bool:
    """Whether a DuckDB type is a number."""
    return data_type.split("(")[0].lstrip("U").endswith(("INT", "INTEGER", "DECIMAL", "DOUBLE", "FLOAT"))


@dataclass(frozen=True)
class ColumnRules:
    """The rules for checks of one table; ``fault`` gets place, found and expected."""

    target: DeclaredTable
    lake: DeclaredLake
    fault: Callable[[Place, str, str], None]

    def check(self, column: str | None, body: Body, place: Place) -> None:
        """Tell what does not fit the columns that a check names."""
        types = self.target.types
        for key in ("columns", "column"):
            value = getattr(body, key, None)
            for name in (value,) if isinstance(value, str) else value or ():
                if name not in types:
                    self.fault((*place, key), f"unknown column {name!r}", f"one of {', '.join(types)}")
        if isinstance(body, Freshness) and not types.get(body.column, "TIMESTAMP").startswith(_TIMES):
            self.fault((*place, "column"), types[body.column], "a timestamp or a date")
        if column is None:
            return
        data_type = types[column]
        text_keys = ("valid_length", "valid_min_length", "valid_max_length")
        for key in ("valid_min", "valid_max", *text_keys):
            if getattr(body, key, None) is None:
                continue
            is_text = key in text_keys
            if (data_type != "VARCHAR") if is_text else not is_numeric(data_type):
                self.fault(
                    (*place, key), f"a {data_type} column", f"a {'text' if is_text else 'numeric'} column"
                )
        for key in ("missing_values", "valid_values", "invalid_values"):
            for value in getattr(body, key, None) or ():
                if isinstance(value, str) == is_numeric(data_type):
                    self.fault(
                        (*place, key), f"{value!r} for a {data_type} column", "a value of the column's type"
                    )
        for key in ("missing_format", "valid_format", "invalid_format"):
            form = getattr(body, key, None)
            if form is not None:
                self._regex(form, data_type, (*place, key))
        if isinstance(body, Aggregate):
            of_length = body.function.endswith("length")
            if (data_type != "VARCHAR") if of_length else not is_numeric(data_type):
                self.fault(
                    (*place, "function"),
                    f"{body.function} of a {data_type} column",
                    f"a {'text' if of_length else 'numeric'} column",
                )
        if isinstance(body, Invalid) and body.valid_reference_data is not None:
            self._reference(body.valid_reference_data.dataset, body.valid_reference_data.column, place)

    def _regex(self, form: Format, data_type: str, place: Place) -> None:
        if data_type != "VARCHAR":
            self.fault(place, f"a {data_type} column", "a text column")
        try:
            self.lake.con.execute(f"select regexp_matches('', {literal(form.regex)})")
        except duckdb.Error as error:
            self.fault((*place, "regex"), first_line(error), "an RE2 regular expression")

    def _reference(self, dataset: str, column: str, place: Place) -> None:
        place = (*place, "valid_reference_data")
        parts = dataset.split("/")
        named = self.lake.tables.get((parts[1], parts[2])) if len(parts) == 3 and parts[0] == LAKE else None
        if named is None:
            self.fault((*place, "dataset"), repr(dataset), f"{LAKE}/<schema>/<table> of a declared table")
        elif LAYERS.index(named.table.layer) > LAYERS.index(self.target.table.layer):
            self.fault((*place, "dataset"), repr(dataset), "a table of this layer or of one before it")
        elif column not in named.types:
            self.fault((*place, "column"), f"unknown column {column!r}", f"one of {', '.join(named.types)}")
