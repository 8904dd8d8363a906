"""Every fault of a declaration is refused when definitions load, and says where and why."""

import copy
from datetime import date, timedelta

import pytest

from orchestration.declarations import DeclarationError, load_declarations, parse_duration


def column(name, data_type="bigint", **meta):
    return {"name": name, "data_type": data_type, "description": f"The {name}.", "config": {"meta": meta}}


def source(name="orders", **ingest):
    declared = {"uri": "orders.csv", "format": "csv", "primary_key": ["id"], **ingest}
    return {
        "unique_id": f"source.shop.raw.{name}",
        "resource_type": "source",
        "source_name": "raw",
        "name": name,
        "identifier": name,
        "schema": "raw",
        "description": "One row an order.",
        "original_file_path": "models/raw/sources.yml",
        "columns": {
            "id": column("id"),
            "ordered_at": column("ordered_at", "timestamptz"),
            "buyer": column("buyer", "varchar", classification="personal"),
        },
        "config": {"meta": {"owner": "team:sales", "ingest": declared}},
    }


def model(name="stg_orders", layer="staged", upstream=("source.shop.raw.orders",), **meta):
    return {
        "unique_id": f"model.shop.{name}",
        "resource_type": "model",
        "name": name,
        "alias": name,
        "schema": layer,
        "description": "One row an order.",
        "patch_path": f"shop://models/{layer}/{name}.yml",
        "original_file_path": f"models/{layer}/{name}.sql",
        "columns": {"id": column("id"), "known_at": column("known_at", "timestamptz")},
        "config": {"meta": {"owner": "team:sales", **meta}},
        "depends_on": {"nodes": list(upstream)},
        "tags": ["daily"],
    }


def manifest(sources=(), models=()):
    return {
        "sources": {s["unique_id"]: s for s in sources or [source()]},
        "nodes": {m["unique_id"]: m for m in models},
    }


VIEW = {"entity": ["id"], "ttl": "6 hours", "online": True}


def the_fault(*, sources=(), models=()):
    with pytest.raises(DeclarationError) as caught:
        load_declarations(manifest(sources, models))
    assert len(caught.value.faults) == 1, caught.value.faults
    return caught.value.faults[0]


def test_a_whole_declaration_is_read_with_its_types():
    feature = model(
        "totals", "features", ["model.shop.stg_orders"], feature_view={**VIEW, "timestamp": "known_at"}
    )
    declared = load_declarations(
        manifest(
            [
                source(
                    event_time="ordered_at",
                    partition={"frequency": "daily", "start": "2024-01-01", "timezone": "Europe/Berlin"},
                    publication_delay="10 minutes",
                )
            ],
            [model(), feature],
        )
    )
    orders = declared.sources[0]
    assert orders.asset_path == ("raw", "orders")
    assert orders.ingest.publication_delay == timedelta(minutes=10)
    assert orders.column("buyer").classification == "personal"
    assert [t.name for t in declared.feature_views] == ["totals"]
    assert declared.feature_views[0].meta.feature_view.ttl == timedelta(hours=6)
    assert declared.partition("model.shop.totals").start == date(2024, 1, 1)


def test_a_model_of_unpartitioned_sources_has_no_partitions():
    assert load_declarations(manifest(models=[model()])).partition("model.shop.stg_orders") is None


