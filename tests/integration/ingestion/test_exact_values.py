"""In every format and type a value lands exactly, or its row is quarantined with column and line."""

import io
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.declarations import Partition, Table
from orchestration.ingestion.faults import IngestFault
from orchestration.partitions import Window, day_window
from tests.integration.ingestion.landing_ground import Ground, source_table
from tests.unit.ingestion.exact_oracle import BAD, expected, local, may_be_refused
from tests.unit.ingestion.number_texts import clocks, moments, numbers

NUMBERS = ["integer", "ubigint", "decimal(18,2)", "decimal(38,2)", "double", "float", "varchar"]
COLUMNS = {f"n{i}": t for i, t in enumerate(NUMBERS)} | {
    "d": "date", "t": "timestamp", "tz": "timestamptz", "ms": "timestamp_ms", "c": "time",
}  # fmt: skip
Cell = tuple[str, str]
"""A column and its text; each row has one cell."""

CASES = [
    "1.005", "1.999", "0.00000000009", "1e-19", "5.0000000000000000001", "16777217", "1e-60", "1e-400", "1e400",
    "12345678901234567.89", "9007199254740993", "9007199254740993.0", "1e2", "1.10", "-0", "0.1", "0.5", "+-5", "1.5e3",
]  # fmt: skip
ZONED = ["2024-07-01 12:00:00", "2024-07-01 12:00:00 America/New_York", "2024-07-01 12:00:00 BST"]
CUT = ["2024-01-01 00:00:00.123456789", "2024-01-01 00:00:00.9", "2024-01-01 00:00:00+02", "300000-01-01"]
cells = st.one_of(
    st.tuples(st.sampled_from([f"n{i}" for i in range(len(NUMBERS))]), numbers.map(str.strip).filter(bool)),
    st.tuples(st.sampled_from(["d", "t", "tz", "ms"]), moments),
    st.tuples(st.just("c"), clocks),
)


def write_csv(ground: Ground, rows: Sequence[Cell]) -> Table:
    lines = [",".join(["id", *COLUMNS])]
    lines += [
        ",".join([str(i), *('"' + text + '"' if name == column else "" for name in COLUMNS)])
        for i, (column, text) in enumerate(rows)
    ]
    ground.put("in.csv", "\n".join(lines) + "\n")
    return source_table(types(), uri="in.csv", format="csv", max_quarantined_share=1.0)


def write_jsonl(ground: Ground, rows: Sequence[Cell]) -> Table:
    def value(text: str) -> str:
        try:
            is_number = isinstance(json.loads(text, parse_float=Decimal), int | Decimal)
        except ValueError:
            is_number = False
        return text if is_number and "n" not in text.lower() else json.dumps(text)

    lines = [f'{{"id": {i}, "{column}": {value(text)}}}' for i, (column, text) in enumerate(rows)]
    # The first line has every key.
    lines.append(json.dumps({"id": -1} | dict.fromkeys(COLUMNS)))
    ground.put("in.jsonl", "\n".join(lines) + "\n")
    return source_table(types(), uri="in.jsonl", format="jsonl", max_quarantined_share=1.0)


def write_sqlite(ground: Ground, rows: Sequence[Cell]) -> Table:
    path = ground.root / "source.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(f"create table t (id integer, {', '.join(f'{c} text' for c in COLUMNS)})")
        for i, (column, text) in enumerate(rows):
            con.execute(f"insert into t (id, {column}) values (?, ?)", (i, text))
    return source_table(types(), uri=f"sqlite://{path}", format="table", table="t", max_quarantined_share=1.0)


def types() -> dict[str, str]:
    return {"id": "integer"} | COLUMNS


WRITERS: dict[str, Callable[[Ground, Sequence[Cell]], Table]] = {
    "csv": write_csv, "jsonl": write_jsonl, "sqlite": write_sqlite,
}  # fmt: skip


