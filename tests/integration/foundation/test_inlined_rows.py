"""Rows that the previous release left in the catalog are read exactly as they were written."""

import logging
import uuid
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.inlined import StructLiteralError, readable_text
from orchestration.lakehouse.maintenance import Upkeep, maintain
from orchestration.settings import Settings
from tests.integration.foundation.lakes import CATALOGS, bare_duckdb, settings_of, write_bare

NOTHING = timedelta(0)
FIELDS = {
    "t": "varchar", "b": "blob", "d": "date", "ts": "timestamp", "tz": "timestamptz", "tm": "time", "f": "double",
    "r": "float", "n": "decimal(9,3)", "i": "bigint", "u": "uuid", "y": "boolean", "l": "varchar[]",
    "k": "struct(q varchar, z date)", "ls": "struct(q varchar)[]",
}  # fmt: skip
STRUCT = f"struct({', '.join(f'{name} {kind}' for name, kind in FIELDS.items())})"

# No zero byte: a PostgreSQL catalog cannot store one.
texts = st.one_of(
    st.sampled_from(
        ["it's", "a\\b", "", "NULL", "null", " x ", "{'a': 1}", "[1, 2]", "CAST('x' AS DATE)", "a, b"]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
)
doubles = st.sampled_from(["nan", "inf", "-inf"]) | st.floats(allow_nan=False, allow_infinity=False)
# A list in a struct with brackets or backslashes in its texts may stay in the catalog, and is then named.
plain = st.text("abc '", max_size=6).map(str.strip)
values = {
    "t": texts, "b": st.binary(max_size=6), "d": st.dates(), "ts": st.datetimes(),
    "tz": st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1)), "tm": st.times(), "f": doubles,
    "r": st.floats(width=32, allow_nan=False, allow_infinity=False), "n": st.decimals(-999999, 999999, places=3), "i": st.integers(-(2**63), 2**63 - 1),
    "u": st.uuids(), "y": st.booleans(), "l": st.lists(st.none() | plain, max_size=3),
    "k": st.fixed_dictionaries({"q": st.none() | texts, "z": st.none() | st.dates()}),
    "ls": st.lists(st.fixed_dictionaries({"q": plain}), max_size=2),
}  # fmt: skip
structs = st.none() | st.fixed_dictionaries({name: st.none() | values[name] for name in FIELDS})
WORST = {
    "t": "it's \\", "b": b"\x00'\\", "d": date(2024, 1, 2), "ts": datetime(2024, 1, 2, 3, 4, 5, 6),
    "tz": datetime(2024, 1, 2, tzinfo=UTC), "tm": time(1, 2, 3), "f": "nan", "r": "-inf", "n": Decimal("1.500"),
    "i": -(2**63), "u": uuid.UUID(int=2**127), "y": True, "l": ["it's", None, "", "ab"],
    "k": {"q": "it's", "z": None}, "ls": [{"q": "it's"}],
}  # fmt: skip


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: list) -> None:
    for number, row in enumerate(rows):
        con.execute(f"insert into {table} select ?, cast(? as {STRUCT})", [number, row])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(structs, min_size=1, max_size=8))
@example(rows=[WORST, None])
def test_structs_that_were_inlined_read_as_they_were_written(tmp_path_factory, rows):
    of = Settings(data_dir=tmp_path_factory.mktemp("lake"))
    with closing(bare_duckdb(of)) as old:
        old.execute(f"create table t (id integer, s {STRUCT})")
        _insert(old, "t", rows)
        assert old.execute("select count(*) from ducklake_list_files('lake', 't')").fetchall() == [(0,)]
    with LakehouseResource.from_settings(of).get_connection() as con:
        con.execute(f"create table memory.main.t (id integer, s {STRUCT})")
        _insert(con, "memory.main.t", rows)
        different = con.execute(
            "select id, a.s::varchar, b.s::varchar from lake.t a full join memory.main.t b using (id) "
            "where a.s is distinct from b.s"
        ).fetchall()
        assert different == []
        assert con.execute("select count(*) from ducklake_list_files('lake', 't')").fetchall() == [(1,)]


