"""The path, width and line endings of a file change no value and stop no other file."""

import gzip
import io
import zipfile
from itertools import product
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.ingestion.faults import IngestFault, StorageError, to_ingestion_error
from orchestration.ingestion.newlines import count_newlines, with_one_newline
from tests.integration.ingestion.landing_ground import Ground, source_table

NAMES = {"id": "integer", "name": "varchar"}


def parquet(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


FILES = {
    "csv": b"id,name\n1,own\n",
    "jsonl": b'{"id":1,"name":"own"}\n',
    "parquet": parquet(id=[1], name=["own"]),
}


@pytest.mark.parametrize(("kind", "folder"), product(FILES, ["name=x", "id=7", "l=9", "c1=x", "other=1"]))
def test_a_folder_named_like_a_value_changes_nothing(tmp_path: Path, kind: str, folder: str) -> None:
    ground = Ground(tmp_path / folder)
    ground.put(f"d/{folder}/in.{kind}", FILES[kind])
    columns = NAMES if kind != "parquet" else {"id": "bigint", "name": "varchar"}
    ground.land(source_table(columns, uri=f"d/*/*.{kind}", format=kind))
    assert ground.rows("id, name") == [(1, "own")]
    ground.close()


@pytest.mark.parametrize("kind", FILES)
def test_declared_partition_columns_come_from_the_path_unless_the_file_has_them(
    ground: Ground, kind: str
) -> None:
    columns = {"id": "bigint", "name": "varchar", "day": "date"}
    uri = f"d/**/*.{kind}"
    table = source_table(columns, uri=uri, format=kind, partition_columns=("name", "day"))
    ground.put(f"d/name=path/day=2024-01-02/a.{kind}", FILES[kind])
    ground.land(table)
    assert ground.rows("id, name, day::varchar") == [(1, "own", "2024-01-02")]
    ground.put(f"d/b.{kind}", FILES[kind])
    with pytest.raises(
        IngestFault, match=r"d/b\.\w+, column 'day': found no such column in it and no folders"
    ):
        ground.land(table)


@pytest.mark.parametrize("fault", ["cell", "blank", "quoted", "shape"])
def test_a_file_of_600_columns_with_one_fault_lands(ground: Ground, fault: str) -> None:
    width = 600
    bad = {
        "cell": "x" + ",1" * (width - 1), "blank": "", "quoted": '"1\n"' + ",1" * (width - 1), "shape": "1,1",
    }  # fmt: skip
    columns = {f"c{i}": "double" for i in range(width)}
    good = ",".join("1" * width)
    ground.put("in.csv", "\n".join([",".join(columns), good, bad[fault], good, ""]))
    ground.land(source_table(columns, uri="in.csv", format="csv", max_quarantined_share=0.5))
    expected = {"cell": [1, 3], "shape": [1, 3], "blank": [1, 2], "quoted": [1, 2, 3]}[fault]
    assert ground.rows("_row_number") == [(n,) for n in expected]
    assert len(ground.quarantine()) == (fault in ("cell", "shape"))


ENDINGS = st.sampled_from(["\n", "\r\n"])
CELLS = st.text('ab ,"\r\n', max_size=4)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS, ENDINGS), min_size=1, max_size=6))
def test_records_keep_their_cells_when_line_endings_are_unified(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("newlines")
    quoted = [tuple('"' + cell.replace('"', '""') + '"' for cell in row[:2]) for row in rows]
    text = "".join(",".join(q) + row[2] for q, row in zip(quoted, rows, strict=True))
    (folder / "in").write_bytes(text.encode())
    target = with_one_newline(folder / "in", ",", "in", folder / "out")
    assert target.read_bytes().decode() == "".join(",".join(q) + "\n" for q in quoted)


@pytest.mark.parametrize("ends", [("\r\n", "\n"), ("\n", "\r\n"), ("\r", "\r")])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_mixed_line_endings_land(ground: Ground, kind: str, ends: tuple[str, str]) -> None:
    first = ["id,name"] if kind == "csv" else []
    rows = ["1,a", "2,b"] if kind == "csv" else ['{"id":1,"name":"a"}', '{"id":2,"name":"b"}']
    lines = [*first, *rows]
    ground.put(f"in.{kind}", "".join(line + ends[i % 2] for i, line in enumerate(lines)))
    ground.land(source_table(NAMES, uri=f"in.{kind}", format=kind))
    assert ground.rows("id, name") == [(1, "a"), (2, "b")]


def test_pure_endings_are_not_rewritten(tmp_path: Path) -> None:
    for content in (b"a\nb\n", b"a\r\nb\r\n", b"a\rb\r"):
        (tmp_path / "in").write_bytes(content)
        assert not count_newlines(tmp_path / "in").is_mixed


EMPTY = {"csv": b"id,name\n", "jsonl": b"", "parquet": parquet(id=pa.array([], pa.int64()), name=pa.array([], pa.string()))}  # fmt: skip


@pytest.mark.parametrize("kind", EMPTY)
def test_a_new_file_without_rows_lands_and_one_that_lost_its_rows_does_not(ground: Ground, kind: str) -> None:
    table = source_table({"id": "bigint", "name": "varchar"}, uri="d/", format=kind)
    ground.put(f"d/a.{kind}", EMPTY[kind])
    ground.put(f"d/b.{kind}", FILES[kind])
    assert [(i.file_rows, i.rows) for i in ground.land(table).landings] == [(0, 0), (1, 1)]
    ground.put(f"d/b.{kind}", EMPTY[kind])
    with pytest.raises(IngestFault, match="no rows, where it had rows before"):
        ground.land(table)
    assert ground.rows("name") == [("own",)]


def test_names_that_differ_in_case_are_one_column_of_an_evolving_table(ground: Ground) -> None:
    table = source_table({"id": "integer"}, uri="in.csv", format="csv", new_columns="evolve")
    for content in ("id,Note\n1,a\n", "id,note\n1,a\n2,b\n"):
        ground.put("in.csv", content)
        ground.land(table)
    assert ground.rows("id, note") == [(1, "a"), (2, "b")]
    ground.put("in.csv", "id,note,NOTE\n1,a,b\n")
    with pytest.raises(IngestFault, match="column 'NOTE' and 'note' more than once"):
        ground.land(table)


def test_undeclared_columns_may_have_any_name(ground: Ground) -> None:
    ground.put("in.csv", "id,name,,\n1,a,,\n")
    ground.land(source_table(NAMES, uri="in.csv", format="csv", new_columns="ignore"))
    own = ["file_row_number", "filename", "rowid", "_n", "_skip", "_gw_row", "_gw_n", "_gw_skip"]
    ground.put("in.parquet", parquet(id=[1], **{name: [77] for name in own}))
    table = source_table(
        {"id": "bigint"}, name="typed", uri="in.parquet", format="parquet", new_columns="ignore"
    )
    ground.land(table)
    assert ground.rows("id, _row_number", "typed") == [(1, 1)]


def test_files_that_macos_adds_to_a_zip_do_not_count(ground: Ground) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("in.csv", FILES["csv"])
        archive.writestr("__MACOSX/._in.csv", b"\0")
    ground.put("in.csv.zip", buffer.getvalue())
    ground.land(source_table(NAMES, uri="in.csv.zip", format="csv"))
    assert ground.rows("id, name") == [(1, "own")]


@pytest.mark.parametrize("name", ["in.csv.zip", "in.csv.gz"])
def test_an_archive_that_unpacks_beyond_the_limit_is_refused(ground: Ground, name: str) -> None:
    content = FILES["csv"] + b"2,x\n" * 1_000_000
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in.csv", content)
    ground.put(name, gzip.compress(content) if name.endswith("gz") else buffer.getvalue())
    with pytest.raises(IngestFault, match=r"more than 1,000,000 bytes when unpacked(?s:.*)max_unpacked_size"):
        ground.land(source_table(NAMES, uri=name, format="csv", max_unpacked_size="1MB"))


def test_a_full_disk_is_not_the_fault_of_the_file() -> None:
    with duckdb.connect() as con, pytest.raises(duckdb.Error) as caught:
        con.execute("copy (select range from range(1000000)) to '/dev/full' (format csv)")
    assert isinstance(to_ingestion_error(caught.value, "in.csv", Path("in.csv")), StorageError)
    with pytest.raises(OSError) as full, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert isinstance(to_ingestion_error(full.value, "in.csv"), StorageError)