def check_landed(ground: Ground, rows: Sequence[Cell]) -> None:
    landed = {row[0]: row[1:] for row in ground.rows(f"id, {', '.join(COLUMNS)}")}
    reasons = {line: (column, reason) for line, column, reason, _ in ground.quarantine()}
    assert len(landed.keys() - {-1}) + len(reasons) == len(rows)
    for i, (column, text) in enumerate(rows):
        data_type, position = COLUMNS[column], list(COLUMNS).index(column)
        value = expected(text, data_type)
        if i not in landed:
            assert value is BAD or may_be_refused(text, data_type) or "24:" in text, (column, text)
            continue
        found = landed[i][position]
        assert found == value or (found != found and value != value), (column, data_type, text, found)
    for column, reason in reasons.values():
        assert reason.startswith(f"{column}: found '"), reason
        assert ", expected " in reason


@pytest.mark.parametrize("format_", WRITERS)
def test_the_known_cases_land_exactly_or_go_to_quarantine(ground: Ground, format_: str) -> None:
    rows = [(f"n{i}", text) for i in range(len(NUMBERS)) for text in CASES]
    rows += [(column, text) for text in [*ZONED, *CUT, *ZONED] for column in ("d", "t", "tz", "ms")]
    rows += [("c", text) for text in ("12:00:00.123456789", "12:00:00+02", "12:00:00")]
    rows = [row for row in rows if row != ("d", "300000-01-01")]
    ground.land(WRITERS[format_](ground, rows))
    check_landed(ground, rows)


@pytest.mark.parametrize("format_", WRITERS)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(cells, min_size=150, max_size=150))
def test_any_text_lands_exactly_or_goes_to_quarantine(
    tmp_path_factory: pytest.TempPathFactory, format_: str, rows: list[Cell]
) -> None:
    ground = Ground(tmp_path_factory.mktemp("any"))
    ground.land(WRITERS[format_](ground, rows))
    check_landed(ground, rows)
    ground.close()


def test_a_postgres_table_lands_exactly(ground: Ground, postgres_url: str) -> None:
    with closing(psycopg2.connect(postgres_url)) as con, con, con.cursor() as cursor:
        cursor.execute(
            "create table t (id int, r real, f double precision, n numeric, b bytea, a int[], at timestamp)"
        )
        cursor.execute(
            "insert into t values (1, 0.1, 0.5, 1.005, '\\x4142ff', '{1,2}', '2024-07-01 12:00'),"
            "(2, 0.1, 0.1, 1.5, null, null, null)"
        )
    columns = {"id": "integer", "r": "float", "f": "float", "n": "decimal(38,2)", "b": "blob", "a": "int[]",
               "at": "timestamptz"}  # fmt: skip
    table = source_table(
        columns, uri=postgres_url, format="table", table="t", max_quarantined_share=1.0,
        timezone="America/New_York",
    )  # fmt: skip
    ground.land(table)
    assert {column for _, column, _, _ in ground.quarantine()} == {"n", "f"}
    with closing(psycopg2.connect(postgres_url)) as con, con, con.cursor() as cursor:
        cursor.execute("update t set n = 1.5, f = 0.5")
    ground.land(table)
    assert ground.rows("id, r::double, n, b, a, \"at\"")[0] == (
        1, 0.10000000149011612, Decimal("1.50"), b"AB\xff", [1, 2], datetime(2024, 7, 1, 16, tzinfo=UTC),
    )  # fmt: skip


def put_parquet(ground: Ground, **columns: pa.Array) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    ground.put("in.parquet", buffer.getvalue())


def test_parquet_columns_of_null_are_null_in_any_type(ground: Ground) -> None:
    put_parquet(
        ground, id=pa.array([1], pa.int32()), note=pa.nulls(1), tags=pa.array([[None]], pa.list_(pa.null())),
        s=pa.array([{"x": None}], pa.struct([("x", pa.null())])),
    )  # fmt: skip
    columns = {"id": "integer", "note": "varchar", "tags": "text[]", "s": "struct(x long)"}
    ground.land(source_table(columns, uri="in.parquet", format="parquet"))
    assert ground.rows("id, note, tags, s") == [(1, None, [None], {"x": None})]