@pytest.mark.parametrize(
    ("ingest", "expected"),
    [
        ({"formt": "csv"}, "ingest.formt: found unknown key 'formt', expected one of compression, cursor"),
        ({"format": "xml"}, "ingest.format: found 'xml', expected 'csv', 'jsonl', 'parquet' or 'table'"),
        ({"uri": ""}, "ingest.uri: found ''"),
        ({"delimiter": "||"}, "ingest.delimiter: found '||'"),
        ({"primary_key": []}, "ingest.primary_key: found []"),
        ({"primary_key": ["idd"]}, "ingest.primary_key: found 'idd', expected one of the table's columns"),
        ({"event_time": "when"}, "ingest.event_time: found 'when', expected one of the table's columns"),
        ({"new_columns": "keep"}, "ingest.new_columns: found 'keep', expected 'fail', 'ignore' or 'evolve'"),
        ({"max_quarantined_share": 1.5}, "ingest.max_quarantined_share: found 1.5"),
        ({"publication_delay": "soon"}, "ingest.publication_delay: found 'soon', expected a whole number"),
        ({"partition": {"frequency": "daily", "start": "2024-01-01"}}, "partition needs event_time"),
        ({"format": "table"}, "format table and the key table go together"),
        ({"cursor": "id"}, "cursor is for format table only"),
    ],
)
def test_a_fault_in_an_ingest_declaration_names_file_key_found_and_expected(ingest, expected):
    fault = the_fault(sources=[source(**ingest)])
    assert fault.startswith("models/raw/sources.yml: sources.raw.orders.config.meta.ingest")
    assert expected in fault


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        ({"frequency": "hourly", "start": "2024-01-01"}, "frequency: found 'hourly', expected 'daily'"),
        ({"frequency": "daily"}, "start: found nothing, expected a value"),
        ({"frequency": "daily", "start": "2024-01-01", "timezone": "Mars"}, "expected an IANA time zone"),
        ({"frequency": "daily", "start": "2024-01-02", "end": "2024-01-01"}, "expected end after start"),
        (
            {"frequency": "daily", "start": "2024-01-01", "until": "x"},
            "expected one of end, frequency, start",
        ),
    ],
)
def test_a_fault_in_a_partition_declaration_is_refused(partition, expected):
    fault = the_fault(sources=[source(event_time="ordered_at", partition=partition)])
    assert "sources.raw.orders.config.meta.ingest.partition" in fault
    assert expected in fault


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ({"entity": ["id"]}, "feature_view.ttl: found nothing, expected a value"),
        (
            {**VIEW, "entity": ["shop"]},
            "feature_view.entity: found 'shop', expected one of the table's columns",
        ),
        (
            {**VIEW, "timestamp": "at"},
            "feature_view.timestamp: found 'at', expected one of the table's columns",
        ),
        (
            {**VIEW, "onlin": True},
            "found unknown key 'onlin', expected one of entity, online, timestamp, ttl",
        ),
    ],
)
def test_a_fault_in_a_feature_view_is_refused(view, expected):
    fault = the_fault(models=[model("totals", "features", feature_view=view)])
    assert fault.startswith("models/features/totals.yml: models.totals.config.meta.feature_view")
    assert expected in fault


def test_a_features_model_without_a_feature_view_is_refused():
    assert "feature_view: found nothing" in the_fault(models=[model("totals", "features")])


@pytest.mark.parametrize("owner", ["sales", "team:", "a@b"])
def test_an_owner_is_a_team_or_an_address(owner):
    assert "expected an e-mail address or team:<name>" in the_fault(models=[model(owner=owner)])


def test_a_source_without_ingest_is_refused():
    bare = source()
    del bare["config"]["meta"]["ingest"]
    assert "config.meta.ingest: found nothing" in the_fault(sources=[bare])


def test_ingest_on_a_model_is_refused():
    ingest = source()["config"]["meta"]["ingest"]
    assert "expected on a source only" in the_fault(models=[model(ingest=ingest)])


@pytest.mark.parametrize("key", ["data_type", "description"])
def test_a_column_without_type_or_description_is_refused(key):
    bare = copy.deepcopy(source())
    del bare["columns"]["buyer"][key]
    assert f"columns.buyer.{key}: found nothing" in the_fault(sources=[bare])


def test_an_unknown_classification_is_refused():
    bad = source()
    bad["columns"]["buyer"]["config"]["meta"]["classification"] = "secret"
    assert "columns.buyer.config.meta.classification: found 'secret'" in the_fault(sources=[bad])


def test_a_model_outside_the_layers_is_refused():
    stray = model()
    stray["original_file_path"] = "models/marts/stg_orders.sql"
    assert "found in folder 'marts', expected models/ and one of staged" in the_fault(models=[stray])


def test_a_reference_to_a_later_layer_is_refused():
    early = model(upstream=["model.shop.totals"])
    late = model("totals", "features", [], feature_view=VIEW)
    assert "expected references to staged or an earlier layer" in the_fault(models=[early, late])