@pytest.mark.parametrize("catalog", CATALOGS)
def test_a_lakehouse_of_the_previous_release_opens_with_all_rows_and_snapshots(catalog, tmp_path, request):
    of = settings_of(catalog, tmp_path, request)
    write_bare(
        of,
        [
            "create schema raw",
            "create table raw.t (id integer, s struct(x date, y varchar))",
            "insert into raw.t values (1, {x: '2024-01-02', y: 'it''s'}), (2, {x: null, y: 'a\\b'}), (3, null)",
            "delete from raw.t where id = 3",
            "alter table raw.t rename column s to renamed",
            "insert into raw.t values (4, {x: '2024-01-04', y: 'CAST(''x'' AS VARCHAR)'})",
            "create table raw.plain as select i::integer as i from range(100) r(i)",
            "delete from raw.plain where i = 7",
        ],
    )
    lakehouse = LakehouseResource.from_settings(of)
    with lakehouse.get_connection() as con:
        before = con.execute("select id, s::varchar from raw.t at (version => 3) order by id").fetchall()
        now = con.execute("select id, renamed::varchar from raw.t order by id").fetchall()
        deletes = con.execute("select delete_file from ducklake_list_files('lake', 'plain', schema => 'raw')")
        assert deletes.fetchall()[0][0] is not None
    first = [(1, r"{'x': 2024-01-02, 'y': 'it\'s'}"), (2, r"{'x': NULL, 'y': a\b}")]
    assert before == [*first, (3, None)]
    assert now == [*first, (4, r"{'x': 2024-01-04, 'y': 'CAST(\'x\' AS VARCHAR)'}")]
    done: Upkeep = maintain(lakehouse, retention=NOTHING, safe_age=NOTHING)
    assert (done.rows_inlined, done.inlined) == (0, ())
    with lakehouse.reader() as con:
        assert con.execute("select id, renamed::varchar from raw.t order by id").fetchall() == now
        assert con.execute("select count(*) from raw.plain").fetchall() == [(99,)]


@pytest.mark.parametrize("catalog", CATALOGS)
def test_rows_that_cannot_move_are_named_and_stop_nothing_else(catalog, tmp_path, request, caplog):
    of = settings_of(catalog, tmp_path, request)
    table = "__ducklake_metadata_lake.ducklake_inlined_data_1_1"
    write_bare(
        of,
        [
            "create table broken (id integer, s struct(x date))",
            "insert into broken values (1, {x: '2024-01-02'})",
            f"update {table} set s = '{{''x'': CAST(secret'",
            "create table wide (id integer, h hugeint)",
            "insert into wide values (1, 9007199254740993)",
            "create table fine (id integer, s struct(x varchar))",
            "insert into fine values (1, {x: 'it''s'})",
            "create table many as select i::integer as i from range(100) r(i)",
            "delete from many where i < 60",
        ],
    )
    lakehouse = LakehouseResource.from_settings(of)
    with caplog.at_level(logging.WARNING):
        done = maintain(lakehouse, retention=NOTHING, safe_age=NOTHING)
    kept = {rows.table: str(rows) for rows in done.inlined}
    assert sorted(kept) == ["broken", "wide"]
    assert "main.broken: 1 rows stay in the catalog: column s, row 0: expected" in kept["broken"]
    assert "a file would alter the values of h (HUGEINT)" in kept["wide"]
    assert "secret" not in caplog.text + "".join(kept.values())
    assert done.rows_inlined == 2
    assert done.files_compacted > 0
    with lakehouse.reader() as con:
        assert con.execute("from fine").fetchall() == [(1, {"x": "it's"})]
        assert con.execute("from wide").fetchall() == [(1, 2**53 + 1)]
        assert con.execute("select count(*) from many").fetchall() == [(40,)]


def test_a_repair_that_was_killed_before_the_flush_continues(tmp_path, monkeypatch):
    """Restored text is not parsed as a literal again: ``a\\\\b`` would lose a backslash."""
    of = Settings(data_dir=tmp_path)
    write_bare(
        of,
        [
            "create table t (id integer, s struct(x varchar))",
            "insert into t values (1, {x: 'it''s a\\\\b'}), (2, {x: 'a\\\\''b'})",
        ],
    )

    class Killed(Exception):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("orchestration.lakehouse.inlined._flush", killed)
        with pytest.raises(Killed):
            LakehouseResource.from_settings(of).open()
    done = maintain(LakehouseResource.from_settings(of), retention=NOTHING)
    assert done.inlined == ()
    with LakehouseResource.from_settings(of).reader() as con:
        assert con.execute("from t order by id").fetchall() == [
            (1, {"x": "it's a\\\\b"}),
            (2, {"x": "a\\\\'b"}),
        ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{'x': 1",
        "{'y': 1}",
        "{'x': 'a}",
        "{'x': CAST('a' AS",
        "{'x': [1}",
        "{'x': (select 1)}",
        "[1]",
    ],
)
def test_text_that_is_not_a_literal_of_the_struct_is_refused(text):
    with duckdb.connect() as con, pytest.raises(StructLiteralError):
        readable_text(con, text, con.type("struct(x integer)"))
