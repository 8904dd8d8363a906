"""Every form of ``entity_df`` gets the same features; anything else is refused with a message."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.feature_store.offline import EntityColumnError, get_historical_features
from orchestration.feature_store.online.keys import EntityKeys, EntityTypeError
from orchestration.feature_store.views import Catalog
from orchestration.learning.serving.predictor import Asked
from tests.integration.offline.conftest import Works, make_catalog
from tests.model_works import make_spec

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
INSTANT = pa.timestamp("us", "UTC")
ROWS = [
    {"pump": "alder", "site": 1, "event_timestamp": NOON},
    {"pump": None, "site": 1, "event_timestamp": NOON},
    {"pump": "birch", "site": 2, "event_timestamp": NOON},
    {"pump": "birch", "site": None, "event_timestamp": NOON},
]
LEVELS = [1, None, 7, None]


@pytest.fixture(scope="module", autouse=True)
def filled(works: Works) -> None:
    known = {"known_at": NOON - timedelta(minutes=5), "note": "n"}
    works.fill(
        tank=[
            {"pump": "alder", "site": 1, "level": 1, **known},
            {"pump": "birch", "site": 2, "level": 7, **known},
        ],
        wear=[{"pump": "alder", "share": 0.5, "known_at": NOON}],
    )


def levels(works: Works, entity_df, catalog: Catalog | None = None, **options):
    found = get_historical_features(
        catalog or make_catalog(), works.lakehouse, entity_df, ["tank:level"], **options
    )
    return found.to_arrow().column("level").to_pylist()


def table() -> pa.Table:
    schema = pa.schema({"pump": pa.string(), "site": pa.int32(), "event_timestamp": INSTANT})
    return pa.Table.from_pylist(ROWS, schema=schema)


def relation():
    rows = table()
    return duckdb.connect().from_arrow(rows)


FORMS = {
    "list of dicts": lambda: ROWS,
    "list of dicts, the first without a key": lambda: [
        {k: v for k, v in row.items() if v is not None} for row in (ROWS[1], *ROWS)
    ],
    "dict of lists": lambda: {name: [row[name] for row in ROWS] for name in ROWS[0]},
    "lazy frame": lambda: pl.DataFrame(table()).lazy(),
    "polars": lambda: pl.DataFrame(table()),
    "reader": lambda: table().to_reader(),
    "relation": relation,
    "pandas": lambda: table().to_pandas(),
    "chunks": lambda: pa.concat_tables([table().slice(0, 1), table().slice(1)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_rows_gets_the_same_features(works: Works, form: str) -> None:
    found = levels(works, FORMS[form]())
    assert found == ([None, *LEVELS] if "first" in form else LEVELS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x.csv", "found the text 'x.csv', which is neither a SQL query nor the path of a Parquet file"),
        ("data/rows of today.jsonl", "which is neither a SQL query"),
        ("spine", "which is neither a SQL query"),
        ([1], r"\[0\]: found int, expected a dict of values by column"),
        ([{"pump": "alder"}, {"pump": 1}], "pump: found values of different types"),
        ({"pump": ["a"], "site": []}, "found columns of different lengths .0, 1., expected one length"),
        (pd.DataFrame({"pump": ["a", 1]}), "found a DataFrame that Arrow cannot hold"),
        (np.zeros(3), r"found numpy\.ndarray, expected a pandas or polars DataFrame"),
        (None, r"found builtins\.NoneType, expected"),
    ],
)
def test_a_value_without_rows_is_refused_with_a_message(works: Works, given, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as refused:
        levels(works, given)
    assert str(refused.value).startswith("entity_df: ")


def test_a_file_that_is_not_parquet_is_refused_by_its_path(works: Works, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("pump,site\nalder,1\n")
    with pytest.raises(ValueError, match=r"entity_df: found .*rows\.csv, which is not a Parquet file"):
        levels(works, file)


def test_key_value_folders_in_a_path_are_not_columns(works: Works, tmp_path: Path) -> None:
    folder = tmp_path / "pump=birch" / "site=2"
    folder.mkdir(parents=True)
    pq.write_table(table(), folder / "rows.parquet")
    for path in (folder / "rows.parquet", str(folder / "rows.parquet"), tmp_path):
        assert levels(works, path) == LEVELS


def test_sql_may_begin_with_a_comment_or_from(works: Works) -> None:
    rows = "values ('alder', 1, timestamptz '2013-07-01 12:00:00+00')"
    for query in (
        f"-- one\nfrom ({rows}) t(pump, site, event_timestamp)",
        f"/* one */ (select * from ({rows}) t(pump, site, event_timestamp))",
        "select null as pump, null as site, timestamptz '2013-07-01 12:00:00+00' as event_timestamp",
    ):
        assert levels(works, query) == [None if "null" in query else 1]


NULLS = {
    "arrow": lambda count, at: pa.table(
        {"pump": pa.nulls(count), "site": pa.nulls(count), "event_timestamp": pa.array(at, INSTANT)}
    ),
    "dictionary": lambda count, at: pa.table(
        {
            "pump": pa.nulls(count).dictionary_encode(),
            "site": pa.nulls(count),
            "event_timestamp": pa.array(at, INSTANT),
        }
    ),
    "polars": lambda count, at: pl.DataFrame(
        {
            "pump": pl.Series([None] * count, dtype=pl.Null),
            "site": pl.Series([None] * count, dtype=pl.Null),
            "event_timestamp": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
        }
    ),
    "pandas": lambda count, at: pd.DataFrame(
        {
            "pump": pd.Series([None] * count, dtype=object),
            "site": pd.Series([None] * count, dtype=object),
            "event_timestamp": pd.Series(at, dtype="datetime64[us, UTC]"),
        }
    ),
}


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("form", NULLS)
def test_columns_of_nulls_fit_every_key_and_get_null_features(works: Works, form: str, count: int) -> None:
    assert levels(works, NULLS[form](count, [NOON] * count)) == [None] * count


def test_an_empty_frame_of_columns_without_a_type_is_answered(works: Works) -> None:
    for empty in (
        pd.DataFrame({"pump": [], "site": [], "event_timestamp": []}),
        pa.table({name: pa.nulls(0) for name in ("pump", "site", "event_timestamp")}),
        pl.DataFrame({"pump": [], "site": [], "event_timestamp": []}),
        {"pump": [], "site": [], "event_timestamp": []},
    ):
        assert levels(works, empty) == []
    with pytest.raises(EntityColumnError, match="event_timestamp: found 2 rows without a value"):
        levels(works, pa.table({name: pa.nulls(2) for name in ("pump", "site", "event_timestamp")}))


def test_the_index_of_a_pandas_frame_is_kept(works: Works) -> None:
    frame = table().to_pandas().set_index(pd.Index([7, 3, 3, 9], name="row"))
    found = get_historical_features(make_catalog(), works.lakehouse, frame, ["tank:level", "wear:share"])
    assert found.to_df().index.equals(frame.index)
    assert found.to_df().index.name == "row"
    filtered = table().to_pandas().iloc[[2, 0]]
    levels_by_index = get_historical_features(make_catalog(), works.lakehouse, filtered, ["tank:level"])
    assert levels_by_index.to_df()["level"].to_dict() == {2: 7, 0: 1}


ASKED = Asked(make_spec())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(
        st.integers(-3, 3).map(float),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([2.0**31, 2.0**53, 2.0**53 + 2, -0.0, 1.5]),
    )
)
def test_a_float_is_an_integer_key_offline_online_and_in_a_request_or_nowhere(
    works: Works, value: float
) -> None:
    view = make_catalog().view("tank")
    whole = value.is_integer() and abs(value) <= 2**53
    fits = whole and -(2**31) <= value < 2**31
    entity = pa.table({"pump": ["alder"], "site": [value], "event_timestamp": pa.array([NOON], INSTANT)})
    if whole:
        assert levels(works, entity) == [1 if value == 1 else None]
    else:
        with pytest.raises(EntityColumnError, match="site: found DOUBLE, expected INTEGER"):
            levels(works, entity)
    keys = EntityKeys(view)
    accepted = ASKED.checked({"demand": [value]})["demand"] if fits else None
    if fits:
        assert keys.encode([["alder"], [value]]) == keys.encode([["alder"], [int(value)]])
        assert accepted == [int(value)]
        return
    with pytest.raises(EntityTypeError):
        keys.encode([["alder"], [value]])
    with pytest.raises(ValueError, match="demand: row 0 is a"):
        ASKED.checked({"demand": [value]})


def test_decimals_are_never_integer_keys(works: Works) -> None:
    with pytest.raises(EntityColumnError, match="site: found DECIMAL"):
        levels(works, [{"pump": "alder", "site": Decimal("1.0"), "event_timestamp": NOON}])
    with pytest.raises(EntityTypeError):
        EntityKeys(make_catalog().view("tank")).encode([["alder"], [Decimal(1)]])


def test_reprs_are_short() -> None:
    catalog = make_catalog()
    assert repr(catalog) == "Catalog(2 views, 0 services)"
    assert repr(catalog.view("tank")) == "View(tank, entity pump, site, 2 features)"
    assert len(repr(make_spec().service)) < 100