def test_sources_with_different_partitions_cannot_meet_in_one_model():
    def daily(name, start):
        return source(name, event_time="ordered_at", partition={"frequency": "daily", "start": start})

    joined = model(upstream=["source.shop.raw.a", "source.shop.raw.b"])
    fault = the_fault(sources=[daily("a", "2024-01-01"), daily("b", "2024-02-01")], models=[joined])
    assert "2 different partition declarations, expected one" in fault


def test_all_faults_are_listed_at_once():
    with pytest.raises(DeclarationError) as caught:
        load_declarations(manifest([source(formt="x", primary_key=["idd"])], [model(owner="nobody")]))
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("1 second", 1), ("10 minutes", 600), ("6 hours", 21600), ("28 days", 2419200)]
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "six hours", "6", "6 months", "-1 days", "1.5 hours", 6, None])
def test_any_other_duration_is_refused(text):
    with pytest.raises(ValueError, match="expected a whole number and a unit"):
        parse_duration(text)


DAYS = {"frequency": "daily", "start": "2024-01-01", "timezone": "America/New_York"}


def zoneless(data_type, *, zone=None, **ingest):
    declared = source(event_time="ordered_at", partition=DAYS, **ingest)
    meta = {} if zone is None else {"timezone": zone}
    declared["columns"]["ordered_at"] = column("ordered_at", data_type, **meta)
    return declared


def test_a_zoneless_event_time_needs_a_zone_where_days_are_not_those_of_utc():
    assert "ingest.timezone: found nothing, expected the time zone" in the_fault(
        sources=[zoneless("timestamp")]
    )
    for data_type in ("timestamptz", "date"):
        load_declarations(manifest([zoneless(data_type)]))
    for declared in (
        zoneless("timestamp", timezone="Europe/Berlin"),
        zoneless("timestamp", zone="Europe/Berlin"),
    ):
        (table,) = load_declarations(manifest([declared])).sources
        assert table.zone_of("ordered_at") == "Europe/Berlin"


def test_a_zone_on_what_has_none_is_refused():
    fault = the_fault(sources=[zoneless("date", zone="Europe/Berlin")])
    assert "ordered_at.config.meta.timezone: found 'Europe/Berlin' on a date" in fault
    assert "an IANA time zone" in the_fault(sources=[zoneless("timestamp", timezone="BST")])


@pytest.mark.parametrize(
    "data_type", ["hugeint", "int128", "interval", "time with time zone", "struct(x timetz)[]"]
)
def test_a_type_whose_values_parquet_alters_is_refused(data_type):
    declared = source()
    declared["columns"]["x"] = column("x", data_type)
    fault = the_fault(sources=[declared])
    assert f"sources.raw.orders.columns.x.data_type: found {data_type!r}" in fault
    assert "expected a type that keeps its values" in fault


@pytest.mark.parametrize(
    "data_type", ["enum('a', 'b')", "bit", "integer[2]", "struct(a nonsense)", "decimal(39, 2)"]
)
def test_a_type_that_the_lakehouse_does_not_have_is_refused(data_type):
    changed = source()
    changed["columns"]["buyer"]["data_type"] = data_type
    fault = the_fault(sources=[changed])
    assert f"columns.buyer.data_type: found {data_type!r}, expected a type that the lakehouse has" in fault


def test_an_encoding_that_python_lacks_is_refused():
    changed = source()
    changed["config"]["meta"]["ingest"]["encoding"] = "rot13"
    assert "encoding 'rot13' is no encoding of text that Python has" in the_fault(sources=[changed])


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_refused(name):
    declared = source()
    declared["columns"][name] = column(name, "varchar")
    assert f"sources.raw.orders.columns.{name}: found an empty name" in the_fault(sources=[declared])


@pytest.mark.parametrize("name", ["rowid", "_Run_Id", "_gw_n", "_GW_anything"])
def test_names_that_landing_needs_are_refused(name):
    declared = source()
    declared["columns"][name] = column(name, "varchar")
    fault = the_fault(sources=[declared])
    assert f"sources.raw.orders.columns.{name}: found a reserved name, expected" in fault
