"""Delimited text: what lands, what goes to quarantine, and what fails the delivery."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from orchestration.ingestion.faults import IngestFault
from tests.integration.ingestion.landing_ground import Ground

AT = datetime(2024, 1, 1, 12, tzinfo=UTC)
HEADER = "id,at,name\n"
GOOD = HEADER + "1,2024-01-01T12:00:00Z,a\n2,2024-01-01T12:00:00Z,b\n"


def test_rows_land_as_they_came_with_where_they_came_from(ground: Ground) -> None:
    ground.put("in.csv", GOOD)
    ground.land(ground.csv())
    assert ground.rows() == [(1, AT, "a", 1), (2, AT, "b", 2)]
    uris = ground.ask(
        "select distinct _source_uri, length(_source_sha256), _run_id, _late_at from raw.readings"
    )
    assert uris == [("in.csv", 64, "run-1", None)]


def test_declared_types_are_stored_and_null_markers_and_quotes_are_read(ground: Ground) -> None:
    columns = {
        "n": "bigint",
        "d": "decimal(6, 2)",
        "f": "double",
        "b": "boolean",
        "day": "date",
        "t": "varchar",
    }
    ground.put(
        "in.csv",
        'n;d;f;b;day;t\n9007199254740993;1.25;0.1;true;2024-02-29;"x;""y""\n z"\nNA;NA;NA;NA;NA;NA\n',
    )
    ground.land(ground.csv(columns, delimiter=";", null_values=("NA",)))
    assert ground.rows("n, d, f, b, day, t") == [
        (9007199254740993, Decimal("1.25"), 0.1, True, date(2024, 2, 29), 'x;"y"\n z'),
        (None,) * 6,
    ]
    types = ground.ask(
        "select column_name, data_type from duckdb_columns() where database_name = 'lake' and schema_name = 'raw' order by column_index limit 6"
    )
    assert [t.lower() for _, t in types] == ["bigint", "decimal(6,2)", "double", "boolean", "date", "varchar"]


def test_columns_are_found_by_name_in_any_order(ground: Ground) -> None:
    ground.put("in.csv", "name,id,at\na,1,2024-01-01T12:00:00Z\n")
    ground.land(ground.csv())
    assert ground.rows() == [(1, AT, "a", 1)]


def test_a_cell_that_its_type_cannot_hold_goes_to_quarantine_with_line_column_and_text(
    ground: Ground,
) -> None:
    ground.put("in.csv", "k,v,w\n1,,\n2,1.5,x\n3,3,\n4,4,y\n")
    outcome = ground.land(
        ground.csv({"k": "integer", "v": "integer", "w": "date"}, max_quarantined_share=0.5)
    )
    assert ground.rows("k, v, _row_number") == [(1, None, 1), (3, 3, 3)]
    assert ground.quarantine() == [
        (3, "v", "v: found '1.5', expected integer; w: found 'x', expected date", "2,1.5,x"),
        (5, "w", "w: found 'y', expected date", "4,4,y"),
    ]
    assert outcome.total("quarantined") == 2


def test_rows_of_another_shape_go_to_quarantine_and_the_others_keep_their_numbers(ground: Ground) -> None:
    body = '1,a\n2\n3,c,x\n4,"d"e\n5,e\nbad,f\n7,\xff\n8,h\n'.encode("latin-1")
    ground.put("in.csv", b"id,name\n" + body)
    ground.land(ground.csv({"id": "integer", "name": "varchar"}, max_quarantined_share=0.9))
    assert ground.rows("id, name, _row_number") == [(1, "a", 1), (5, "e", 5), (8, "h", 8)]
    found = ground.quarantine()
    assert [line for line, *_ in found] == [3, 4, 5, 7, 8]
    assert [text for *_, text in found][:4] == ["2", "3,c,x", '4,"d"e', "bad,f"]
    words = [
        "missing columns",
        "too many columns",
        "unquoted value",
        "id: found 'bad', expected integer",
        "invalid encoding",
    ]
    assert [w for w, (_, _, reason, _) in zip(words, found, strict=True) if w in reason] == words


def test_too_large_a_share_fails_naming_columns_lines_and_values_and_nothing_is_visible(
    ground: Ground,
) -> None:
    ground.put("in.csv", HEADER + "1,2024-01-01T12:00:00Z,a\none,2024-01-01T12:00:00Z,b\ntwo,never,c\n")
    with pytest.raises(IngestFault) as caught:
        ground.land(ground.csv(max_quarantined_share=0.1))
    message = str(caught.value)
    for part in (
        "in.csv",
        "2 of 3 rows",
        "66.67%",
        "at most 10.00%",
        "id (2)",
        "line 3",
        "'one'",
        "line 4",
        "never",
    ):
        assert part in message
    assert caught.value.metadata["unreadable_rows"] == 2
    assert ground.ask("select table_name from duckdb_tables() where database_name = 'lake'") == [
        ("landings",)
    ]


def test_values_of_classified_columns_are_in_no_message(ground: Ground) -> None:
    ground.put("in.csv", "id,pin\n1,secret\nx,5\n")
    columns = {"id": "integer", "pin": "integer"}
    with pytest.raises(IngestFault, match=r"pin: found '\*\*\*', expected integer") as caught:
        ground.land(ground.csv(columns, classified="pin"))
    assert "secret" not in str(caught.value) + str(caught.value.metadata)
    ground.land(ground.csv(columns, classified="pin", max_quarantined_share=1))
    assert [text for *_, text in ground.quarantine()] == ["1,secret", "x,5"]


def test_row_numbers_are_true_when_a_large_file_is_read_in_parallel(ground: Ground) -> None:
    ground.use(duckdb_threads=4)
    bad = {1, 77_777, 150_000, 200_000}
    lines = [f"{i},{'x' * 40}" if i not in bad else f"{i}," + "y,z" for i in range(1, 200_001)]
    ground.put("in.csv", "id,name\n" + "\n".join(lines) + "\n")
    ground.land(ground.csv({"id": "integer", "name": "varchar"}, max_quarantined_share=0.001))
    assert ground.ask("select count(*), count(*) filter (id <> _row_number) from raw.readings") == [
        (199_996, 0)
    ]
    assert [line for line, *_ in ground.quarantine()] == [i + 1 for i in sorted(bad)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", [False, True])
def test_a_large_clean_file_lands_whole_and_numbered(ground: Ground, end: str, blank: bool) -> None:
    ground.use(duckdb_threads=4)
    lines = ["id,name", *(f"{i},{'x' * (i % 50)}" for i in range(1, 200_001))]
    if blank:
        lines.insert(50_000, "")
    ground.put("in.csv", end.join(lines))
    ground.land(ground.csv({"id": "integer", "name": "varchar"}))
    wrong = "id <> _row_number or length(coalesce(name, '')) <> id % 50"
    found = ground.ask(f"select count(*), count(distinct id), count(*) filter ({wrong}) from raw.readings")
    assert found == [(200_000, 200_000, 0)]


def test_blank_lines_and_line_breaks_in_quotes_are_no_faults(ground: Ground) -> None:
    ground.put("in.csv", b'id,name\r\n1,"a\r\nb"\r\n\r\n2,c\r\n\r\n')
    ground.land(ground.csv({"id": "integer", "name": "varchar"}))
    assert ground.rows("id, name, _row_number") == [(1, "a\r\nb", 1), (2, "c", 2)]


def test_a_nul_byte_goes_to_quarantine(ground: Ground) -> None:
    ground.put("in.csv", b"id,name\n1,a\n2,b\0c\n3,d\n")
    ground.land(ground.csv({"id": "integer", "name": "varchar"}, max_quarantined_share=0.5))
    assert ground.rows("id") == [(1,), (3,)]
    ((line, column, reason, _),) = ground.quarantine()
    assert (line, column, reason) == (3, "name", "a NUL byte")


def test_a_line_of_50_megabytes_fails_naming_it(ground: Ground) -> None:
    ground.put("in.csv", b"id,name\n1,a\n2," + b"x" * 50_000_000 + b"\n3,c\n")
    with pytest.raises(IngestFault, match=r"in\.csv, line 3: found more than 2,000,000 bytes in one line"):
        ground.land(ground.csv({"id": "integer", "name": "varchar"}))


def test_a_line_just_below_the_limit_lands(ground: Ground) -> None:
    ground.put("in.csv", b"id,name\n1," + b"x" * 1_990_000 + b"\n2,c\n")
    ground.land(ground.csv({"id": "integer", "name": "varchar"}))
    assert ground.rows("id, length(name)") == [(1, 1_990_000), (2, 1)]


def test_lines_that_an_unterminated_quote_swallows_are_missed(ground: Ground) -> None:
    block = b"".join(b"%d,value\n" % i for i in range(150_000))
    ground.put("in.csv", b"id,name\n" + block + b'7,"oops\n' + block * 24)
    with pytest.raises(IngestFault, match=r"line 150002: found a quote that is never closed"):
        ground.land(ground.csv({"id": "integer", "name": "varchar"}, max_quarantined_share=0.5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no row"),
        (b"id,at,name\n", "no row"),
        (b"id,at\n1,2024-01-01\n", "no column 'name'"),
        (b"id,at,nmae\n1,2024-01-01,a\n", r"no column 'name' \(did you mean 'nmae'\?\)"),
        (b"id,at,Name\n1,2024-01-01,a\n", r"did you mean 'Name'\?"),
        (b"id,at,name,new\n1,2024-01-01,a,b\n", "new column 'new'"),
        (b"id,at,name,id\n1,2024-01-01,a,b\n", "column 'id' more than once"),
        (b"id;at;name\n1;2024-01-01;a\n", r"is the delimiter ';'\?"),
        ("id,at,name\n1,2024-01-01,a\n".encode("utf-16"), "bytes that are not UTF-8"),
        (b"id,at,n\0ame\n1,2024-01-01,a\n", "NUL"),
        (b"id,at,name\n1,2024-01-01T00:00:00Z,a\n2,2024-01", "1 of 2 rows"),
        (b"id,at,name\n1,2024-01-01,a\n2,2024-01-01,b\r\n3,2024-01-01,c\r4,2024-01-01,d\n", "line 4: found a line that ends in CR"),
        (b"id,at,name\n1,2024-01-01,caf\xe9\n", "1 of 1 rows"),
    ],
)  # fmt: skip
def test_a_delivery_of_another_form_fails_with_what_was_found(
    ground: Ground, content: bytes, message: str
) -> None:
    ground.put("in.csv", content)
    with pytest.raises(IngestFault, match=message) as caught:
        ground.land(ground.csv())
    assert "in.csv" in str(caught.value)


def test_a_failed_delivery_leaves_the_landed_rows_as_they_were(ground: Ground) -> None:
    ground.put("in.csv", GOOD)
    ground.land(ground.csv())
    before = ground.rows("*")
    ground.put("in.csv", HEADER + "1,2024-01-01T12:00:00Z,z\nx,,\n")
    with pytest.raises(IngestFault):
        ground.land(ground.csv())
    assert ground.rows("*") == before


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252", "utf-8-sig", "utf-32"])
def test_declared_encodings_are_read(ground: Ground, encoding: str) -> None:
    ground.put("in.csv", "id,name\n1,café\n".encode(encoding))
    ground.land(ground.csv({"id": "integer", "name": "varchar"}, encoding=encoding))
    assert ground.rows("id, name") == [(1, "café")]


def test_bytes_that_are_not_of_the_declared_encoding_fail(ground: Ground) -> None:
    ground.put("in.csv", "id,name\n1,café\n".encode("latin-1"))
    with pytest.raises(IngestFault, match=r"bytes near offset 0 that are not utf-16"):
        ground.land(ground.csv({"id": "integer", "name": "varchar"}, encoding="utf-16"))
    ground.put("in.csv", "id,name\n1,café\n")
    with pytest.raises(IngestFault, match=r"bytes near offset 0 that are not ascii"):
        ground.land(ground.csv({"id": "integer", "name": "varchar"}, encoding="ascii"))


def test_a_new_column_is_ignored_or_added_as_the_policy_says(ground: Ground) -> None:
    ground.put("in.csv", "id,name,colour\n1,a,red\n")
    columns = {"id": "integer", "name": "varchar"}
    ground.land(ground.csv(columns, new_columns="ignore"))
    assert ground.rows("columns('^[a-z].*')") == [(1, "a")]
    ground.put("in.csv", "id,name,colour\n1,a,red\n2,b,blue\n")
    ground.land(ground.csv(columns, new_columns="evolve"))
    assert ground.rows("id, name, colour") == [(1, "a", "red"), (2, "b", "blue")]
    ground.put("in.csv", "id,name\n1,a\n2,b\n")
    ground.land(ground.csv(columns, new_columns="evolve"))
    assert ground.rows("id, name, colour") == [(1, "a", None), (2, "b", None)]


def test_a_new_column_cannot_pass_for_one_of_ours(ground: Ground) -> None:
    ground.put("in.csv", "id,_run_id\n1,x\n")
    with pytest.raises(IngestFault, match="new column '_run_id'"):
        ground.land(ground.csv({"id": "integer"}, new_columns="evolve"))


def test_a_column_added_to_the_declaration_is_added_and_another_type_is_refused(ground: Ground) -> None:
    ground.put("in.csv", "id,name\n1,a\n")
    ground.land(ground.csv({"id": "integer", "name": "varchar"}))
    ground.put("in.csv", "id,name,size\n1,a,\n2,b,5\n")
    ground.land(ground.csv({"id": "integer", "name": "varchar", "size": "integer"}))
    assert ground.rows("id, size, _run_id") == [(1, None, "run-1"), (2, 5, "run-2")]
    ground.put("in.csv", "id,name,size\n1,a,\n")
    with pytest.raises(
        IngestFault, match=r"columns\.id\.data_type: found bigint, where lake\.raw\.readings holds"
    ):
        ground.land(ground.csv({"id": "bigint", "name": "varchar", "size": "integer"}))