@pytest.mark.parametrize("declared", ["int[]", "int4[]", "bigint[]", "decimal(9,2)[]"])
def test_nested_parquet_types_convert_part_by_part(ground: Ground, declared: str) -> None:
    put_parquet(ground, id=pa.array([1], pa.int32()), s=pa.array([[1, 2]], pa.list_(pa.int32())))
    ground.land(source_table({"id": "integer", "s": declared}, uri="in.parquet", format="parquet"))
    assert ground.rows("s") == [([1, 2],)]


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        (pa.timestamp("ns", "UTC"), "timestamptz"),
        (pa.timestamp("ns"), "timestamp"),
        (pa.time64("ns"), "time"),
    ],
)
def test_parquet_nanoseconds_go_to_quarantine(ground: Ground, kind: pa.DataType, declared: str) -> None:
    values = pa.array([1_000, 1_001, 2_000], pa.int64()).cast(kind)
    put_parquet(ground, id=pa.array([1, 2, 3], pa.int32()), at=values)
    ground.land(
        source_table({"id": "integer", "at": declared}, uri="in.parquet", format="parquet", max_quarantined_share=1.0)
    )  # fmt: skip
    assert ground.rows("id") == [(1,), (3,)]
    assert [(line, column) for line, column, _, _ in ground.quarantine()] == [(2, "at")]
    assert "000001001" in ground.quarantine()[0][2]


BEYOND = {
    "date": (pa.date32(), pa.int32(), [-(2**31), 0, -(2**31) + 1, 2**31 - 1, -(2**31) + 2]),
    "timestamp": (
        pa.timestamp("us"),
        pa.int64(),
        [-(2**63), 0, -(2**63) + 1, 2**63 - 1, -9223372022400000000],
    ),
    "timestamptz": (pa.timestamp("ms", "UTC"), pa.int64(), [2**62, 0, -(2**55), 1, 9223372036854775]),
    "time": (pa.time64("us"), pa.int64(), [-1, 0, 86_400_000_000, 1, 86_399_999_999]),
    "time_ms": (pa.time32("ms"), pa.int32(), [-1, 0, 86_400_000, 1, 86_399_999]),
}
IS_BEYOND = {"date": [1], "timestamp": [1], "timestamptz": [1, 3], "time": [1, 3], "time_ms": [1, 3]}


@pytest.mark.parametrize("name", BEYOND)
def test_parquet_values_beyond_the_range_go_to_quarantine(ground: Ground, name: str) -> None:
    kind, physical, numbers_ = BEYOND[name]
    declared = name.removesuffix("_ms")
    put_parquet(ground, id=pa.array(range(1, 6), pa.int32()), v=pa.array(numbers_, physical).view(kind))
    ground.land(
        source_table({"id": "integer", "v": declared}, uri="in.parquet", format="parquet", max_quarantined_share=1.0)
    )  # fmt: skip
    assert [(line, column) for line, column, _, _ in ground.quarantine()] == [
        (n, "v") for n in IS_BEYOND[name]
    ]
    assert f"v: found '{numbers_[0]} " in ground.quarantine()[0][2]
    factor = {"ms": 1000}.get(getattr(kind, "unit", ""), 1)
    read = {
        "date": lambda n: f"select case when abs({n}) = 2147483647 then if({n} > 0, 'infinity', '-infinity')::date "
        f"else date '1970-01-01' + {n} end",
        "time": lambda n: f"select time '00:00:00' + to_microseconds({n * factor})",
    }.get(declared, lambda n: "select " + (
        f"'{'-' if n < 0 else ''}infinity'::{declared}" if abs(n) == 2**63 - 1
        else f"make_{declared}({n * factor})"
    ))  # fmt: skip
    for i, number in enumerate(numbers_, 1):
        if i not in IS_BEYOND[name]:
            assert ground.ask(f"select v = ({read(number)}) from raw.readings where id = {i}") == [(True,)], (
                number
            )


def test_a_value_beyond_the_range_is_found_in_a_column_whose_name_has_a_point(ground: Ground) -> None:
    days = pa.array([-(2**31), 0], pa.int32()).view(pa.date32())
    put_parquet(ground, id=pa.array([1, 2], pa.int32()), **{"a.b": days})
    columns = {"id": "integer", "a.b": "date"}
    ground.land(source_table(columns, uri="in.parquet", format="parquet", max_quarantined_share=1.0))
    assert ground.rows('id, "a.b"') == [(2, date(1970, 1, 1))]
    assert [(line, column) for line, column, _, _ in ground.quarantine()] == [(1, "a.b")]


