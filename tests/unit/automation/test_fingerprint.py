"""A second run is skipped only when nothing it depends on has changed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestration.automation.fingerprint import Note, compute_fingerprint, folders_of
from orchestration.settings import Clock, Settings

REPLAY = Clock(datetime(2024, 1, 20, 5, tzinfo=UTC))
ARGUMENTS = {"span": "2024-01-01 to 2024-01-19", "select": ""}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for folder in ("dbt", "soda", "landing"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dbt" / "model.sql").write_text("select 1")
    (tmp_path / "soda" / "t.yml").write_text("dataset: lake/raw/t")
    (tmp_path / "landing" / "t.csv").write_text("id\n1\n")
    return Settings(
        data_dir=tmp_path / "data", dbt_project_dir=tmp_path / "dbt", soda_checks_dir=tmp_path / "soda"
    )


def _print(settings: Settings, clock: Clock = REPLAY, **arguments: str) -> str:
    files = sorted((settings.dbt_project_dir.parent / "landing").iterdir())
    return compute_fingerprint(settings, clock, files, ARGUMENTS | arguments)


def test_nothing_changed_is_the_same_fingerprint(settings: Settings) -> None:
    before = _print(settings)
    (settings.dbt_project_dir / "target").mkdir()
    (settings.dbt_project_dir / "target" / "run.json").write_text("{}")
    assert _print(settings) == before


@pytest.mark.parametrize("file", ["dbt/model.sql", "soda/t.yml", "landing/t.csv", "landing/new.csv"])
def test_a_changed_or_new_file_is_another_fingerprint(settings: Settings, file: str) -> None:
    before = _print(settings)
    (settings.dbt_project_dir.parent / file).write_text("changed")
    assert _print(settings) != before


def test_another_clock_span_or_environment_is_another_fingerprint(settings: Settings) -> None:
    before = _print(settings)
    assert _print(settings, Clock(datetime(2024, 1, 21, 5, tzinfo=UTC))) != before
    assert _print(settings, span="2024-01-01") != before
    assert _print(settings.model_copy(update={"environment": "staging"})) != before


def test_another_database_is_another_fingerprint_and_another_password_is_not(settings: Settings) -> None:
    def on(**addresses: str) -> str:
        return _print(settings.model_copy(update={n: SecretStr(a) for n, a in addresses.items()}))

    assert on(dagster_postgres_url="postgresql://a:one@host/db") != _print(settings)
    assert on(dagster_postgres_url="postgresql://a:one@host/db") == on(
        dagster_postgres_url="postgresql://a:two@host/db"
    )
    assert on(lake_catalog_postgres="host=h password=one") == on(lake_catalog_postgres="host=h password=two")
    assert on(lake_catalog_postgres="host=h password=one") != on(lake_catalog_postgres="host=i password=one")


def test_a_note_is_read_as_it_was_written_and_gone_once_torn(settings: Settings) -> None:
    settings.data_dir.mkdir()
    settings.models_dir.mkdir()
    note = Note("abc", 7, "run", "a table", folders_of(settings))
    note.write(settings)
    assert Note.read(settings) == note
    assert note.folders == (str(settings.models_dir),)
    assert note.holds
    settings.models_dir.rmdir()
    assert not note.holds
    Note.tear(settings)
    assert Note.read(settings) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": "abc"}'])
def test_a_damaged_note_is_no_note(settings: Settings, text: str) -> None:
    settings.data_dir.mkdir()
    Note.path(settings).write_text(text)
    assert Note.read(settings) is None
