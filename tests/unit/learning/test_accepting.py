"""What a model may be asked with is what reads as such once it is written down."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest

from orchestration.learning.serving.accepting import accepts, dumped, plain

KEY = UUID("12345678-1234-5678-1234-567812345678")
RIGHT: list[tuple[str, Any]] = [
    ("boolean", True), ("integer", 2**31 - 1), ("hugeint", 2**100), ("ubigint", 2**64 - 1), ("decimal(9, 2)", Decimal("1.25")),
    ("decimal(9, 2)", 3), ("varchar", "a\0'b"), ("date", date(2024, 2, 29)), ("date", "2024-02-29"), ("uuid", KEY),
    ("uuid", str(KEY).upper()), ("timestamptz", datetime(2024, 2, 29, tzinfo=UTC)), ("timestamp", datetime(1, 1, 1)),
    ("float", 3.4028235e38), ("float", float("inf")), ("double", 1e300), ("double", Decimal("0.1")), ("double", 2**70),
    ("time", time(8, 30)), ("time", "08:30"), ("interval", "2 days"), ("varchar[]", ["a", None]), ("integer[]", [1, 2]),
]  # fmt: skip
WRONG: list[tuple[str, Any]] = [
    ("boolean", 1), ("integer", 1.5), ("integer", 2**31), ("integer", "1"), ("decimal(9, 2)", 1.5),
    ("decimal(9, 2)", Decimal("1.255")), ("varchar", 3), ("varchar", "\ud800"), ("date", "2024-W01-1"), ("date", "20240229"),
    ("uuid", f"urn:uuid:{KEY}"), ("uuid", "12345678"), ("timestamptz", datetime(2024, 2, 29)), ("timestamptz", "2024-02-29T00:00Z"),
    ("float", 1e300), ("double", 10**400), ("double", "1"), ("double", True), ("time", 5), ("interval", "xx"),
    ("varchar[]", 3), ("varchar[]", "[3]"), ("integer[]", ["a"]), ("blob", b"\xff"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), RIGHT)
def test_what_is_accepted_can_be_landed(tmp_path: Path, kind: str, value: Any) -> None:
    assert accepts(kind)(value)
    file = tmp_path / "log.jsonl"
    file.write_bytes(dumped({"value": plain(value)}))
    columns = f"{{'value': '{kind}'}}"
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        ((landed,),) = con.execute(
            f"select value from read_json('{file}', format = 'newline_delimited', columns = {columns})"
        ).fetchall()
    assert landed is not None


@pytest.mark.parametrize(("kind", "value"), WRONG)
def test_what_could_not_be_landed_is_refused(kind: str, value: Any) -> None:
    assert not accepts(kind)(value)
