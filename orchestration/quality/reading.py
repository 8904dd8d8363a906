"""The rules of a single check, read against the declared tables.

What belongs here: from the keys of one check to a ``Check``, with every SQL text parsed and bound.
What does not: files and folders (``loading``).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from orchestration.declarations import LAYERS
from orchestration.lakehouse import LAKE
from orchestration.quality.column_rules import ColumnRules, is_numeric
from orchestration.quality.contract import Check, SqlPart
from orchestration.quality.declared_lake import DeclaredLake, DeclaredTable
from orchestration.quality.model import (
    Aggregate,
    Body,
    DuplicateRows,
    FailedRows,
    Freshness,
    Invalid,
    Metric,
    Schema,
)
from orchestration.quality.sql_text import Query, SqlError, TableRef, clear_outputs, parse
from orchestration.quality.statements import failed_rows_sql, measuring_sql, wrapped
from orchestration.quality.yaml_source import Path as Place
from orchestration.quality.yaml_source import Source

_DEFAULT_DIMENSION = {
    "missing": "completeness",
    "row_count": "completeness",
    "invalid": "validity",
    "schema": "validity",
    "duplicate": "uniqueness",
    "freshness": "timeliness",
    "aggregate": "accuracy",
}


@dataclass(frozen=True)
class Reader:
    """Reads the checks of one contract file; faults go to ``faults``."""

    file: str
    source: Source
    target: DeclaredTable
    lake: DeclaredLake
    faults: list[str]

    def check(self, kind: str, column: str | None, body: Body, place: Place) -> Check | None:
        """The check, or None after telling what is wrong with it."""
        before = len(self.faults)
        name = self._name(kind, column, body, place)
        dimension = self._dimension(kind, body, place)
        parts = self._sql(body, place)
        ColumnRules(self.target, self.lake, self._fault).check(column, body, place)
        self._severity(body, place)
        if len(self.faults) > before:
            return None
        attributes = body.attributes
        check = Check(
            name=name,
            type=kind,
            column=column,
            body=body,
            line=self.source.line(place),
            dimension=dimension,
            blocking=False,
            whole_table=isinstance(body, Schema)
            or attributes.scope == "table"
            or (attributes.scope is None and isinstance(body, Freshness)),
            description="",
            columns=frozenset(self._columns(column, body, parts)),
            sql=parts,
            value_is_plain=True,
            shown=frozenset(),
        )
        outputs = self._bind(check, place)
        if len(self.faults) > before:
            return None
        check = replace(check, blocking=not check.warns and attributes.blocking is not False)
        return replace(
            check,
            description=self._description(check),
            value_is_plain=self._value_is_plain(check),
            shown=self._shown(check, outputs),
        )

    def _fault(self, place: Place, found: str, expected: str) -> None:
        key = ".".join(map(str, place))
        self.faults.append(
            f"{self.file}:{self.source.line(place)}: {key}: found {found}, expected {expected}"
        )

    def _name(self, kind: str, column: str | None, body: Body, place: Place) -> str:
        if body.name is not None:
            return body.name
        # Dagster allows no other characters; a column may have any.
        return re.sub(r"[^A-Za-z0-9_]", "_", self._default_name(kind, column, body, place))

    def _default_name(self, kind: str, column: str | None, body: Body, place: Place) -> str:
        suffix = f"_{body.qualifier}" if body.qualifier is not None else ""
        match body:
            case DuplicateRows():
                return f"unique_{'_'.join(body.columns)}{suffix}"
            case Freshness():
                return f"fresh_{body.column}{suffix}"
            case Aggregate():
                return f"{body.function}_{column}{suffix}"
            case FailedRows() | Metric() if body.qualifier is not None:
                return body.qualifier
            case FailedRows() | Metric():
                self._fault((*place, "name"), "nothing", "a name that says what holds")
        stems = {"missing": "no_missing", "invalid": "valid", "duplicate": "unique"}
        name = f"{stems[kind]}_{column}" if kind in stems else kind
        return f"{name}{suffix}"

    def _dimension(self, kind: str, body: Body, place: Place) -> str:
        if body.attributes.dimension is not None:
            return body.attributes.dimension
        if isinstance(body, Invalid) and body.valid_reference_data is not None:
            return "consistency"
        if kind not in _DEFAULT_DIMENSION:
            self._fault((*place, "attributes"), "no dimension", "one, as the check's type does not tell it")
        return _DEFAULT_DIMENSION.get(kind, "")

    def _severity(self, body: Body, place: Place) -> None:
        threshold = getattr(body, "threshold", None)
        if threshold is None:
            return
        if threshold.level == "warn" and body.attributes.blocking:
            self._fault((*place, "attributes", "blocking"), "true beside level warn", "false, or level fail")
        if not list(threshold.comparisons()) and isinstance(body, Aggregate | Metric | Freshness):
            self._fault((*place, "threshold"), "no comparison", "one must_... key")

    def _sql(self, body: Body, place: Place) -> dict[str, SqlPart]:
        """Every SQL text of the check, parsed; the tables it names must be declared."""
        parts = {}
        for key in ("filter", "expression", "query", "rows_tested_query"):
            text = getattr(body, key, None)
            if text is None:
                continue
            prefix = "" if key.endswith("query") else "select "
            try:
                parts[key] = self._part(prefix, text)
            except SqlError as error:
                self.faults.append(
                    f"{self.file}:{self.source.line((*place, key))}: "
                    f"{'.'.join(map(str, (*place, key)))}: {error}"
                )
        return parts

    def _part(self, prefix: str, text: str) -> SqlPart:
        query = parse(self.lake.con, prefix + text)
        windowed: dict[TableRef, DeclaredTable] = {}
        whole: dict[TableRef, DeclaredTable] = {}
        for ref in query.tables():
            if not ref.schema:
                raise SqlError(
                    f"found table {ref.name!r}, expected <schema>.<table> or {LAKE}.<schema>.<table>"
                )
            named = self.lake.tables.get((ref.schema, ref.name))
            if named is None or ref.catalog not in {"", LAKE}:
                full = ".".join(p for p in (ref.catalog, ref.schema, ref.name) if p)
                raise SqlError(f"found unknown table {full!r}, expected a declared table")
            if LAYERS.index(named.table.layer) > LAYERS.index(self.target.table.layer):
                raise SqlError(
                    f"found {ref.schema}.{ref.name} of layer {named.table.layer}, "
                    f"expected tables of layer {self.target.table.layer} or before it"
                )
            (whole if ref.catalog else windowed)[ref] = named
        return SqlPart(prefix, query, windowed, whole)

    def _columns(self, column: str | None, body: Body, parts: dict[str, SqlPart]) -> set[str]:
        """The target's columns that the check reads."""
        names = {column} if column is not None else set()
        names |= set(getattr(body, "columns", ())) | {c for c in [getattr(body, "column", None)] if c}
        own = (self.target.table.schema, self.target.table.name)
        for key, part in parts.items():
            if not key.endswith("query") or part.tables == {own}:
                read = part.query.columns()
                names |= {c for c in self.target.types if c.lower() in read}
        return {name for name in names if name in self.target.types}

    def _bind(self, check: Check, place: Place) -> dict[str, str]:
        """Try the check's statements on the empty tables; gives the output columns of its query."""
        outputs: dict[str, str] = {}
        for key, part in check.sql.items():
            try:
                if key.endswith("query"):
                    found = self.lake.bind(part.text)
                    outputs = found if key == "query" else outputs
                else:
                    found = self.lake.bind(f"select {wrapped(part.text)} from {self.target.relation}")
                if isinstance(check.body, Metric) or key == "rows_tested_query":
                    _expect_number(found)
                elif key != "query":
                    _expect_boolean(found)
            except SqlError as error:
                where = (*place, key)
                self.faults.append(
                    f"{self.file}:{self.source.line(where)}: {'.'.join(map(str, where))}: {error}"
                )
                return {}
        try:
            if check.sql and not outputs:
                self.lake.bind(
                    failed_rows_sql(self.target, check, None) or measuring_sql(self.target, check, None)
                )
        except SqlError as error:
            self.faults.append(f"{self.file}:{check.line}: {'.'.join(map(str, place))}: {error}")
        return outputs

    def _value_is_plain(self, check: Check) -> bool:
        """Whether the measured value tells nothing about a single classified value."""
        body, target = check.body, self.target
        if isinstance(body, Aggregate):
            return check.column in target.plain
        if isinstance(body, Freshness):
            return body.column in target.plain
        if not isinstance(body, Metric):
            return True
        part = check.sql["query" if body.query is not None else "expression"]
        query = parse(self.lake.con, f"select ({part.text}) as measured")
        return bool(self._clear(query, part, ["measured"]))

    def _shown(self, check: Check, outputs: Collection[str]) -> frozenset[str]:
        """The columns of the failing rows whose values may be shown."""
        if not isinstance(check.body, FailedRows) or check.body.query is None:
            return self.target.plain | {"copies"}
        part = check.sql["query"]
        return frozenset(self._clear(part.query, part, outputs))

    def _clear(self, query: Query, part: SqlPart, outputs: Collection[str]) -> set[str]:
        named = part.named if part.prefix == "" else [*part.named, self.target]
        if not any(t.is_classified for t in named):
            return set(outputs)
        known = {column for t in named for column in t.types}
        plain = {c for c in known if all(c in t.plain for t in named if c in t.types)}
        return clear_outputs(query, outputs, plain)

    def _description(self, check: Check) -> str:
        """The check in plain words."""
        own = [check.body.attributes.description] if check.body.attributes.description else []
        words = f"{check.measures[:1].upper()}{check.measures[1:]}: expected {check.expected}."
        if check.warns:
            effect = "A failure warns."
        else:
            effect = "A failure stops what is downstream." if check.blocking else "A failure stops nothing."
        return " ".join([*own, words, effect])


def _expect_number(outputs: dict[str, str]) -> None:
    if len(outputs) != 1 or not is_numeric(next(iter(outputs.values()))):
        found = ", ".join(f"{name} {kind}" for name, kind in outputs.items())
        raise SqlError(f"found columns {found}, expected one number")


def _expect_boolean(outputs: dict[str, str]) -> None:
    if list(outputs.values()) != ["BOOLEAN"]:
        raise SqlError(f"found {', '.join(outputs.values())}, expected a BOOLEAN expression")
