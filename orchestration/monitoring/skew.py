"""Skew: were the features that a model was served with the ones that history says were known?

Online predictions keep the values they were made from. The same features are computed again, as they were
known when each prediction was made, and compared value by value; training learns from the latter. What
belongs here: the comparison. What does not: computing features (``orchestration.feature_store``).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import duckdb
import pyarrow as pa

from orchestration.declarations import SkewWatch
from orchestration.feature_store.offline import get_historical_features
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.spec import Input, ModelSpec
from orchestration.sql import identifier

PREDICTED_AT = "predicted_at"
"""When a prediction was made, of whatever instant it is: what was known then is what was served."""
_ROW, _ASKED_AT = "_skew_row", "_asked_at"


@dataclass(frozen=True)
class ColumnSkew:
    """Of how many compared predictions a feature's value differs; ``late`` of them had what held before.

    ``example`` is the first prediction that differs, ``online`` and ``offline`` its values as text.
    """

    column_name: str
    source: str
    rows: int
    differences: int
    late: int
    example: str | None
    online: str | None
    offline: str | None

    @property
    def alarm(self) -> bool:
        """Whether any value differs that is not merely late, as declared."""
        return self.differences > self.late


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
        A line for each stored and each on-demand feature; none without predictions.
    """
    inputs = [i for i in spec.inputs if i.source != "request" and i.name in features]
    if not served.num_rows or not inputs:
        return []
    found = _known(spec, catalog, lakehouse, served, timedelta(0))
    before = None if not watch.lag else _known(spec, catalog, lakehouse, served, watch.lag)
    with duckdb.connect() as con:
        con.register("served", _numbered(served))
        con.register("found", _numbered(found))
        if before is not None:
            con.register("before", _numbered(before))
        return [_compared(con, column, served.num_rows, before is not None) for column in inputs]


def _known(
    spec: ModelSpec, catalog: Catalog, lakehouse: LakehouseResource, served: pa.Table, lag: timedelta
) -> pa.Table:
    """The model's features as they were known ``lag`` before each prediction."""
    keys = [name for wanted in spec.service.features for name in wanted.role.join_keys]
    needed = dict.fromkeys([PREDICTED_AT, *keys, *spec.service.declared.request])
    spine = served.select(list(needed))
    with duckdb.connect() as con:
        con.register("spine", spine)
        con.execute("set timezone = 'UTC'")
        seconds = int(lag.total_seconds())
        spine = con.execute(
            f"select * exclude ({PREDICTED_AT}), "
            f"{PREDICTED_AT} - interval '{seconds} seconds' as {_ASKED_AT} from spine"
        ).to_arrow_table()
    return get_historical_features(
        catalog, lakehouse, spine, spec.service.name, event_timestamp=_ASKED_AT, full_feature_names=True
    ).to_arrow()


def _numbered(rows: pa.Table) -> pa.Table:
    return rows.append_column(_ROW, pa.array(range(rows.num_rows), pa.int64()))


def _compared(con: duckdb.DuckDBPyConnection, column: Input, rows: int, has_before: bool) -> ColumnSkew:
    name, kind = identifier(column.name), column.data_type
    online, offline = f"served.{name}::{kind}", f"found.{name}::{kind}"
    late = f"not ({online} is distinct from before.{name}::{kind})" if has_before else "false"
    join = f"join before using ({_ROW})" if has_before else ""
    count, late_count, example, first, second = con.execute(
        f"select count(*), coalesce(count_if({late}), 0), first(served.prediction_id order by {_ROW}), "
        f"first({online}::varchar order by {_ROW}), first({offline}::varchar order by {_ROW}) "
        f"from served join found using ({_ROW}) {join} where {online} is distinct from {offline}"
    ).fetchall()[0]
    return ColumnSkew(column.name, column.source, rows, int(count), int(late_count), example, first, second)


def served_columns(spec: ModelSpec) -> Sequence[str]:
    """The columns of predictions that the comparison needs."""
    keys = [name for wanted in spec.service.features for name in wanted.role.join_keys]
    return list(
        dict.fromkeys(
            [
                "prediction_id",
                "model_version",
                PREDICTED_AT,
                *keys,
                *spec.service.declared.request,
                *(i.name for i in spec.inputs),
            ]
        )
    )
