"""Historical features: for each row of a caller's own, what was known at its own instant.

What belongs here: ``get_historical_features``. What does not: the join itself (``point_in_time``) and the
forms a caller's rows may have (``spines``).

Several statements a view: DuckDB holds what it sorts for an ASOF join until the statement ends, so that one
statement over all views would need the memory of all of them at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.declarations import OnDemandFeature, RequestColumn, RoleView
from orchestration.feature_store.point_in_time import PointInTimeSql, view_argument
from orchestration.feature_store.spines import Spine, read_spine
from orchestration.feature_store.views import Catalog, Role, Service, Wanted, resolve_role
from orchestration.lakehouse import LakehouseResource
from orchestration.numeric import as_numeric
from orchestration.sql import identifier, literal

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

EVENT_TIMESTAMP = "event_timestamp"
"""The column of an ``entity_df`` that holds the prediction time, unless the caller names another."""

_ROW, _PREDICTION_TIME = "_row", "_prediction_time"
_INTEGERS = frozenset(f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE"))
_INTEGERS |= {"INTEGER", "UINTEGER"}


class EntityColumnError(ValueError):
    """A column of an ``entity_df`` that is missing, of the wrong type, or in the way of a feature."""


@dataclass(frozen=True)
class RetrievalJob:
    """The rows of an ``entity_df`` with their features, in the caller's order."""

    table: pa.Table
    index: Any = None
    """The index of the pandas DataFrame that ``entity_df`` was; None for any other form."""

    def to_arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self.table

    def to_df(self, *, numeric: bool = False) -> "pd.DataFrame":
        """Convert to a pandas DataFrame with the index of ``entity_df``; imports pandas.

        Args:
            numeric: Whether to convert decimals and booleans to doubles.
        """
        frame = (as_numeric(self.table) if numeric else self.table).to_pandas()
        if self.index is not None:
            frame.index = self.index
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """As a polars DataFrame.

        Raises:
            ModuleNotFoundError: polars is not installed.
        """
        import polars as pl  # noqa: PLC0415  # only for those who use it

        frame = pl.from_arrow(self.table)
        assert isinstance(frame, pl.DataFrame)
        return frame


@dataclass(frozen=True)
class _Request:
    """What is asked for, and the names that it gets."""

    features: tuple[Wanted, ...]
    on_demand: Mapping[str, OnDemandFeature] = field(default_factory=dict)
    request_columns: Mapping[str, RequestColumn] = field(default_factory=dict)
    full_feature_names: bool = False
    known_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_role(self) -> dict[str, list[Wanted]]:
        found: dict[str, list[Wanted]] = {}
        for wanted in self.features:
            found.setdefault(wanted.role.name, []).append(wanted)
        return found

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(wanted[0].role for wanted in self.by_role.values())

    @property
    def columns(self) -> dict[str, str]:
        """Each output column by its name in the join, in the order asked for."""
        named = {
            w.full_name: w.full_name if self.full_feature_names else w.feature.name for w in self.features
        }
        return named | {name: name for name in self.on_demand}


def _request(
    catalog: Catalog,
    features: Sequence[str] | str,
    roles: Mapping[str, Role | RoleView] | None,
    full_feature_names: bool,
) -> _Request:
    if isinstance(features, str):
        if roles:
            raise ValueError(
                "roles: found some beside a feature service, expected none: a service has its own"
            )
        service: Service = catalog.service(features)
        declared = service.declared
        return _Request(service.features, declared.on_demand, declared.request, full_feature_names)
    if not features:
        raise ValueError("features: found none, expected at least one, or the name of a feature service")
    named = {
        name: role if isinstance(role, Role) else resolve_role(catalog, name, role)
        for name, role in (roles or {}).items()
    }
    return _Request(catalog.resolve(features, named), full_feature_names=full_feature_names)


def _check_names(request: _Request, spine: pa.Table) -> None:
    taken: dict[str, str] = {name.lower(): f"a column {name} of entity_df" for name in spine.column_names}
    for joined, name in request.columns.items():
        if name.lower() in taken:
            hint = "" if request.full_feature_names else "; full_feature_names=True tells them apart"
            raise EntityColumnError(f"{joined}: found {taken[name.lower()]}, expected no other {name}{hint}")
        taken[name.lower()] = f"a feature {joined} of that name"


def _fits(found: str, expected: str) -> bool:
    """Whether values of one DuckDB type can be taken for values of another without a change."""
    if found in {expected, '"NULL"'}:
        return True
    numbers = found in _INTEGERS or found.startswith("DECIMAL")
    if expected in _INTEGERS:
        return found in _INTEGERS
    if expected.startswith("DECIMAL"):
        return numbers
    if expected in {"DOUBLE", "FLOAT"}:
        return numbers or found in {"DOUBLE", "FLOAT"}
    return expected == "VARCHAR" and found.startswith("ENUM")


def _is_whole(values: pa.ChunkedArray) -> bool:
    """Whether floats are whole numbers: pandas stores integers as floats in a column with nulls."""
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less_equal(pc.abs(values), float(2**53)))
    return bool(pc.all(whole, min_count=0).as_py())


