"""Reading SQL text with DuckDB's own parser: tables named, names tainted, windows put in.

What belongs here: pure functions from SQL text to facts or to other SQL text. What does not: which
SQL a check needs (``statements``) and running any of it.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

_NAME = r'(?:"(?:[^"]|"")+"|\w+)'
_DOTTED = re.compile(rf"{_NAME}(?:\s*\.\s*{_NAME})*")
_COUNTING = frozenset({"count", "count_star", "count_if", "countif", "approx_count_distinct"})
_NULL_TESTS = ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL")
_UNFOLLOWED = ("SET_OPERATION_NODE", "PIVOT", "RECURSIVE_CTE_NODE", "TABLE_FUNCTION")


class SqlError(ValueError):
    """SQL text that cannot be used; the message says what was found and what was expected."""


@dataclass(frozen=True)
class TableRef:
    """A table named in SQL text: where its name stands, and its parts as written."""

    start: int
    end: int
    catalog: str
    schema: str
    name: str
    has_alias: bool


@dataclass(frozen=True)
class Query:
    """One parsed ``select``."""

    text: str
    tree: Mapping[str, Any]

    def nodes(self) -> Iterator[Mapping[str, Any]]:
        """Every node of the syntax tree."""
        return _walk(self.tree)

    def tables(self) -> list[TableRef]:
        """The tables named, without the names that the query itself gives to its steps."""
        steps = {
            entry["key"].lower()
            for node in self.nodes()
            for entry in (node.get("cte_map") or {}).get("map", ())
        }
        found = []
        for node in self.nodes():
            if node.get("type") != "BASE_TABLE":
                continue
            if not node["schema_name"] and node["table_name"].lower() in steps:
                continue
            start = _character(self.text, node["query_location"])
            match = _DOTTED.match(self.text, start)
            if match is None:
                raise SqlError(f"found a table name that cannot be located at character {start}")
            found.append(
                TableRef(
                    start,
                    match.end(),
                    node["catalog_name"],
                    node["schema_name"],
                    node["table_name"],
                    bool(node["alias"]),
                )
            )
        return sorted(found, key=lambda ref: ref.start)

    def columns(self) -> set[str]:
        """The names after the last dot of every column reference."""
        return {n["column_names"][-1].lower() for n in self.nodes() if n.get("class") == "COLUMN_REF"}


def _character(text: str, byte: int) -> int:
    """DuckDB counts bytes, Python characters."""
    return len(text.encode()[:byte].decode())


def _walk(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _walk(child)
    elif isinstance(node, list):
        for child in node:
            yield from _walk(child)


def parse(con: duckdb.DuckDBPyConnection, text: str) -> Query:
    """Parse one ``select`` statement.

    Raises:
        SqlError: It is not one, or its syntax is wrong.
    """
    # No parameter: DuckDB imports pandas, a second, to look at a parameter's type.
    literal = "'" + text.replace("'", "''") + "'"
    result = json.loads(con.execute(f"select json_serialize_sql({literal}::varchar)").fetchall()[0][0])
    if result["error"]:
        raise SqlError(f"found {result['error_message']}, expected one select statement")
    if len(result["statements"]) != 1:
        raise SqlError(f"found {len(result['statements'])} statements, expected one")
    return Query(text, result["statements"][0])


def replace_tables(query: Query, replacements: Mapping[TableRef, str]) -> str:
    """The query's text with some tables replaced by sub-selects under the same name."""
    text = query.text
    for ref in sorted(replacements, key=lambda ref: -ref.start):
        alias = "" if ref.has_alias else f' as "{ref.name}"'
        text = f"{text[: ref.start]}({replacements[ref]}){alias}{text[ref.end :]}"
    return text


def clear_outputs(query: Query, outputs: Collection[str], plain: Collection[str]) -> set[str]:
    """Which of a query's output columns hold nothing but plain columns, so that they may be shown.

    Names are judged over the whole query: a name that anywhere stands for an expression over a
    column that is not plain is not clear. What cannot be followed by name (set operations, renamed
    column lists, pivots) makes nothing clear.

    Args:
        query: The query.
        outputs: Names of its output columns.
        plain: Names that are declared and not classified in every table that the query names.
    """
    aliases: dict[str, list[Any]] = {}
    for node in query.nodes():
        if node.get("type") in _UNFOLLOWED:
            return set()
        if node.get("column_name_alias") or (node.get("aliases") and "query" in node):
            return set()
        if node.get("class") is not None and node.get("alias"):
            aliases.setdefault(node["alias"].lower(), []).append(node)
    shown = {name.lower() for name in plain}

    def is_clear(node: Any, known: Collection[str]) -> bool:
        if isinstance(node, list):
            return all(is_clear(child, known) for child in node)
        if not isinstance(node, dict):
            return True
        if node.get("type") == "SELECT_NODE":
            # What a step selects is judged by name where it is named; which rows, tells no value.
            return is_clear(node["select_list"], known)
        if node.get("class") == "COLUMN_REF":
            return node["column_names"][-1].lower() in known
        if node.get("class") in {"STAR", "POSITIONAL_REFERENCE", "LAMBDA"}:
            return False
        if node.get("class") == "FUNCTION" and node["function_name"].lower() in _COUNTING:
            return True
        if node.get("type") in _NULL_TESTS:
            return True
        return all(is_clear(child, known) for child in node.values())

    clear = {name for name in shown if name not in aliases} | set(aliases)
    while True:
        kept = {
            name
            for name in clear
            if all(
                is_clear({**node, "alias": ""}, (clear - {name}) | (shown & {name}))
                for node in aliases.get(name, ())
            )
        }
        if kept == clear:
            return {name for name in outputs if name.lower() in clear}
        clear = kept
