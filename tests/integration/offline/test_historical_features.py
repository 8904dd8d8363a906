"""What callers of ``get_historical_features`` may give, what they get, and what they are told."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.declarations import (
    Exposure,
    ExposureMeta,
    FeatureService,
    OnDemandFeature,
    RequestColumn,
    RoleView,
)
from orchestration.feature_store.offline import EntityColumnError, get_historical_features
from orchestration.feature_store.views import Catalog, Service, UnknownFeatureError, resolve_role
from orchestration.lakehouse import current_snapshot
from orchestration.settings import PROJECT_DIR
from tests.integration.offline.conftest import Works, make_catalog
from tests.integration.offline.histories import histories
from tests.integration.offline.oracle import OracleView, join

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
INSTANT = pa.timestamp("us", "UTC")


def tank(
    pump: str | None, level: int | None, known_at: datetime = NOON, site: int | None = 1, note: str = "n"
):
    return {"pump": pump, "site": site, "level": level, "note": note, "known_at": known_at}


def wear(pump: str, share: float, known_at: datetime = NOON):
    return {"pump": pump, "share": share, "known_at": known_at}


@pytest.fixture
def filled(works: Works) -> Works:
    works.fill(
        tank=[tank("alder", 1), tank("alder", 2, NOON + HOUR), tank("birch", 7), tank(None, 9)],
        wear=[wear("alder", 0.5), wear("birch", 0.25)],
    )
    return works


def spine(*rows: tuple[str | None, int | None, datetime], **extra: list) -> pa.Table:
    return pa.table(
        {
            "pump": pa.array([r[0] for r in rows], pa.string()),
            "site": pa.array([r[1] for r in rows], pa.int32()),
            "event_timestamp": pa.array([r[2] for r in rows], INSTANT),
            **extra,
        }
    )


def ask(works: Works, entity_df, features, **options):
    catalog = options.pop("catalog", make_catalog())
    return get_historical_features(catalog, works.lakehouse, entity_df, features, **options)


ROWS = [
    ("birch", 1, NOON),
    ("alder", 1, NOON + HOUR),
    (None, 1, NOON),
    ("alder", 1, NOON),
    ("birch", 1, NOON),
]
LEVELS = [7, 2, None, 1, 7]


@pytest.mark.parametrize("form", ["arrow", "batch", "pandas", "polars", "file", "path", "folder", "sql"])
def test_rows_come_out_as_they_went_in_whatever_form_they_have(filled, tmp_path: Path, form: str) -> None:
    table = spine(*ROWS, order_no=list(range(5)))
    file = tmp_path / "spine.parquet"
    pq.write_table(table, file)
    values = ", ".join(
        f"({n}, {'null' if pump is None else repr(pump)}, {site}, timestamptz '{at.isoformat()}')"
        for n, (pump, site, at) in enumerate(ROWS)
    )
    given_rows = {
        "arrow": table,
        "batch": table.to_batches()[0],
        "pandas": table.to_pandas(),
        "polars": pl.from_arrow(table),
        "file": str(file),
        "path": file,
        "folder": tmp_path,
        "sql": f"select * from (values {values}) as t (order_no, pump, site, event_timestamp) order by order_no",
    }[form]
    job = ask(filled, given_rows, ["tank:level", "wear:share"])
    assert job.to_arrow().column("level").to_pylist() == LEVELS
    assert job.to_arrow().column("order_no").to_pylist() == [0, 1, 2, 3, 4]
    assert set(job.to_arrow().column_names) == {*table.column_names, "level", "share"}
    frame = job.to_df()
    assert isinstance(frame, pd.DataFrame)
    assert frame["order_no"].tolist() == [0, 1, 2, 3, 4]
    assert job.to_polars()["level"].to_list() == LEVELS


def test_sql_reads_the_lakehouse(filled) -> None:
    sql = "select pump, known_at as event_timestamp from features.wear order by pump"
    assert ask(filled, sql, ["wear:share"]).to_arrow().column("share").to_pylist() == [0.5, 0.25]


def test_many_rows_keep_their_order(filled) -> None:
    rows = [("alder" if n % 3 else "birch", 1, NOON + n % 120 * MINUTE) for n in range(50_000)]
    found = ask(filled, spine(*rows, n=list(range(50_000))), ["tank:level"]).to_arrow()
    assert found.column("n").to_pylist() == list(range(50_000))
    expected = [
        (2 if n % 120 >= 60 else 1) if n % 3 else (7 if n % 120 <= 60 else None) for n in range(50_000)
    ]
    assert found.column("level").to_pylist() == expected


@pytest.mark.parametrize(
    ("micros_after", "level"),
    [(-1, None), (0, 1), (1, 1), (3_600_000_000, 1), (3_600_000_001, None)],
)
def test_a_value_holds_from_its_instant_up_to_and_at_the_end_of_its_ttl(works, micros_after, level) -> None:
    works.fill(tank=[tank("alder", 1)])
    rows = spine(("alder", 1, NOON + timedelta(microseconds=micros_after)))
    assert ask(works, rows, ["tank:level"]).to_arrow().column("level").to_pylist() == [level]


def test_no_rows_give_no_rows(filled) -> None:
    found = ask(filled, spine(), ["tank:level"]).to_arrow()
    assert found.num_rows == 0
    assert found.schema.field("level").type == pa.int64()


def test_a_view_in_two_roles(filled) -> None:
    catalog = make_catalog()
    roles = {
        "first": RoleView(view="wear", join_keys={"pump": "pump"}),
        "second": resolve_role(catalog, "second", RoleView(view="wear", join_keys={"pump": "the twin"})),
    }
    table = spine(("alder", 1, NOON), ("birch", 1, NOON)).append_column("the twin", [["birch", None]])
    found = ask(
        filled, table, ["first:share", "second:share"], roles=roles, full_feature_names=True
    ).to_arrow()
    assert found.column("first__share").to_pylist() == [0.5, 0.25]
    assert found.column("second__share").to_pylist() == [0.25, None]


def pump_service(catalog: Catalog) -> Catalog:
    declared = FeatureService(
        features=("tank:level", "twin:share"),
        roles={"twin": RoleView(view="wear", join_keys={"pump": "twin"})},
        request={"demand": RequestColumn(data_type="integer", description="Wanted.")},
        on_demand={
            "shortage": OnDemandFeature(
                expression="demand - tank__level", data_type="bigint", description="Missing."
            )
        },
    )
    meta = ExposureMeta(owner="team:operators", feature_service=declared)
    exposure = Exposure("exposure.x.pumps", "pumps", "ml", "Pumps.", "models/x.yml", meta, ())
    twin = resolve_role(catalog, "twin", declared.roles["twin"])
    features = catalog.resolve(declared.features, {"twin": twin})
    return Catalog(catalog.views, {"pumps": Service("pumps", exposure, declared, features)})


def test_a_service_brings_its_roles_and_computes_its_on_demand_features(filled) -> None:
    catalog = pump_service(make_catalog())
    table = spine(("alder", 1, NOON), twin=["birch"], demand=[5])
    found = ask(filled, table, "pumps", catalog=catalog, full_feature_names=True).to_arrow()
    (row,) = found.select(["tank__level", "twin__share", "shortage"]).to_pylist()
    assert row == {"tank__level": 1, "twin__share": 0.25, "shortage": 4}
    with pytest.raises(EntityColumnError, match="no column demand, expected one: it is a request column"):
        ask(filled, table.drop_columns("demand"), "pumps", catalog=catalog)


def test_as_of_forgets_what_became_known_later(filled) -> None:
    rows = spine(("alder", 1, NOON + HOUR))
    early = ask(filled, rows, ["tank:level"], as_of=NOON + 59 * MINUTE)
    assert early.to_arrow().column("level").to_pylist() == [1]
    assert ask(filled, rows, ["tank:level"], as_of=NOON + HOUR).to_arrow().column("level").to_pylist() == [2]


def test_a_snapshot_shows_what_the_lakehouse_held(works) -> None:
    works.fill(wear=[wear("alder", 0.5)], tank=[])
    with works.lakehouse.reader() as con:
        before = current_snapshot(con)
    works.fill(wear=[wear("alder", 0.75)])
    rows = spine(("alder", 1, NOON))
    assert ask(works, rows, ["wear:share"]).to_arrow().column("share").to_pylist() == [0.75]
    old = ask(works, rows, ["wear:share"], snapshot=before)
    assert old.to_arrow().column("share").to_pylist() == [0.5]


def test_other_zones_and_units_of_an_instant_mean_the_same(filled) -> None:
    local = [
        datetime(2013, 7, 1, 8, tzinfo=ZoneInfo("America/New_York")),
        NOON.astimezone(timezone(5 * HOUR)),
    ]
    frame = pd.DataFrame({"pump": ["alder"] * 2, "site": [1, 1], "event_timestamp": local})
    assert ask(filled, frame, ["tank:level"]).to_df()["level"].tolist() == [1, 1]
    for unit in ("s", "ms", "us", "ns"):
        at = pa.array([NOON], pa.timestamp(unit, "America/New_York"))
        table = pa.table({"pump": ["alder"], "site": [1], "event_timestamp": at})
        assert ask(filled, table, ["tank:level"]).to_arrow().column("level").to_pylist() == [1]


def test_keys_of_a_like_type_are_taken_as_declared(filled) -> None:
    dictionary = pa.array(["alder"]).dictionary_encode()
    at = pa.array([NOON], INSTANT)
    for site, level in ((pa.array([1], pa.int8()), 1), (pa.array([2**40]), None), (pa.nulls(1), None)):
        table = pa.table({"pump": dictionary, "site": site, "event_timestamp": at})
        assert ask(filled, table, ["tank:level"]).to_arrow().column("level").to_pylist() == [level]


def test_a_key_that_its_type_cannot_hold_is_an_error_where_nulls_match(filled) -> None:
    table = pa.table({"pump": ["alder"], "site": [2**40], "event_timestamp": pa.array([NOON], INSTANT)})
    with pytest.raises(
        EntityColumnError, match="site: found 1 values that integer cannot hold, the first in row 0"
    ):
        ask(filled, table, ["tank:level"], catalog=make_catalog(null_keys="match"))


@pytest.mark.parametrize(
    ("declared", "value", "found"),
    [
        ("decimal(6, 2)", pa.array([Decimal("1.005")]), None),
        ("decimal(6, 2)", pa.array([Decimal("1.500")]), Decimal("1.50")),
        ("decimal(4, 1)", pa.array([Decimal("99999.5")]), None),
        ("tinyint", pa.array([300]), None),
        ("integer", pa.array([300]), 300),
        ("double", pa.array([Decimal("0.1")]), 0.1),
    ],
)
def test_a_request_column_is_converted_exactly_or_refused(filled, declared: str, value, found) -> None:
    catalog = make_catalog()
    service = FeatureService(
        features=("tank:level",),
        request={"amount": RequestColumn(data_type=declared, description="It.")},
        on_demand={"same": OnDemandFeature(expression="amount", data_type=declared, description="It.")},
    )
    exposure = Exposure(
        "e", "s", "ml", "", "e.yml", ExposureMeta(owner="team:a", feature_service=service), ()
    )
    served = Service("s", exposure, service, catalog.resolve(["tank:level"]))
    table = spine(("alder", 1, NOON), amount=value)
    asked = partial(ask, filled, table, "s", catalog=Catalog(catalog.views, {"s": served}))
    if found is None:
        with pytest.raises(
            EntityColumnError, match=r"amount: found 1 values that .* cannot hold, the first in row 0"
        ):
            asked()
    else:
        assert asked().to_arrow().column("same").to_pylist() == [found]


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame({"pump": ["alder"], "site": [1], "event_timestamp": [NOON]} | columns)


@pytest.mark.parametrize(
    ("entity_df", "fault"),
    [
        (frame().drop(columns="pump"), "no column pump, expected one: it is the entity key pump of tank"),
        (frame().drop(columns="event_timestamp"), "no column event_timestamp, .* the prediction time"),
        (frame(site=["one"]), "site: found VARCHAR, expected INTEGER"),
        (frame(site=[1.5]), "site: found DOUBLE, expected INTEGER"),
        (frame(pump=[1]), "pump: found BIGINT, expected VARCHAR"),
        (frame(event_timestamp=[NOON.replace(tzinfo=None)]), "a naive timestamp tells no instant"),
        (frame(event_timestamp=[date(2013, 7, 1)]), "event_timestamp: found DATE"),
        (frame(event_timestamp=["2013-07-01T12:00:00Z"]), "event_timestamp: found VARCHAR"),
        (frame(event_timestamp=pd.to_datetime([None], utc=True)), "found 1 rows without a value"),
        (frame(level=[1]), "tank__level: found a column level of entity_df, .*full_feature_names=True"),
        (frame(Level=[1]), "tank__level: found a column Level of entity_df"),
        (pa.table([[1], [2]], names=["pump", "pump"]), "found pump twice"),
    ],
)
def test_a_wrong_entity_df_says_what_was_found_and_expected(filled, entity_df, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ask(filled, entity_df, ["tank:level"])


def test_two_features_of_one_name_need_full_names(filled) -> None:
    roles = {"twin": RoleView(view="wear", join_keys={"pump": "pump"})}
    asked = {"features": ["wear:share", "twin:share"], "roles": roles}
    with pytest.raises(EntityColumnError, match="twin__share: found a feature wear__share of that name"):
        ask(filled, frame(), **asked)
    assert len(ask(filled, frame(), **asked, full_feature_names=True).to_df().columns) == 5


def test_what_is_not_declared_is_said_with_what_is(filled) -> None:
    with pytest.raises(UnknownFeatureError, match="did you mean tank"):
        ask(filled, frame(), ["tonk:level"])
    with pytest.raises(UnknownFeatureError, match="feature service pumps"):
        ask(filled, frame(), "pumps")
    with pytest.raises(ValueError, match="features: found none"):
        ask(filled, frame(), [])
    with pytest.raises(ValueError, match="roles: found some beside a feature service"):
        ask(filled, frame(), "pumps", roles={"x": RoleView(view="wear", join_keys={"pump": "pump"})})
    with pytest.raises(ValueError, match="expected a name for each of pump"):
        ask(filled, frame(), ["x:share"], roles={"x": RoleView(view="wear", join_keys={"pomp": "pump"})})
    with pytest.raises(ValueError, match=r"as_of: found .*, expected an instant"):
        ask(filled, frame(), ["tank:level"], as_of=datetime(2013, 7, 1))
    with pytest.raises(TypeError, match=r"found builtins\.int, expected a pandas or polars"):
        ask(filled, 1, ["tank:level"])
    with pytest.raises(FileNotFoundError):
        ask(filled, "no such.parquet", ["tank:level"])


def test_neither_pandas_nor_polars_is_imported_before_somebody_asks() -> None:
    script = "import sys, orchestration.feature_store.offline; print({'pandas', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT_DIR)
    assert done.stdout.strip() == "set()"


@given(history=histories(), null_keys=st.sampled_from(["reject", "match"]))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_each_row_gets_what_was_known_at_its_instant(works, history, null_keys) -> None:
    works.fill(tank=history["composite"], wear=history["single"])
    fields = {
        "id": pa.int64(),
        "pump": pa.string(),
        "twin": pa.string(),
        "site": pa.int32(),
        "asked_at": INSTANT,
    }
    rows = pa.Table.from_pylist(history["spine"], schema=pa.schema(fields))
    as_of = None if len(history["spine"]) % 2 else datetime(2013, 11, 3, 6, tzinfo=UTC)
    found = get_historical_features(
        make_catalog(history["ttl"], null_keys),
        works.lakehouse,
        rows,
        ["tank:*", "twin:share"],
        roles={"twin": RoleView(view="wear", join_keys={"pump": "twin"})},
        event_timestamp="asked_at",
        as_of=as_of,
        full_feature_names=True,
    ).to_arrow()
    matching = null_keys == "match"
    views = {
        "tank": OracleView(
            history["composite"],
            {"pump": "pump", "site": "site"},
            history["ttl"],
            ("level", "note"),
            matching,
        ),
        "twin": OracleView(history["single"], {"pump": "twin"}, HOUR, ("share",), matching),
    }
    expected = [
        {k: v for k, v in row.items() if not k.endswith("__known_at")}
        for row in join(history["spine"], "asked_at", views, as_of)
    ]
    assert [dict(row) for row in found.to_pylist()] == expected