@dataclass(frozen=True)
class _Needed:
    """A column of the caller's that the join needs: what for, its declared type, its name there."""

    column: str
    purpose: str
    data_type: str
    name: str
    must_fit: bool = True
    """Whether a value that the declared type cannot hold is an error; otherwise it is a key of no entity."""


def _needed(request: _Request, event_timestamp: str) -> Iterator[_Needed]:
    yield _Needed(event_timestamp, "the prediction time", "timestamptz", _PREDICTION_TIME)
    for role in request.roles:
        for key, column in zip(role.view.entity, role.join_keys, strict=True):
            purpose = f"the entity key {key.name} of {role.name}"
            matches_nulls = role.view.null_keys == "match"
            yield _Needed(column, purpose, key.data_type, f"_{role.name}__{key.name}", matches_nulls)
    for name, declared in request.request_columns.items():
        yield _Needed(name, "a request column of the service", declared.data_type, name)
    for role in request.roles:
        if role.name in request.known_by:
            column, purpose = request.known_by[role.name], f"when rows of {role.name} are known by"
            yield _Needed(column, purpose, "timestamptz", _known_by(role))


def _known_by(role: Role) -> str:
    return f"_known_by__{role.name}"


def _readable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in a type that DuckDB reads; one with only nulls, of any type, has Arrow's null type."""
    if values.null_count == len(values) or pc.all(pc.is_null(values)).as_py():
        return pa.chunked_array([pa.nulls(len(values))])
    return pc.cast(values, pa.float32()) if pa.types.is_float16(values.type) else values


def _exact(column: str, data_type: str) -> str:
    """SQL: the value in another type, null if that type cannot hold it; a double takes the nearest."""
    cast = f"try_cast({column} as {data_type})"
    return f"case when {cast} = {column} then {cast} end"


def _load_spine(con: duckdb.DuckDBPyConnection, spine: pa.Table, needed: Sequence[_Needed]) -> None:
    """Make the temporary table ``_spine``: a row's number, and what the join needs of it, as declared.

    Raises:
        EntityColumnError: A column is missing or of the wrong type, has a value that the declared type cannot
            hold, or has a null prediction time.
    """
    for need in needed:
        if need.column not in spine.column_names:
            raise EntityColumnError(
                f"entity_df: found no column {need.column}, expected one: it is {need.purpose}"
            )
    columns = [pa.array(np.arange(spine.num_rows, dtype=np.int64))]
    given = {need.column: _readable(spine.column(need.column)) for need in needed}
    columns += [given[need.column] for need in needed]
    names = [_ROW, *(f"c{n}" for n in range(len(needed)))]
    con.register("_entity_rows", pa.Table.from_arrays(columns, names))
    try:
        declared = ", ".join(f"null::{need.data_type} as c{n}" for n, need in enumerate(needed))
        expected_types, found_types = (
            {str(row[0]): str(row[1]) for row in con.execute(f"describe {query}").fetchall()}
            for query in (f"select {declared}", "_entity_rows")
        )
        for n, need in enumerate(needed):
            kind, expected = found_types[f"c{n}"], expected_types[f"c{n}"]
            values = given[need.column]
            if pa.types.is_null(values.type):
                continue
            if kind in {"DOUBLE", "FLOAT"} and expected in _INTEGERS and _is_whole(values):
                continue
            if not _fits(kind, expected):
                hint = ": a naive timestamp tells no instant" if kind.startswith("TIMESTAMP") else ""
                raise EntityColumnError(
                    f"entity_df: {need.column}: found {kind}, expected {expected}, "
                    f"as it is {need.purpose}{hint}"
                )
        exact = [_exact(f"c{n}", need.data_type) for n, need in enumerate(needed)]
        casts = (f"{cast} as {identifier(need.name)}" for cast, need in zip(exact, needed, strict=True))
        con.execute(f"create temp table _spine as select {_ROW}, {', '.join(casts)} from _entity_rows")
        for n, need in enumerate(needed):
            lost = f"from _entity_rows where c{n} is not null and ({exact[n]}) is null"
            if need.must_fit and (count := con.execute(f"select count(*) {lost}").fetchall()[0][0]):
                ((row,),) = con.execute(f"select min({_ROW}) {lost}").fetchall()
                raise EntityColumnError(
                    f"entity_df: {need.column}: found {count} values that {need.data_type} cannot hold, the "
                    f"first in row {row}, expected none, as it is {need.purpose}"
                )
    finally:
        con.unregister("_entity_rows")
    nulls = con.execute(f"select count(*) from _spine where {_PREDICTION_TIME} is null").fetchall()[0][0]
    if nulls:
        raise EntityColumnError(
            f"entity_df: {needed[0].column}: found {nulls} rows without a value, "
            "expected a prediction time in each"
        )