def test_a_value_beyond_the_range_inside_a_nested_column_is_refused(ground: Ground) -> None:
    days = pa.array([-(2**31)], pa.int32()).view(pa.date32())
    put_parquet(
        ground, id=pa.array([1], pa.int32()), v=pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), days)
    )
    with pytest.raises(IngestFault, match=r"column 'v': found a value beyond .* days since 1970-01-01"):
        ground.land(source_table({"id": "integer", "v": "date[]"}, uri="in.parquet", format="parquet"))


@pytest.mark.parametrize("new_columns", ["fail", "evolve"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_decimal_of_more_than_38_digits_is_refused(
    ground: Ground, new_columns: str, is_nested: bool
) -> None:
    wide = pa.array([Decimal("1.25")], pa.decimal256(50, 2))
    v = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), wide) if is_nested else wide
    put_parquet(ground, id=pa.array([1], pa.int32()), v=v)
    columns = {"id": "integer"} | (
        {} if new_columns == "evolve" else {"v": "double[]" if is_nested else "double"}
    )
    with pytest.raises(IngestFault, match=r"column 'v': found type decimal\(50,2\)"):
        ground.land(source_table(columns, uri="in.parquet", format="parquet", new_columns=new_columns))


def test_parquet_columns_that_differ_in_capitals_are_refused_if_wanted(ground: Ground) -> None:
    put_parquet(
        ground, id=pa.array([1], pa.int32()), A=pa.array([2], pa.int32()), a=pa.array([3], pa.int32())
    )
    for column in ("a", "a_1"):
        table = source_table(
            {"id": "integer", column: "integer"}, uri="in.parquet", format="parquet", new_columns="ignore"
        )
        with pytest.raises(IngestFault, match=r"'A' and 'a' more than once|no column 'a_1'"):
            ground.land(table)
    ground.land(source_table({"id": "integer"}, uri="in.parquet", format="parquet", new_columns="ignore"))
    assert ground.rows("id") == [(1,)]


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("varchar[]", '["\\u0001x", "y"]'),
        ("struct(t varchar)", '{"t": "\\u0001x"}'),
        ("map(varchar, varchar)", '{"t": "\\u0001x"}'),
    ],
)
def test_a_control_character_in_a_nested_text_is_kept_or_quarantined(
    ground: Ground, declared: str, value: str
) -> None:
    ground.put("in.jsonl", f'{{"id": 1, "v": {value}}}\n{{"id": 2, "v": null}}\n')
    table = source_table(
        {"id": "integer", "v": declared}, uri="in.jsonl", format="jsonl", max_quarantined_share=1.0
    )
    ground.land(table)
    assert ground.rows("id") == [(2,)]
    assert [(line, column) for line, column, _, _ in ground.quarantine()] == [(1, "v")]


def test_a_json_key_that_comes_twice_is_quarantined(ground: Ground) -> None:
    lines = [
        '{"id": 1, "v": {"x": 1}}', '{"id": 2, "id": 3, "v": {"x": 1}}', '{"id": 4, "v": {"x": 1, "x": 2}}',
        '{"id": 5, "\\u0069d": 6, "v": null}', '{"id": 7, "other": 1, "other": 1, "v": null}',
    ]  # fmt: skip
    ground.put("in.jsonl", "\n".join(lines) + "\n")
    columns = {"id": "integer", "v": "struct(x bigint)"}
    ground.land(
        source_table(columns, uri="in.jsonl", format="jsonl", max_quarantined_share=1.0, new_columns="ignore")
    )
    assert ground.rows("id, v") == [(1, {"x": 1})]
    assert [line for line, _, _, _ in ground.quarantine()] == [2, 3, 4, 5]


ZONES = {
    "America/New_York": [date(2024, 3, 10), date(2024, 11, 3)],
    "Europe/Berlin": [date(2024, 3, 31), date(2024, 10, 27)],
    "Australia/Lord_Howe": [date(2024, 4, 7), date(2024, 10, 6)],
}


