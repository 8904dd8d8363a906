"""A machine without the servers that tests need: skipped and counted, or an error where none may be missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_DIR
from tests.programs import PACKAGES, REQUIRE, MissingProgramError, require, skipped_line

ASKING = """
import pytest
from tests.programs import require

@pytest.mark.parametrize("program", ["redis-server", "redis-server", "openssl"])
def test_asks(program):
    require(program)

@pytest.fixture(scope="session")
def server():
    return require("chromium")

def test_asks_in_a_fixture(server):
    pass

def test_needs_nothing():
    pass
"""


def run_without_programs(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Pytest over tests that need programs, with this project's plugins, on an empty PATH."""
    (folder / "conftest.py").write_text("from tests.conftest import pytest_terminal_summary\n")
    (folder / "test_asking.py").write_text(ASKING)
    (folder / "bin").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", REQUIRE))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, "-c", os.devnull, "-ra",
         *arguments, folder],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**kept, "PATH": str(folder / "bin"), "PYTHONPATH": str(PROJECT_DIR), **environment},
    )  # fmt: skip


@pytest.mark.parametrize("workers", ["0", "2"])
def test_missing_programs_are_skipped_and_counted_in_one_line_at_the_end(
    tmp_path: Path, workers: str
) -> None:
    done = run_without_programs(tmp_path, "-n", workers)
    assert done.returncode == 0, done.stdout + done.stderr
    line, last = done.stdout.splitlines()[-2:]
    assert line == "4 tests skipped: no redis-server (2), chromium (1), openssl (1)"
    assert re.search("1 passed, 4 skipped", last)
    assert "no redis-server (package redis-server)" in done.stdout


def test_missing_programs_are_errors_where_the_environment_says_so(tmp_path: Path) -> None:
    done = run_without_programs(tmp_path, "-n", "0", **{REQUIRE: "1"})
    assert done.returncode == 1
    assert "3 failed, 1 passed, 1 error" in done.stdout.splitlines()[-1]
    assert f"found no openssl (package openssl), expected one: {REQUIRE} is set" in done.stdout


def test_no_line_where_nothing_was_missing() -> None:
    assert skipped_line(["Skipped: macOS only", "Skipped: no way"]) is None
    assert skipped_line(["Skipped: no wrk (package wrk)"]) == "1 test skipped: no wrk (1)"


def test_a_program_under_its_other_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(MissingProgramError, match="no chromium"):
        require("chromium")
    (tmp_path / "google-chrome").touch(mode=0o755)
    assert require("chromium") == tmp_path / "google-chrome"


def test_continuous_integration_installs_every_program_and_lets_none_be_missing() -> None:
    script = (PROJECT_DIR / ".ci" / "run").read_text(encoding="utf-8")
    installed = set(re.findall(r"packages\+=\(([^)]*)\)", script))
    assert set(PACKAGES.values()) <= {name for names in installed for name in names.split()}
    assert f"export {REQUIRE}=1" in script