def _join(
    con: duckdb.DuckDBPyConnection, sql: PointInTimeSql, request: _Request, as_of: datetime | None
) -> pa.Table:
    """The features of the rows in ``_spine``, in order."""
    ends = _ends(con, _PREDICTION_TIME)
    parts = []
    for number, (role, wanted) in enumerate(zip(request.roles, request.by_role.values(), strict=True)):
        spine_columns = [identifier(f"_{role.name}__{key}") for key in role.view.keys]
        view = view_argument(role, [w.feature for w in wanted], spine_columns, as_of=as_of)
        if role.name in request.known_by:
            at = identifier(_known_by(role))
            con.execute(f"update _spine set {at} = least({at}, {_PREDICTION_TIME})")
            found = sql.found_rows("_spine", at, view, *_ends(con, at))
            con.execute(f"create or replace temp table _found as {found}")
            con.execute(  # Known by then, and too old all the same at the prediction time.
                f"delete from _found using _spine where _found.{_ROW} = _spine.{_ROW} and _found._known_at "
                f"< _spine.{_PREDICTION_TIME} - interval '{view['ttl_seconds']} seconds'"
            )
        else:
            found = sql.found_rows("_spine", _PREDICTION_TIME, view, *ends)
            con.execute(f"create or replace temp table _found as {found}")
        known = f"_known_{number}"
        con.execute(f"create temp table {known} as {sql.fetched_values('_found', view)}")
        con.execute(f"create or replace temp table _several as {sql.fetched_several_times(known)}")
        if con.execute("select count(*) from _several").fetchall()[0][0]:
            con.execute(f"delete from {known} where {_ROW} in (select {_ROW} from _several)")
            con.execute(f"insert into {known} {sql.greatest_values('_found', '_several', view)}")
        parts.append(known)
    joined = "(select * from _spine" + "".join(f" left join {part} using ({_ROW})" for part in parts) + ")"
    columns = ", ".join(f"{identifier(n)} as {identifier(as_)}" for n, as_ in request.columns.items())
    query = f"select {columns} from ({sql.with_on_demand(joined, request.on_demand)}) order by {_ROW}"
    return con.execute(query).to_arrow_table()


def _ends(con: duckdb.DuckDBPyConnection, column: str) -> tuple[str, str]:
    """The first and the last instant of a column of ``_spine``, as SQL."""
    ((first, last),) = con.execute(f"select min({column})::text, max({column})::text from _spine").fetchall()
    return f"{literal(first)}::timestamptz", f"{literal(last)}::timestamptz"


@contextmanager
def _one_state(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """A transaction that is rolled back: all of it sees one state of the lakehouse."""
    con.execute("begin")
    try:
        yield
    finally:
        con.execute("rollback")


def get_historical_features(
    catalog: Catalog,
    lakehouse: LakehouseResource,
    entity_df: Spine,
    features: Sequence[str] | str,
    *,
    roles: Mapping[str, Role | RoleView] | None = None,
    event_timestamp: str = EVENT_TIMESTAMP,
    as_of: datetime | None = None,
    known_by: Mapping[str, str] | None = None,
    snapshot: int | None = None,
    full_feature_names: bool = False,
) -> RetrievalJob:
    """Each row of ``entity_df`` with the features that were known at its own instant.

    Rows come out as they went in: as many, in the same order, with all of their columns. A feature is null
    where nothing was known of its entity, or nothing within the view's ttl.

    Args:
        catalog: The declared views and services.
        lakehouse: Where their tables are.
        entity_df: See ``Spine``. It has the entity keys of every view, and the prediction time.
        features: References such as ``view:feature``, or the name of a feature service, which brings its
            roles and on-demand features.
        roles: Views under other names, with their keys mapped to columns of ``entity_df``.
        event_timestamp: The column with the prediction time, an instant.
        as_of: Count only what was known by this instant: what this would have been, built then.
        known_by: For some roles the column with the instant by which rows of its view must have been known,
            where that is before the prediction time (or null). They grow old by the prediction time.
        snapshot: Read this snapshot of the lakehouse instead of its newest.
        full_feature_names: Name columns ``view__feature`` rather than ``feature``.

    Raises:
        EntityColumnError: A column of ``entity_df`` is missing, of the wrong type, or has a feature's name.
        UnknownFeatureError: A view, a feature or a service is not declared.
        ValueError: A reference, ``as_of`` or ``entity_df`` has an unexpected form.
        TypeError: ``entity_df`` is none of what it may be.
        duckdb.Error: The lakehouse has no such table or snapshot.
    """
    if as_of is not None and as_of.utcoffset() is None:
        raise ValueError(f"as_of: found {as_of}, expected an instant with an offset from UTC")
    request = replace(_request(catalog, features, roles, full_feature_names), known_by=known_by or {})
    sql = PointInTimeSql(lakehouse.settings.dbt_project_dir)
    with lakehouse.reader(snapshot=snapshot) as con:
        given = read_spine(entity_df, con.execute)
        spine = given.table
        _check_names(request, spine)
        _load_spine(con, spine, list(_needed(request, event_timestamp)))
        # After the spine: of a table that is not committed DuckDB takes the rows to be none, and joins it
        # by trying every pair.
        with _one_state(con):
            found = _join(con, sql, request, as_of)
    table: Any = spine
    for name in found.column_names:
        table = table.append_column(found.schema.field(name), found.column(name))
    return RetrievalJob(table, given.index)
