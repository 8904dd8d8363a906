"""Pushed rows arrive as one more delivery of their source, whole, and land as any other does."""

import time

import pytest

from orchestration.declarations import DeclarationError, Ingest
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.landing_sensors import Watch
from orchestration.ingestion.pushes import deliver_push, pushable_sources
from tests.integration.ingestion.landing_ground import PARTITION, READINGS, source_table

ROWS = {
    "id": [1, 2, 3],
    "at": ["2024-01-01T10:00:00Z", "2024-01-02T10:00:00+01:00", None],
    "name": ['a "quoted", name', "zwei\nZeilen", None],
}
LANDED = [(1, "2024-01-01 10:00:00", 'a "quoted", name'), (2, "2024-01-02 09:00:00", "zwei\nZeilen"),
          (3, None, None)]  # fmt: skip


def pushable(format_, uri="landing/", **ingest):
    return source_table(READINGS, uri=uri, format=format_, push=True, **ingest)


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_pushed_rows_land_as_they_are(ground, format_):
    table = pushable(format_)
    name = deliver_push(table, ground.settings, ROWS)
    assert [p.name for p in (ground.root / "landing").iterdir()] == [name]
    assert ground.land(table).total("rows") == 3
    assert ground.rows("id, strftime(\"at\", '%Y-%m-%d %H:%M:%S'), name") == LANDED
    assert ground.quarantine() == []


def test_a_second_push_adds_its_rows_and_changes_no_others(ground):
    table = pushable("jsonl")
    deliver_push(table, ground.settings, ROWS)
    deliver_push(table, ground.settings, {name: values[:1] for name, values in ROWS.items()} | {"id": [9]})
    ground.land(table)
    assert ground.rows("id") == [(1,), (2,), (3,), (9,)]


def test_the_sensor_sees_a_push_at_once_and_asks_for_its_day(ground):
    table = pushable("jsonl", event_time="at", partition=PARTITION)
    columns = {name: values[:1] for name, values in ROWS.items()}
    name = deliver_push(table, ground.settings, columns)
    watch = Watch(table, ground.settings, ground.clock)
    look = watch.look({}, time.time())
    assert (list(look.arrived), look.unsettled) == ([f"landing/{name}"], [])
    assert [request.partition_key for request in watch.requests(look)] == ["2024-01-01"]


@pytest.mark.parametrize(
    ("format_", "change", "words"),
    [
        ("jsonl", {"id": [1, 2, "three"]}, "row 2: id: found 'three', expected integer"),
        ("csv", {"at": ["2024-01-01T10:00:00Z", "yesterday", None]}, "row 1: at: found 'yesterday'"),
        ("jsonl", {"id": [1, 2, None]}, "row 2: found null, expected a value, as it is of the primary key"),
        ("jsonl", {"name": [["a"], "b", "c"]}, "row 0: found a list, expected a single value"),
        ("csv", {"name": ["a\0b", "b", "c"]}, "a NUL byte"),
        ("csv", {"name": ["", "b", "c"]}, "found the text '', expected null"),
        ("jsonl", {"name": None}, "no column 'name'"),
        ("jsonl", {"extra": [1, 2, 3]}, "new column 'extra'"),
        ("jsonl", {"name": ["x" * 500_000, "b", "c"]}, "500,000 characters"),
    ],
)
def test_rows_that_would_not_land_are_refused_at_once(ground, format_, change, words):
    table = pushable(format_)
    columns = {name: values for name, values in {**ROWS, **change}.items() if values is not None}
    with pytest.raises(IngestFault) as refused:
        deliver_push(table, ground.settings, columns)
    assert words in str(refused.value)
    assert list(ground.root.glob("landing/*")) == list(ground.root.glob("landing/.*")) == []


def test_a_refusal_shows_no_classified_value(ground):
    table = source_table(READINGS, uri="landing/", format="jsonl", push=True, classified="at")
    with pytest.raises(IngestFault) as refused:
        deliver_push(table, ground.settings, {**ROWS, "at": ["secret", None, None]})
    assert "secret" not in str(refused.value)


def test_only_folders_that_hold_pushed_files_take_pushes(ground):
    (ground.root / "one.jsonl").write_text("{}\n")
    good = [pushable("jsonl", uri) for uri in ("landing/", "landing/*.jsonl", "a/b/push-*.jsonl")]
    for table in good:
        assert pushable_sources(ground.declarations(table), ground.settings) == {"readings": table}
        deliver_push(table, ground.settings, ROWS)
        assert ground.land(table).total("rows") + ground.land(table).total("unchanged") > 0
    assert pushable_sources(ground.declarations(ground.csv(uri="landing/")), ground.settings) == {}
    for uri in ("one.jsonl", "landing/day-*.jsonl", "*/x.jsonl", "s3://bucket/landing/"):
        with pytest.raises(DeclarationError, match="expected a local folder"):
            pushable_sources(ground.declarations(pushable("jsonl", uri)), ground.settings)


@pytest.mark.parametrize("other", [
    {"format": "parquet"}, {"format": "csv", "compression": "gzip"}, {"format": "csv", "encoding": "latin-1"},
])  # fmt: skip
def test_only_plain_text_formats_take_pushes(other):
    with pytest.raises(ValueError, match="push is for format csv or jsonl"):
        Ingest(uri="landing/", primary_key=("id",), push=True, **other)
