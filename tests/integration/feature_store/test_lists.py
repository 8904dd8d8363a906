"""A view with lists is served as any other: materialized, verified, read, asked for over HTTP's JSON, profiled."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from orchestration.declarations import Exposure, ExposureMeta
from orchestration.feature_store.discovery.drawing import in_a_sentence
from orchestration.feature_store.discovery.profiles import profile, profile_newest
from orchestration.feature_store.offline import get_historical_features
from orchestration.feature_store.online.reading import OnlineReader, Status
from orchestration.feature_store.online.verification import compare
from orchestration.feature_store.parity import compare_answers
from orchestration.feature_store.server.wire import Plans, encode, parse_request
from orchestration.feature_store.views import Catalog, Service
from orchestration.settings import Clock
from tests.integration.feature_store.lakes import Lake, at
from tests.unit.feature_store.views import make_view

VIEW = make_view(
    {"embedding": "float[]", "prices": "decimal(9,2)[]", "tags": "varchar[]", "seen": "timestamptz[]",
     "days": "date[][]", "ratios": "double[]"},
    {"pump": "varchar"},
    name="levels",
)  # fmt: skip
CATALOG = Catalog({VIEW.name: VIEW})
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
FULL = ("['1', '0.5', '-0.0']", "[1.50, null]", "['a', null, '']", "[timestamptz '2024-01-01 12:00:00+00']",
        "[[date '2024-01-01'], [], null]", "['nan', 'inf', null, '-0.0']")  # fmt: skip
EMPTY = ("[0, 0, 0]", "[]", "[]", "[]", "[]", "[]")
NOTHING = ("null",) * 6


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path, VIEW)
    rows = {"full": FULL, "empty": EMPTY, "nothing": NOTHING}
    for pump, values in rows.items():
        insert(lake, pump, 1, values)
    yield lake
    lake.con.close()


def insert(lake, pump, hours, values):
    lake.run(
        f"insert into {{t}} values ('{pump}', timestamptz '{at(hours).isoformat()}', {', '.join(values)})"
    )


def test_lists_are_stored_read_and_verified(lake, any_store):
    lake.materialize(any_store)
    assert compare(lake.lakehouse, any_store, VIEW).holds
    reader = OnlineReader(CATALOG, any_store, Clock(at(2)))
    got = reader.get_online_features(["levels:*"], {"pump": ["full", "empty", "nothing", "unknown"]})
    values = dict(zip(got.feature_names, got.values, strict=True))
    assert values["embedding"] == [[1.0, 0.5, -0.0], [0.0] * 3, None, None]
    assert values["prices"] == [[Decimal("1.50"), None], [], None, None]
    assert values["tags"] == [["a", None, ""], [], None, None]
    assert values["seen"] == [[NOON], [], None, None]
    assert values["days"] == [[[NOON.date()], [], None], [], None, None]
    nan, infinity, null, zero = values["ratios"][0]
    assert math.isnan(nan)
    assert (infinity, null, math.copysign(1, zero)) == (math.inf, None, -1)
    assert got.statuses[-1] == [Status.PRESENT, Status.PRESENT, Status.NULL_VALUE, Status.NOT_FOUND]


def test_a_changed_element_is_a_change_and_a_wrong_one_is_found(lake, any_store):
    lake.materialize(any_store)
    zero, changed = FULL[5], FULL[5].replace("'-0.0'", "'0.0'")
    lake.run(f"update {{t}} set ratios = {changed} where pump = 'full'")
    assert not compare_at(lake, any_store).holds
    assert lake.materialize(any_store).written == 1
    assert compare(lake.lakehouse, any_store, VIEW).holds
    lake.run(f"update {{t}} set ratios = {zero} where pump = 'full'")
    lake.materialize(any_store, full=True)
    assert compare(lake.lakehouse, any_store, VIEW).holds


def compare_at(lake, store):
    """The comparison with the lakehouse as it is, whatever snapshot the store says that it is of."""

    class Claimed:
        def __getattr__(self, name):
            return getattr(store, name)

        def position(self, view):
            return replace(store.position(view), snapshot=lake.snapshot)

    return compare(lake.lakehouse, Claimed(), VIEW)


def test_lists_are_lists_in_feasts_json(lake, store):
    lake.materialize(store)
    body = json.dumps({"features": ["levels:*"], "entities": {"pump": ["full", "empty", "nothing"]}}).encode()
    request, plans = parse_request(body, 10), Plans(CATALOG)
    plan = plans.plan(request, frozenset(CATALOG.views))
    reader = OnlineReader(CATALOG, store, Clock(at(2)))
    answer = reader.get_online_features(list(plan.features), plans.columns(request, plan))
    told = json.loads(encode(answer, plan, request.entities)[0])
    columns = dict(zip(told["metadata"]["feature_names"], told["results"], strict=True))
    seconds = int(NOON.timestamp())
    assert {name: column["values"] for name, column in columns.items()} == {
        "pump": ["full", "empty", "nothing"],
        "embedding": [[1.0, 0.5, -0.0], [0.0, 0.0, 0.0], None],
        "prices": [[1.5, None], [], None],
        "tags": [["a", None, ""], [], None],
        "seen": [[seconds], [], None],
        "days": [[[seconds // 86_400 * 86_400], [], None], [], None],
        "ratios": [[None, None, None, -0.0], [], None],
    }
    assert columns["tags"]["statuses"] == ["PRESENT", "PRESENT", "NULL_VALUE"]


def test_lists_in_requests_and_on_demand_features(lake, store):
    lake.materialize(store)
    meta = ExposureMeta.model_validate({
        "owner": "team:tests",
        "feature_service": {
            "features": ["levels:embedding", "levels:seen"],
            "request": {
                "query": {"data_type": "float[]", "description": "What is looked for."},
                "visits": {"data_type": "timestamptz[]", "description": "When somebody came."},
            },
            "on_demand": {
                "closeness": {"expression": "list_inner_product(query, levels__embedding)",
                              "data_type": "float", "description": "How near."},
                "all_seen": {"expression": "list_concat(levels__seen, visits)",
                             "data_type": "timestamptz[]", "description": "When."},
            },
        },
    })  # fmt: skip
    declared = meta.feature_service
    exposure = Exposure("exposure.x", "nearest", "ml", "A model.", "models/x.yml", meta, ())
    nearest = Service("nearest", exposure, declared, CATALOG.resolve(declared.features))
    catalog = Catalog(CATALOG.views, {"nearest": nearest})
    seconds = int(NOON.timestamp())
    asked = {
        "pump": ["full", "empty"],
        "query": [[2, 4, 1.5], [1, 2, 3]],
        "visits": [[seconds, "2024-01-01T12:00Z"], []],
    }
    body = json.dumps({"feature_service": "nearest", "entities": asked}).encode()
    request, plans = parse_request(body, 10), Plans(catalog)
    plan = plans.plan(request, frozenset(catalog.views))
    reader = OnlineReader(catalog, store, Clock(at(2)))
    answer = reader.get_online_features("nearest", plans.columns(request, plan))
    told = json.loads(encode(answer, plan, request.entities)[0])
    columns = dict(zip(told["metadata"]["feature_names"], told["results"], strict=True))
    assert columns["closeness"]["values"] == [4.0, 0.0]
    assert columns["all_seen"]["values"] == [[seconds] * 3, []]


def test_lists_online_are_those_of_a_training_set(lake, store):
    insert(lake, "full", 3, EMPTY)
    lake.materialize(store, hours=2)
    reader = OnlineReader(CATALOG, store, Clock(at(2)))
    pumps = ["full", "empty", "nothing"]
    answer = reader.get_online_features(["levels:*"], {"pump": pumps})
    spine = lake.con.execute(
        f"select unnest({pumps}) as pump, timestamptz '{at(2).isoformat()}' as asked_at"
    ).to_arrow_table()
    offline = get_historical_features(
        CATALOG, lake.lakehouse, spine, ["levels:*"], event_timestamp="asked_at"
    ).to_arrow()
    features = offline.select([f.name for f in VIEW.features])
    assert compare_answers(features, [answer]).differing == {}
    other = reader.get_online_features(["levels:*"], {"pump": ["empty", "empty", "nothing"]})
    assert set(compare_answers(features, [other]).differing) == {f.name for f in VIEW.features}


def test_lists_have_a_profile(lake):
    with lake.lakehouse.reader() as con:
        for found in (profile(con, VIEW), profile_newest(con, VIEW, VIEW.ttl)):
            tags = found.features["tags"]
            assert (tags.shape, round(tags.null_share, 2), tags.distinct) == ("lists", 0.33, 2)
            assert in_a_sentence(tags) == "about 2 distinct values"
