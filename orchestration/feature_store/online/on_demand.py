"""On-demand features at serving: the declared SQL over request values and stored features.

DuckDB evaluates the text that training evaluates, on a connection that is kept. What belongs here: one
service's expressions. What does not: fetching what they are about (``reading``).
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from orchestration.declarations import OnDemandFeature
from orchestration.feature_store.online.values import typed_list
from orchestration.sql import identifier, literal

_local = threading.local()


class OnDemandError(ValueError):
    """An on-demand feature cannot be evaluated: a fault of its declaration, or a value of a wrong type."""


def _connection() -> duckdb.DuckDBPyConnection:
    con: duckdb.DuckDBPyConnection | None = getattr(_local, "con", None)
    if con is None:
        # Functions that reach files or load extensions have no place in an expression.
        con = duckdb.connect(config={"threads": 1, "enable_external_access": False})
        con.execute("set timezone = 'UTC'")
        con.execute("set lock_configuration = true")
        _local.con, _local.prepared = con, set()
    return con


class OnDemand:
    """The on-demand features of a service.

    Args:
        place: What the service is, for messages.
        features: The declared features by name.
        inputs: The type of every column that expressions may name.

    Raises:
        OnDemandError: An expression does not fit its columns.
    """

    def __init__(
        self, place: str, features: Mapping[str, OnDemandFeature], inputs: Mapping[str, str]
    ) -> None:
        self.names = list(features)
        self._inputs = inputs
        selected = (
            f"cast({feature.expression} as {feature.data_type}) as {identifier(name)}"
            for name, feature in features.items()
        )
        given = ", ".join(
            f"unnest(cast(${place} as {kind}[])) as {identifier(name)}"
            for place, (name, kind) in enumerate(inputs.items(), start=1)
        )
        # Prepared, it takes a third of the time. Who has the same text has the same statement.
        self._sql = f"select {', '.join(selected)} from (select {given})"
        self._statement = f"on_demand_{hashlib.sha256(self._sql.encode()).hexdigest()}"
        try:
            self.evaluate({name: [None] for name in inputs}, 1)
        except duckdb.Error as error:
            raise OnDemandError(f"{place}.on_demand: {error}") from error

    def evaluate(self, columns: Mapping[str, Sequence[Any]], count: int) -> list[list[Any]]:
        """The features, a list each, of ``count`` rows given by their columns.

        Raises:
            duckdb.Error: A value is of another type than declared, or an expression fails on it.
        """
        con = _connection()
        if self._statement not in _local.prepared:
            con.execute(f"prepare {self._statement} as {self._sql}")
            _local.prepared.add(self._statement)
        given = ", ".join(typed_list(columns[name], kind) for name, kind in self._inputs.items())
        found = con.execute(f"execute {self._statement}({given})").fetchall()
        assert len(found) == count
        return [[row[n] for row in found] for n in range(len(self.names))]


def is_json_of_type(text: str, data_type: str) -> bool:
    """Whether DuckDB can read a JSON value as one of a type, as ``read_json`` does."""
    structure = json.dumps({"value": data_type})
    row = f'{{"value": {text}}}'
    try:
        _connection().execute(f"select json_transform_strict({literal(row)}, {literal(structure)})")
    except duckdb.Error:
        return False
    return True


def is_of_type(value: Any, data_type: str) -> bool:
    """Whether DuckDB can read a value as one of a type."""
    try:
        _connection().execute(f"select {typed_list([value], data_type)}")
    except duckdb.Error:
        return False
    return True
