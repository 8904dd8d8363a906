"""What a caller gets: values as they are stored, each with what it means, under the names asked for."""

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from orchestration.declarations import Exposure, ExposureMeta
from orchestration.feature_store.online.encoding import SchemaMismatchError, UnsupportedTypeError
from orchestration.feature_store.online.keys import EntityTypeError
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.on_demand import OnDemandError
from orchestration.feature_store.online.reading import (
    FeatureNameError,
    OnlineReader,
    RequestValueError,
    Status,
    UnservedViewError,
)
from orchestration.feature_store.online.store import NotMaterializedError
from orchestration.feature_store.views import Catalog, Role, Service, UnknownFeatureError
from orchestration.settings import Clock
from tests.integration.feature_store.lakes import VIEW, Lake, at
from tests.unit.feature_store.views import make_view

PRESENT, NULL, MISSING, OLD = Status.PRESENT, Status.NULL_VALUE, Status.NOT_FOUND, Status.OUTSIDE_MAX_AGE
ALL = ["levels:level", "levels:note", "levels:count"]
UP, DOWN = Role("up", VIEW, ("up_pump", "up_pipe")), Role("down", VIEW, ("down_pump", "down_pipe"))


def service(name="pressure", **declared):
    """A service over two roles of the view: of the pump above and of the pump below."""
    meta = ExposureMeta.model_validate({
        "owner": "team:tests",
        "feature_service": {
            "features": ["up:level", "down:level", "down:note"],
            "roles": {
                "up": {"view": "levels", "join_keys": {"pump": "up_pump", "pipe": "up_pipe"}},
                "down": {"view": "levels", "join_keys": {"pump": "down_pump", "pipe": "down_pipe"}},
            },
            **declared,
        },
    })  # fmt: skip
    exposure = Exposure("exposure.x", name, "ml", "A model.", "models/x.yml", meta, ())
    wanted = Catalog({VIEW.name: VIEW}).resolve(meta.feature_service.features, {"up": UP, "down": DOWN})
    return Service(name, exposure, meta.feature_service, wanted)


