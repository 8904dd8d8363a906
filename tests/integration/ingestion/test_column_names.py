"""No name of a column, declared or only delivered, meets a name that landing uses on the way."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.ingestion.landing_ground import Ground, source_table

UNDERSCORED = (
    "n", "skip", "bad", "broken", "raw_text", "at", "cell", "event", "is_outside", "nth", "key", "id", "row",
    "was_here", "was_late", "line", "c0", "c1", "d0", "d1", "g0", "g1", "x0", "suspects",
)  # fmt: skip
PLAIN = (
    "filename", "file_row_number", "file_index", "k", "l", "j", "c", "r", "s", "f", "x", "x0", "x1", "c0", "c1",
    "row", "text", "line", "number", "before", "reasons", "raw_text", "partition_day", "column_name", "reason",
    "column_idx", "csv_line", "error_type", "entries", "landed", "src", "lake", "gone",
)  # fmt: skip
HELPERS = (*(f"_{name}" for name in UNDERSCORED), *PLAIN)
NESTED = {
    **{name: f"struct({name} integer)" for name in ("a", "b", "e", "_lost_1", "_shifts", "_added")},
    "m": "map(varchar, integer)",
    "i": "integer[]",
}
VALUES: dict[str, Any] = {**{name: {name: 1} for name in NESTED}, "m": {"k": 2}, "i": [3]}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(json.dumps(v) if isinstance(v, dict | list) else v for v in row.values())
    path.write_text(text.getvalue())


def _write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["number_"] = [int(number) for number in columns["number_"]]
    pq.write_table(pa.table(columns), path)


def _write_sqlite(path: Path, rows: list[dict[str, Any]]) -> None:
    with closing(sqlite3.connect(path)) as con:
        con.execute("drop table if exists t")
        con.execute("create table t (" + ", ".join(f'"{n}" text' for n in rows[0]) + ")")
        for row in rows:
            cells = [json.dumps(v) if isinstance(v, dict | list) else v for v in row.values()]
            con.execute(f"insert into t values ({', '.join('?' * len(cells))})", cells)
        con.commit()


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet, "sqlite": _write_sqlite,
}  # fmt: skip


@pytest.mark.parametrize("is_upper", [False, True])
@pytest.mark.parametrize("kind", WRITERS)
def test_helper_names_are_columns_like_others(ground: Ground, kind: str, is_upper: bool) -> None:
    names = [name.upper() if is_upper else name for name in HELPERS]
    nested = {(n.upper() if is_upper else n): t for n, t in NESTED.items()} if kind != "parquet" else {}
    last = "X0_MAP" if is_upper else "x0_map"
    declared = {"number_": "integer"} | dict.fromkeys(names, "varchar") | nested
    path = ground.root / f"in.{kind}"

    def row(number: int, text: str) -> dict[str, Any]:
        values = {name: f"{text} {name}" for name in names}
        return {"number_": str(number), **values, **{n: VALUES[n.lower()] for n in nested}, last: text}

    ingest: dict[str, Any] = {"uri": path.name, "format": kind, "new_columns": "ignore"}
    if kind == "sqlite":
        ingest = {"uri": f"sqlite://{path}", "format": "table", "table": "t", "new_columns": "ignore"}
    if kind == "parquet":
        declared["number_"] = "utinyint"
    table = source_table(declared, **ingest, max_quarantined_share=0.9)
    bad = "-5" if kind == "parquet" else "5000000000"
    for version in ("one", "two"):
        rows = [row(1, "same"), row(2, version), row(3, version) | {"number_": bad}]
        WRITERS[kind](path, rows)
        ground.land(table)
        ground.close()
        selected = ", ".join(f'"{name}"' for name in ("number_", *names, *nested))
        expected = [tuple(r[n] if n != "number_" else int(r[n]) for n in ("number_", *names, *nested))
                    for r in rows[:2]]  # fmt: skip
        assert sorted(ground.rows(selected)) == expected
        ((_, column, reason, raw_text),) = ground.quarantine()
        assert column == "number_"
        assert bad in reason
        assert all(f"{version} {name}" in raw_text for name in names)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sqlite"])
@pytest.mark.parametrize("name", ["x0", "x1", "_gw", "a", "key", "value", "v"])
def test_nested_values_have_any_name(ground: Ground, kind: str, name: str) -> None:
    path = ground.root / f"in.{kind}"
    ingest: dict[str, Any] = {"uri": path.name, "format": kind}
    if kind == "sqlite":
        ingest = {"uri": f"sqlite://{path}", "format": "table", "table": "t"}
    types = {
        f'struct("{name}" struct("{name}" integer))': {name: {name: 1}},
        f'map(varchar, struct("{name}" integer)[])': {"k": [{name: 1}]},
    }
    for number, (data_type, value) in enumerate(types.items()):
        table = source_table({"id": "integer", name: data_type}, name=f"t{number}", **ingest)
        WRITERS[kind](path, [{"id": "1", name: value}])
        ground.land(table)
        ground.close()
        assert ground.rows(f'id, "{name}"', table=f"t{number}") == [(1, value)]


@pytest.mark.parametrize("name", ["row", "text", "file_row_number", "File_Row_Number", "_row", "rows"])
def test_parquet_columns_keep_their_names_where_digits_would_be_cut(ground: Ground, name: str) -> None:
    exact, cut = 1_700_000_000_000_000_000, 1_700_000_000_000_000_001
    times = pa.array([cut, exact, cut], pa.timestamp("ns"))
    texts = pa.array(["a", "b", "c"])
    pq.write_table(pa.table({"at": times, name: texts}), ground.root / "in.parquet")
    table = source_table(
        {"at": "timestamp", name: "varchar"}, uri="in.parquet", format="parquet", max_quarantined_share=0.9
    )
    ground.land(table)
    assert ground.rows(f'"{name}", "at"') == [("b", datetime(2023, 11, 14, 22, 13, 20))]
    assert [line for line, *_ in ground.quarantine()] == [1, 3]


def test_a_path_gives_a_column_named_like_the_number_of_a_row(ground: Ground) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": pa.array([1], pa.int32())}), buffer)
    ground.put("d/file_row_number=7/in.parquet", buffer.getvalue())
    columns = {"id": "integer", "file_row_number": "integer"}
    table = source_table(
        columns, uri="d/*/*.parquet", format="parquet", partition_columns=("file_row_number",)
    )
    ground.land(table)
    assert ground.rows("id, file_row_number") == [(1, 7)]
