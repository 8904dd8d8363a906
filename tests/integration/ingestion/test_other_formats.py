"""Archives, JSON lines and Parquet."""

import gzip
import io
import zipfile
from pathlib import Path

import duckdb
import pytest

from orchestration.declarations import Table
from orchestration.ingestion.faults import IngestFault
from tests.integration.ingestion.landing_ground import Ground, source_table

COLUMNS = {"id": "integer", "name": "varchar"}
CSV = b"id,name\n1,a\n2,b\n"


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def jsonl(**ingest: object) -> Table:
    return source_table(COLUMNS, uri="in.jsonl", format="jsonl", **ingest)


def parquet(ground: Ground, query: str, columns: dict[str, str] | None = None, **ingest: object) -> Table:
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        con.execute(f"copy ({query}) to '{ground.root / 'in.parquet'}' (format parquet)")
    return source_table(columns or COLUMNS, uri="in.parquet", format="parquet", **ingest)


@pytest.mark.parametrize(
    ("name", "content"),
    [("in.csv.zip", zipped(data=CSV)), ("in.csv.gz", gzip.compress(CSV, mtime=0)), ("in.csv.gz", gzip.compress(CSV[:9], mtime=0) + gzip.compress(CSV[9:], mtime=0))],
)  # fmt: skip
def test_compressed_files_land(ground: Ground, name: str, content: bytes) -> None:
    ground.put(name, content)
    ground.land(ground.csv(COLUMNS, uri=name))
    assert ground.rows("id, name") == [(1, "a"), (2, "b")]
    assert list((ground.settings.tmp_dir).glob("landing-*")) == []


BIG = CSV + b"".join(b"%d,%d\n" % (i, i * 7919 % 10007) for i in range(5000))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv.gz", gzip.compress(BIG, mtime=0)[:-20], "a damaged gzip file"),
        ("in.csv.gz", gzip.compress(BIG, mtime=0)[:-6] + b"\0" * 6, "a damaged gzip file"),
        ("in.csv.gz", CSV, "a damaged gzip file"),
        ("in.csv.zip", CSV, "no zip archive"),
        ("in.csv.zip", zipped(a=BIG)[:-40], "no zip archive"),
        ("in.csv.zip", zipped(a=BIG).replace(zipped(a=BIG)[2000:2008], b"\1" * 8), "a damaged zip file"),
        ("in.csv.zip", zipped(a=CSV, b=CSV), r"2 members \(a, b\), expected a zip with exactly one"),
        ("in.csv.zip", zipped(), "0 members"),
        ("in.csv.zip", zipped(a=b""), "no row"),
        ("in.csv.gz", gzip.compress(b"", mtime=0), "no row"),
    ],
)
def test_archives_that_are_not_whole_fail(ground: Ground, name: str, content: bytes, message: str) -> None:
    ground.put(name, content)
    with pytest.raises(IngestFault, match=message) as caught:
        ground.land(ground.csv(COLUMNS, uri=name))
    assert name in str(caught.value)


def test_json_lines_land_by_key(ground: Ground) -> None:
    ground.put(
        "in.jsonl",
        '{"name": "a", "id": 1}\n\n{"id": 2}\n{"id": "3", "name": null}\n{"id": 4, "name": {"x": [1]}}\n',
    )
    ground.land(jsonl())
    assert ground.rows("id, name") == [(1, "a"), (2, None), (3, None), (4, '{"x":[1]}')]


def test_broken_json_lines_go_to_quarantine(ground: Ground) -> None:
    ground.put(
        "in.jsonl",
        '{"id": 1, "name": "a"}\n{"id": 2, "na\n[3]\n"x"\n{"id": 5.5, "name": "e"}\n{"id": 6, "name": "f"}\n{"id"',
    )
    ground.land(jsonl(max_quarantined_share=0.8))
    assert ground.rows("id, _row_number") == [(1, 1), (6, 6)]
    assert [(line, text) for line, _, _, text in ground.quarantine()] == [
        (2, '{"id": 2, "na'), (3, "[3]"), (4, '"x"'), (5, '{"id": 5.5, "name": "e"}'), (7, '{"id"'),
    ]  # fmt: skip
    reasons = [reason for _, _, reason, _ in ground.quarantine()]
    assert (
        reasons
        == ["not one complete JSON object with each key once"] * 3
        + ["id: found '5.5', expected integer"]
        + reasons[-1:]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no row"),
        ("\n\n", "no row"),
        ('{"id": 1}\n', "no column 'name'"),
        ('{"id": 1, "nmae": "a"}\n', r"did you mean 'nmae'\?"),
        ('{"id": 1, "name": "a", "new": 1}\n', "new column 'new'"),
        ("id,name\n1,a\n", "cannot be read as declared"),
        ('{"id": 1, "name": "' + "x" * 3_000_000 + '"}\n', "more than 2,000,000 bytes in one line"),
    ],
)  # fmt: skip
def test_json_lines_of_another_form_fail(ground: Ground, content: str, message: str) -> None:
    ground.put("in.jsonl", content)
    with pytest.raises(IngestFault, match=message):
        ground.land(jsonl())


def test_parquet_lands_in_file_order(ground: Ground) -> None:
    ground.land(parquet(ground, "select i::bigint as id, 'n' || i as name from range(300_000, 0, -1) t(i)"))
    found = ground.ask("select count(*), count(*) filter (id + _row_number <> 300_001) from raw.readings")
    assert found == [(300_000, 0)]


def test_parquet_values_that_do_not_fit_go_to_quarantine(ground: Ground) -> None:
    ground.land(
        parquet(ground, "select unnest([1, 3000000000, 3]) as id, 'a' as name", max_quarantined_share=0.5)
    )
    assert ground.rows("id, _row_number") == [(1, 1), (3, 3)]
    assert ground.quarantine() == [
        (2, "id", "id: found '3000000000', expected integer", '{"id":3000000000,"name":"a"}')
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select '1' as id, 'a' as name", "column 'id': found type varchar, expected integer"),
        ("select 1.5::double as id, 'a' as name", "column 'id': found type double"),
        ("select 1 as id", "no column 'name'"),
        ("select 1 as id, 'a' as nam", r"did you mean 'nam'\?"),
        ("select 1 as id, 'a' as name, 2 as new", "new column 'new'"),
        ("select 1 as id, 'a' as name limit 0", "no row"),
    ],
)
def test_parquet_of_another_form_fails(ground: Ground, query: str, message: str) -> None:
    table = parquet(ground, query)
    with pytest.raises(IngestFault, match=message):
        ground.land(table)


@pytest.mark.parametrize("cut", [0, 10, -10])
def test_truncated_parquet_fails(ground: Ground, cut: int) -> None:
    table = parquet(ground, "select i::integer as id, 'a' as name from range(1000) t(i)")
    file: Path = ground.root / "in.parquet"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(IngestFault, match=r"in\.parquet: found no readable Parquet file"):
        ground.land(table)


def test_parquet_damaged_inside_fails(ground: Ground) -> None:
    table = parquet(ground, "select i::integer as id, md5(i::varchar) as name from range(1000) t(i)")
    file: Path = ground.root / "in.parquet"
    content = bytearray(file.read_bytes())
    content[10:4000] = b"\xff" * 3990
    file.write_bytes(content)
    with pytest.raises(IngestFault, match=r"in\.parquet"):
        ground.land(table)


def test_a_new_parquet_column_evolves_as_text(ground: Ground) -> None:
    ground.land(parquet(ground, "select 1 as id, 'a' as name, 2.5 as new", new_columns="evolve"))
    assert ground.rows("id, name, new") == [(1, "a", "2.5")]
