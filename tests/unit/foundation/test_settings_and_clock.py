"""Settings come from the environment, typed; the clock is the wall's or a replay's, never a guess."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestration.instance import open_instance
from orchestration.settings import PROJECT_DIR, Clock, Settings, make_clock


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GROUNDWORK_{name.upper()}", raising=False)


def test_the_defaults_need_no_server_and_stay_inside_the_project():
    settings = Settings()
    assert settings.lake_catalog_postgres is None
    assert settings.data_dir == PROJECT_DIR / "data"


def test_a_setting_is_read_from_its_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("GROUNDWORK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GROUNDWORK_DUCKDB_THREADS", "3")
    settings = Settings()
    assert (settings.data_dir, settings.duckdb_threads) == (Path(tmp_path), 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("environment", "prod"),
        ("clock", "sundial"),
        ("duckdb_threads", "0"),
        ("duckdb_memory_limit", "2"),
        ("notify_smtp_port", "70000"),
        ("replay_at", "2024-01-01T00:00:00"),
    ],
)
def test_a_value_that_makes_no_sense_stops_the_start(monkeypatch, name, value):
    monkeypatch.setenv(f"GROUNDWORK_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_secrets_never_show_in_a_printed_setting(monkeypatch):
    monkeypatch.setenv("GROUNDWORK_LAKE_CATALOG_POSTGRES", "host=db password=hunter2")
    settings = Settings()
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_every_setting_says_what_it_means():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_wall_clock_moves_and_is_in_utc():
    clock = make_clock(Settings(), None)
    assert clock.mode == "wall"
    assert clock.now() <= clock.now()
    assert clock.now().tzinfo == UTC


def test_the_declared_replay_clock_stands_still():
    clock = make_clock(Settings(), {"mode": "replay", "replay_at": "2024-01-01T06:00:00+01:00"})
    assert clock.now() == datetime(2024, 1, 1, 5, tzinfo=UTC)
    assert clock.mode == "replay"


def test_settings_outrank_the_declaration():
    at = datetime(2025, 5, 5, tzinfo=UTC)
    declared = {"mode": "replay", "replay_at": "2024-01-01T00:00:00Z"}
    assert make_clock(Settings(replay_at=at), declared).now() == at
    assert make_clock(Settings(clock="wall"), declared).mode == "wall"


@pytest.mark.parametrize(
    "declared", [{"mode": "replay"}, {"mode": "replay", "replay_at": "2024-01-01T00:00:00"}]
)
def test_a_replay_clock_without_an_instant_is_refused(declared):
    with pytest.raises(ValueError, match="needs an instant with an offset"):
        make_clock(Settings(), declared)


def test_an_unknown_declared_mode_is_refused():
    with pytest.raises(ValueError, match="found 'sundial', expected wall or replay"):
        make_clock(Settings(), {"mode": "sundial"})


def test_a_clock_tells_its_mode():
    assert (Clock().mode, Clock(datetime(2024, 1, 1, tzinfo=UTC)).mode) == ("wall", "replay")


def test_the_instance_waits_for_a_slow_code_server_and_prints_no_debug_lines(tmp_path: Path) -> None:
    with open_instance(Settings(data_dir=tmp_path)) as instance:
        assert instance.code_server_process_startup_timeout == 1800
        assert instance.python_log_level == "INFO"