def fill(folder, store):
    lake = Lake(folder)
    lake.insert(("a", 1, 10, 1.5, "x", 7), ("a", 2, 9, "nan", None, None), ("b", 1, 4, 0, "", 0))
    lake.materialize(store)
    lake.con.close()
    return store


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store of three entities; no test writes to it."""
    folder = tmp_path_factory.mktemp("filled")
    return fill(folder / "data", LmdbStore(folder / "online"))


@pytest.fixture
def filled_anywhere(tmp_path, any_store):
    return fill(tmp_path / "data", any_store)


def reader(store, hours=10, *services, view=VIEW):
    return OnlineReader(Catalog({view.name: view}, {s.name: s for s in services}), store, Clock(at(hours)))


def row(pump, pipe):
    return {"pump": pump, "pipe": pipe}


def test_values_come_with_status_and_timestamp(filled_anywhere):
    answer = reader(filled_anywhere).get_online_features(
        ALL, [row("a", 1), row("a", 2), row("b", 1), row("z", 1), row("a", None)]
    )
    assert answer.feature_names == ["pump", "pipe", "level", "note", "count"]
    pump, pipe, level, note, count = answer.values
    assert (pump, pipe) == (["a", "a", "b", "z", "a"], [1, 2, 1, 1, None])
    assert math.isnan(level.pop(1))
    assert (level, note, count) == (
        [1.5, 0.0, None, None],
        ["x", None, "", None, None],
        [7, None, 0, None, None],
    )
    assert answer.statuses == [
        [PRESENT] * 5,
        [PRESENT] * 4 + [NULL],
        [PRESENT, PRESENT, PRESENT, MISSING, MISSING],
        [PRESENT, NULL, PRESENT, MISSING, MISSING],
        [PRESENT, NULL, PRESENT, MISSING, MISSING],
    ]
    assert answer.event_timestamps[0] == [None] * 5
    assert answer.event_timestamps[2:] == [[at(10), at(9), at(4), None, None]] * 3


def test_columns_may_be_given_instead_of_rows_and_asked_for_in_any_order(filled):
    answer = reader(filled).get_online_features(
        ["levels:count", "levels:level"],
        {"pipe": [1, 1], "pump": ["b", "a"], "more": ["is", "ignored"]},
        full_feature_names=True,
    )
    assert answer.to_dict() == {
        "pump": ["b", "a"], "pipe": [1, 1], "levels__count": [0, 7], "levels__level": [0.0, 1.5],
    }  # fmt: skip
    assert answer.to_dict(include_event_timestamps=True)["levels__count__ts"] == [at(4), at(10)]


def test_all_features_of_a_view(filled):
    answer = reader(filled).get_online_features(["levels:*"], [row("b", 1)])
    assert answer.to_dict() == {"pump": ["b"], "pipe": [1], "level": [0.0], "note": [""], "count": [0]}


def test_values_hold_for_the_ttl_to_the_microsecond(filled):
    assert timedelta(hours=6) == VIEW.ttl
    for now, status in [(at(10), PRESENT), (at(10) + timedelta(microseconds=1), OLD)]:
        answer = OnlineReader(Catalog({"levels": VIEW}), filled, Clock(now)).get_online_features(
            ["levels:note", "levels:level"], [row("b", 1), row("a", 1)]
        )
        assert answer.statuses[2:] == [[status, PRESENT]] * 2
        assert answer.values[3] == [0.0 if status is PRESENT else None, 1.5]
        assert answer.event_timestamps[2] == [at(4), at(10)], "an expired value still says of when it was"


def test_no_entities_give_an_empty_answer(filled):
    answer = reader(filled).get_online_features(ALL, [])
    assert (answer.values, answer.statuses) == ([[]] * 5, [[]] * 5)
    assert answer.event_timestamps == [[]] * 5


def test_async_answers_are_the_same(filled_anywhere):
    rows = [row("a", 1), row("z", 1)]
    served = reader(filled_anywhere, 10, service())
    plain = served.get_online_features(ALL, rows)
    answer = asyncio.run(served.get_online_features_async(ALL, rows))
    assert (answer.to_dict(), answer.statuses) == (plain.to_dict(), plain.statuses)
    assert answer.event_timestamps == plain.event_timestamps


def test_a_service_reads_one_view_in_several_roles(filled_anywhere):
    rows = [
        {"up_pump": "a", "up_pipe": 1, "down_pump": "b", "down_pipe": 1},
        {"up_pump": "z", "up_pipe": 1, "down_pump": "a", "down_pipe": 1},
    ]
    answer = reader(filled_anywhere, 10, service()).get_online_features(
        "pressure", rows, full_feature_names=True
    )
    assert answer.to_dict() == {
        "up_pump": ["a", "z"], "up_pipe": [1, 1], "down_pump": ["b", "a"], "down_pipe": [1, 1],
        "up__level": [1.5, None], "down__level": [0.0, 1.5], "down__note": ["", "x"],
    }  # fmt: skip
    assert answer.statuses[4] == [PRESENT, MISSING]
    assert answer.event_timestamps[4:6] == [[at(10), None], [at(4), at(10)]]


def test_two_features_of_one_name_need_full_names(filled):
    with pytest.raises(FeatureNameError, match="found level twice"):
        reader(filled, 10, service()).get_online_features("pressure", [])


REQUEST = {"asked_at": {"data_type": "timestamptz", "description": "When."},
           "factor": {"data_type": "decimal(4,2)", "description": "What."}}  # fmt: skip
ON_DEMAND = {
    "drop": {"expression": "(up__level - down__level) * factor", "data_type": "double", "description": "d"},
    "age": {"expression": "date_diff('minute', timestamptz '2024-01-01', asked_at)", "data_type": "bigint",
            "description": "d"},
    "text": {"expression": "coalesce(down__note, 'none') || factor", "data_type": "varchar", "description": "d"},
}  # fmt: skip
ENTITIES = {
    "up_pump": ["a", "z", "a"],
    "up_pipe": [1, 1, 2],
    "down_pump": ["b", "a", "b"],
    "down_pipe": [1, 1, 1],
}


def test_on_demand_features_are_what_the_same_sql_gives_over_the_same_values(filled):
    served = reader(filled, 10, service(request=REQUEST, on_demand=ON_DEMAND))
    given = {"asked_at": ["2024-01-01T12:30:00+00:00", at(1), None], "factor": ["1.10", 2, 0.5]}
    answer = served.get_online_features("pressure", ENTITIES | given, full_feature_names=True).to_dict()
    assert answer["asked_at"] == given["asked_at"]
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        con.execute(
            "create table joined as select * from (values (1.5::double, 0::double, '', "
            "timestamptz '2024-01-01 12:30:00+00', 1.1::decimal(4,2)), (null, 1.5::double, 'x', "
            "timestamptz '2024-01-01 01:00:00+00', 2::decimal(4,2)), ('nan'::double, 0::double, '', null, "
            "0.5::decimal(4,2))) t(up__level, down__level, down__note, asked_at, factor)"
        )
        select = ", ".join(f"cast({f['expression']} as {f['data_type']})" for f in ON_DEMAND.values())
        expected = con.execute(f"select {select} from joined").fetchall()
    found = list(zip(*(answer[name] for name in ON_DEMAND), strict=True))
    assert repr(found) == repr(expected)
    assert found[0] == (1.5 * 1.1, 750, "1.10")
    assert found[1][0] is None


def test_a_service_of_expired_values_computes_with_nulls(filled):
    served = reader(filled, 100, service(request=REQUEST, on_demand=ON_DEMAND))
    given = ENTITIES | {"asked_at": [at(1)] * 3, "factor": [1] * 3}
    answer = served.get_online_features("pressure", given, full_feature_names=True)
    assert answer.to_dict()["text"] == ["none1.00"] * 3
    assert answer.statuses[answer.feature_names.index("drop")] == [NULL] * 3


@pytest.mark.parametrize("value", ["soon", [1], 5])
def test_a_request_value_of_another_type_is_refused_and_not_shown(filled, value):
    served = reader(filled, 10, service(request=REQUEST, on_demand=ON_DEMAND))
    given = ENTITIES | {"asked_at": [at(1), value, None], "factor": [1] * 3}
    with pytest.raises(RequestValueError, match="request value asked_at: found a value of type") as refused:
        served.get_online_features("pressure", given, full_feature_names=True)
    assert "soon" not in str(refused.value)


def test_an_expression_that_fails_on_values_is_an_error_that_does_not_show_them(filled):
    failing = {
        "x": {"expression": "cast(down__note || 'z' as integer)", "data_type": "integer", "description": "d"}
    }
    with pytest.raises(OnDemandError, match="on-demand features: ConversionException") as refused:
        reader(filled, 10, service(on_demand=failing)).get_online_features(
            "pressure", ENTITIES, full_feature_names=True
        )
    assert "z" not in str(refused.value).split("ConversionException")[1].split()


def test_a_request_text_is_a_value_and_never_sql(filled):
    text = {"said": {"data_type": "varchar", "description": "d"}}
    echo = {"echo": {"expression": "said", "data_type": "varchar", "description": "d"}}
    said = ["'; drop table x; --", "a\0b'", "\\x'); select 1"]
    served = reader(filled, 10, service(request=text, on_demand=echo))
    answer = served.get_online_features("pressure", ENTITIES | {"said": said}, full_feature_names=True)
    assert answer.to_dict()["echo"] == said


@pytest.mark.parametrize("expression", ["nothing + 1", "up__level +", "read_text('/etc/passwd')"])
def test_an_expression_that_cannot_be_evaluated_is_found_at_load(filled, expression):
    wrong = {"x": {"expression": expression, "data_type": "varchar", "description": "d"}}
    with pytest.raises(
        OnDemandError, match=r"models/x\.yml: exposures\.pressure\.config\.meta\.feature_service\.on_demand"
    ):
        reader(filled, 10, service(on_demand=wrong))


@pytest.mark.parametrize("asked", [["levels:nothing"], ["nothing:level"], "nothing"])
def test_an_unknown_name_is_an_error(filled, asked):
    with pytest.raises(UnknownFeatureError, match=r"unknown feature.*nothing"):
        reader(filled).get_online_features(asked, [row("a", 1)])


def test_asking_for_nothing_is_an_error(filled):
    with pytest.raises(ValueError, match="features: found none"):
        reader(filled).get_online_features([], [row("a", 1)])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"pump": "a"}], r"entity_rows\[0\]: found no 'pipe', expected pump, pipe"),
        ([row("a", 1), row("a", "1")], "entity key pipe of levels: found a value of type str"),
        ([["a", 1]], r"entity_rows\[0\]: found a list"),
        ({"pump": ["a"]}, "entity_rows: found no 'pipe'"),
        ({"pump": ["a"], "pipe": [1, 2]}, r"found columns of \[1, 2\] rows"),
    ],
)
def test_a_wrong_entity_is_an_error(filled, rows, message):
    with pytest.raises(EntityTypeError, match=message):
        reader(filled).get_online_features(ALL, rows)


def test_a_missing_request_value_is_an_error(filled):
    served = reader(filled, 10, service(request=REQUEST, on_demand=ON_DEMAND))
    with pytest.raises(RequestValueError, match="found no 'factor'"):
        served.get_online_features("pressure", ENTITIES | {"asked_at": [None] * 3}, full_feature_names=True)


def test_a_view_that_is_not_materialized_or_not_online_is_an_error(store, tmp_path):
    with pytest.raises(NotMaterializedError, match="materialize online_store/levels"):
        reader(store).get_online_features(ALL, [row("a", 1)])
    offline = Catalog({"levels": replace(VIEW, online=False)})
    with pytest.raises(UnservedViewError, match="found online: false"):
        OnlineReader(offline, store, Clock()).get_online_features(ALL, [row("a", 1)])


def test_a_reader_with_a_newer_declaration_gets_an_error(filled):
    newer = make_view(
        {"level": "double", "note": "varchar"}, {"pump": "varchar", "pipe": "integer"}, name="levels"
    )
    with pytest.raises(SchemaMismatchError, match=newer.schema_hash):
        reader(filled, view=newer).get_online_features(["levels:level"], [row("z", 1)])


def test_a_view_that_cannot_be_stored_is_found_at_load(store):
    with pytest.raises(UnsupportedTypeError, match=r"columns\.x\.data_type: found 'interval'"):
        reader(store, view=make_view({"x": "interval"}))


def test_on_a_live_platform_values_grow_old_by_the_wall_clock(tmp_path, store):
    lake = Lake(tmp_path / "data")
    now = datetime.now(UTC)
    lake.run(f"insert into {{t}} values ('a', 1, timestamptz '{now.isoformat()}', 1, 'x', 1)")
    lake.materialize(store, (now - at(0)).total_seconds() / 3600 + 1)
    answer = OnlineReader(Catalog({"levels": VIEW}), store, Clock()).get_online_features(ALL, [row("a", 1)])
    assert answer.statuses[2] == [PRESENT]
    lake.con.close()