@pytest.mark.parametrize("declared", ["timestamp", "timestamptz"])
@pytest.mark.parametrize("zone", ZONES)
def test_zoneless_times_belong_to_the_day_of_their_zone(ground: Ground, zone: str, declared: str) -> None:
    partition = Partition(frequency="daily", start=date(2024, 1, 1), end=date(2025, 1, 1), timezone=zone)
    clocks_ = [datetime.combine(day, datetime.min.time()) + timedelta(minutes=15 * n)
               for day in ZONES[zone] for n in range(96)]  # fmt: skip
    ground.put("in.csv", "id,at\n" + "".join(f"{i},{at}\n" for i, at in enumerate(clocks_)))
    table = source_table(
        {"id": "integer", "at": declared}, uri="in.csv", format="csv", event_time="at", partition=partition,
        timezone=zone, max_quarantined_share=1.0,
    )  # fmt: skip
    instants = {i: local(at, zone) for i, at in enumerate(clocks_)}
    assert BAD in instants.values()
    for day in ZONES[zone]:
        start, end = day_window(partition, day).start, day_window(partition, day).end
        ground.land(table, Window(start, end))
        held = {i for i, at in instants.items() if at is not BAD and start <= at < end}
        found = {row[0] for row in ground.rows("id")}
        assert held <= found
        assert all(clocks_[i].date() == day for i in held)
    assert found == {i for i, at in instants.items() if at is not BAD}
    assert {line - 2 for line, _, _, _ in ground.quarantine()} == instants.keys() - found
    if declared == "timestamptz":
        assert dict(ground.rows('id, "at"')) == {i: at for i, at in instants.items() if at is not BAD}
        assert ZoneInfo(zone).utcoffset(clocks_[0]) is not None


def test_a_date_is_its_own_day(ground: Ground) -> None:
    partition = Partition(
        frequency="daily", start=date(2024, 1, 1), end=date(2024, 2, 1), timezone="America/New_York"
    )
    ground.put("in.csv", "id,at\n1,2024-01-01\n2,2024-01-02\n3,2024-02-01\n4,300000-01-01\n")
    table = source_table(
        {"id": "integer", "at": "date"}, uri="in.csv", format="csv", event_time="at", partition=partition,
        max_quarantined_share=1.0,
    )  # fmt: skip
    ground.land(table, day_window(partition, date(2024, 1, 2)))
    assert ground.rows("id") == [(2,)]
    ground.land(table, day_window(partition, date(2024, 1, 1)))
    assert sorted(ground.rows("id")) == [(1,), (2,)]
    assert [line for line, _, _, _ in ground.quarantine()] == [4, 5]


def test_a_missing_zone_is_refused_where_it_is_needed(ground: Ground) -> None:
    partition = Partition(
        frequency="daily", start=date(2024, 1, 1), end=date(2024, 2, 1), timezone="America/New_York"
    )
    ground.put("in.csv", "id,at\n1,2024-01-01 12:00:00\n")
    columns = {"id": "integer", "at": "timestamp"}
    table = source_table(columns, uri="in.csv", format="csv", event_time="at", partition=partition)
    with pytest.raises(IngestFault, match=r"ingest\.timezone: found nothing, expected the time zone"):
        ground.land(table, day_window(partition, date(2024, 1, 1)))
    table = source_table(columns | {"at": "timestamptz"}, uri="in.csv", format="csv", event_time="at",
                         partition=partition)  # fmt: skip
    with pytest.raises(IngestFault, match="with an offset"):
        ground.land(table, day_window(partition, date(2024, 1, 1)))


def test_an_event_beyond_the_range_goes_to_quarantine(ground: Ground) -> None:
    ground.put("in.csv", "id,at,name\n1,2024-01-01 00:00:00,a\n2,294247-01-09 00:00:00,b\n")
    ground.land(ground.daily(max_quarantined_share=1.0))
    assert ground.rows("id") == [(1,)]
    assert [(line, column) for line, column, _, _ in ground.quarantine()] == [(3, "at")]
