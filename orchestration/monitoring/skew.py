"""Skew: were the features that a model was served with the ones that history says were known?

Online predictions keep the values they were made from, and up to when the online store knew each view's rows
then, which is as long ago as the last materialization. The same features are computed again as they were
known at these instants, and compared value by value: training learns from what is computed so. What belongs
here: the comparison. What does not: computing features (``orchestration.feature_store``).
"""

from collections.abc import Collection
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from orchestration.declarations import SkewWatch
from orchestration.feature_store.offline import get_historical_features
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.spec import ONLINE_COLUMNS, Input, ModelSpec
from orchestration.sql import identifier, literal

PREDICTED_AT = "predicted_at"
"""When a prediction was made, of whatever instant it is: what was known then is what was served."""
FEATURES_AS_OF = "features_as_of"
"""Up to when rows of each role's view were known to the store; null where no such thing was written down."""
_ROW = "_skew_row"


@dataclass(frozen=True)
class ColumnSkew:
    """Of how many compared predictions a feature's value differs.

    ``behind`` is the longest, in seconds, from what the store knew of the feature's view to a prediction.
    ``example`` is the first prediction that differs, ``online`` and ``offline`` its values as text.
    """

    column_name: str
    source: str
    rows: int
    differences: int
    behind: float | None
    example: str | None
    online: str | None
    offline: str | None

    @property
    def alarm(self) -> bool:
        """Whether any value differs."""
        return self.differences > 0


def measure_skew(
    spec: ModelSpec,
    catalog: Catalog,
    lakehouse: LakehouseResource,
    served: pa.Table,
    watch: SkewWatch,
    features: Collection[str],
) -> list[ColumnSkew]:
    """Compare what online predictions were made from with what history says.

    Args:
        spec: The model.
        catalog: The features.
        lakehouse: Where they are.
        served: Online predictions of one version, with the columns of the table.
        watch: What is declared of skew.
        features: Those that the version takes: before a feature is declared nobody is served with it.

    Returns:
        A line for each stored and each on-demand feature that was written down; none without predictions.
    """
    there = {*features} & {*served.column_names}
    inputs = [i for i in spec.inputs if i.source != "request" and i.name in there]
    if not served.num_rows or not inputs:
        return []
    roles = {wanted.full_name: wanted.role.name for wanted in spec.service.features}
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        con.register("served", _numbered(served))
        con.register("found", _numbered(_known(con, spec, catalog, lakehouse, watch)))
        return [_compared(con, column, served.num_rows, roles.get(column.name)) for column in inputs]


def _known(
    con: duckdb.DuckDBPyConnection,
    spec: ModelSpec,
    catalog: Catalog,
    lakehouse: LakehouseResource,
    watch: SkewWatch,
) -> pa.Table:
    """The model's features as they were known to the store that served each prediction.

    Of a store that was further behind than it may be, more is expected: what was known so long before.
    """
    roles = dict.fromkeys(wanted.role.name for wanted in spec.service.features)
    known_by = {role: f"_known_by_{role}" for role in roles}
    needed = [PREDICTED_AT, *_asked(spec)]
    oldest = f"{PREDICTED_AT} - interval '{watch.lag.total_seconds():.0f} seconds'"
    instants = (
        f"case when {_as_of(role)} is not null then greatest({_as_of(role)}, {oldest}) end "
        f"as {identifier(column)}"
        for role, column in known_by.items()
    )
    spine = con.execute(
        f"select {', '.join([*map(identifier, needed), *instants])} from served order by {_ROW}"
    ).to_arrow_table()
    return get_historical_features(
        catalog,
        lakehouse,
        spine,
        spec.service.name,
        event_timestamp=PREDICTED_AT,
        known_by=known_by,
        full_feature_names=True,
    ).to_arrow()


def _as_of(role: str) -> str:
    return f"{FEATURES_AS_OF}[{literal(role)}]"


def _numbered(rows: pa.Table) -> pa.Table:
    return rows.append_column(_ROW, pa.array(range(rows.num_rows), pa.int64()))


def _compared(con: duckdb.DuckDBPyConnection, column: Input, rows: int, role: str | None) -> ColumnSkew:
    name, kind = identifier(column.name), column.data_type
    online, offline = f"served.{name}::{kind}", f"found.{name}::{kind}"
    differs = f"{online} is distinct from {offline}"
    behind = "null" if role is None else f"max(epoch(served.{PREDICTED_AT}) - epoch(served.{_as_of(role)}))"
    count, longest, example, first, second = con.execute(
        f"select count_if({differs}), {behind}, "
        + ", ".join(
            f"first({told} order by {_ROW}) filter ({differs})"
            for told in ("served.prediction_id", f"{online}::varchar", f"{offline}::varchar")
        )
        + f" from served join found using ({_ROW})"
    ).fetchall()[0]
    return ColumnSkew(column.name, column.source, rows, int(count), longest, example, first, second)


def _asked(spec: ModelSpec) -> dict[str, str]:
    """The columns by which features are found, and those that only a request knows, and their types."""
    found = {name: column.data_type for name, column in spec.service.declared.request.items()}
    for wanted in spec.service.features:
        keys = zip(wanted.role.join_keys, wanted.role.view.entity, strict=True)
        found |= {name: column.data_type for name, column in keys}
    return found


def served_columns(spec: ModelSpec, held: Collection[str]) -> list[str]:
    """What the comparison needs of predictions, as SQL over their table.

    What was declared since the last of them was landed has no column yet. Nobody was served with such a
    feature, so it is left out; a key or a request column stands as null.

    Args:
        spec: The model.
        held: The columns that the table has.
    """
    needed = {**_asked(spec), **ONLINE_COLUMNS}
    found = ["prediction_id", "model_version", PREDICTED_AT]
    found += [i.name for i in spec.inputs if i.source != "request" and i.name in held]
    return [identifier(name) for name in found] + [
        identifier(name) if name in held else f"null::{kind} as {identifier(name)}"
        for name, kind in needed.items()
    ]
