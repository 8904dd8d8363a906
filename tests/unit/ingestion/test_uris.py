"""From a declared uri to the place it stands for, and what of it may be shown."""

from pathlib import Path

import pytest

from orchestration.declarations import Ingest
from orchestration.ingestion.faults import IngestFault
from orchestration.ingestion.uris import Place, find_place, local_items, looks_like_many, redacted
from orchestration.settings import Settings


def place(root: Path, uri: str, **ingest: object) -> Place:
    values = {"uri": uri, "format": "csv", "primary_key": ["id"], **ingest}
    return find_place(Ingest.model_validate(values), settings(root), "sources.readings.ingest")


def settings(root: Path) -> Settings:
    return Settings(data_dir=root / "data", dbt_project_dir=root / "dbt_project")


def csv(uri: str) -> Ingest:
    return Ingest(uri=uri, format="csv", primary_key=("id",))


def test_relative_absolute_and_file_uris_are_local(tmp_path: Path) -> None:
    assert place(tmp_path, "in/x.csv") == Place("local", str(tmp_path / "in/x.csv"), "in/x.csv")
    assert place(tmp_path, "/in/x.csv").address == "/in/x.csv"
    assert place(tmp_path, "file:///in/a%20b.csv").address == "/in/a b.csv"


def test_a_package_is_located_without_importing_it(tmp_path: Path) -> None:
    (tmp_path / "explosive").mkdir()
    (tmp_path / "explosive/__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "explosive/data.csv").write_text("id\n1\n")
    import sys  # noqa: PLC0415

    sys.path.insert(0, str(tmp_path))
    try:
        found = place(tmp_path, "package://explosive/data.csv")
    finally:
        sys.path.remove(str(tmp_path))
    assert found == Place("local", str(tmp_path / "explosive/data.csv"), "package://explosive/data.csv")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("package://not_there_at_all/x.csv", "package 'not_there_at_all', not installed"),
        ("package://duckdb/nothing.csv", "no file 'nothing.csv' in package 'duckdb'"),
        ("https:/x", None),
        ("htps://host/x.csv", r"scheme 'htps' \(did you mean 'https'\?\)"),
        ("sqlite:///x.db", "with format csv, expected format table only"),
        ("${GROUNDWORK_TEST_UNSET}/x.csv", r"\$\{GROUNDWORK_TEST_UNSET\} and no such environment variable"),
    ],
)
def test_a_uri_that_stands_for_nothing_is_refused(tmp_path: Path, uri: str, message: str | None) -> None:
    if message is None:
        assert place(tmp_path, uri).scheme == "local"
        return
    with pytest.raises(IngestFault, match=message) as caught:
        place(tmp_path, uri)
    assert str(caught.value).startswith("sources.readings.ingest.uri: found ")


def test_environment_variables_are_expanded_but_not_shown_for_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDWORK_TEST_DB", "joe:hunter2@db.example")
    found = place(tmp_path, "postgresql://${GROUNDWORK_TEST_DB}/x", format="table", table="t")
    assert found.address == "postgresql://joe:hunter2@db.example/x"
    assert "hunter2" not in found.label
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://joe:pw@host:8/x.csv?token=abc&v=1#f", "https://host:8/x.csv?token=***&v=***"),
        ("postgresql://joe:p%40w@host/db", "postgresql://host/db"),
        ("https://host/x.csv", "https://host/x.csv"),
    ],
)
def test_credentials_are_taken_out_of_what_is_shown(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


def test_a_folder_gives_files_of_the_format_in_name_order(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv.gz", "c.zip", "d.csv.zip", ".e.csv", "_f.csv", "g.jsonl", "H.CSV"):
        (tmp_path / "drop").mkdir(exist_ok=True)
        (tmp_path / "drop" / name).write_text("x")
    found = place(tmp_path, "drop")
    assert found.is_many
    assert [i.label for i in local_items(found, csv("drop"))] == [
        "drop/H.CSV", "drop/a.csv.gz", "drop/b.csv", "drop/d.csv.zip",
    ]  # fmt: skip
    everything = place(tmp_path, "drop/*")
    assert len(local_items(everything, csv("drop/*"))) == 7


@pytest.mark.parametrize(
    ("uri", "expected"),
    [("drop", True), ("drop/", True), ("drop/*.csv", True), ("${NOT_SET_YET}/drop", True), ("drop/x.csv", False),
     ("${NOT_SET_YET}/x.csv.gz", False), ("https://h/drop/", False), ("package://p/x.csv", False)],
)  # fmt: skip
def test_landing_folders_are_told_by_their_words(tmp_path: Path, uri: str, expected: bool) -> None:
    assert looks_like_many(csv(uri), settings(tmp_path)) is expected
