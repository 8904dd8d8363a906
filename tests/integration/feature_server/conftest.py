"""The real Feast, in an environment of its own that is made once."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.settings import PROJECT_DIR

FEAST = "feast==0.67.0"


@pytest.fixture(scope="session")
def feast_python() -> Path:
    """A Python that has Feast; its environment stays in ``.feast/`` for later runs."""
    folder = PROJECT_DIR / ".feast" / f"{FEAST}-py{sys.version_info.major}{sys.version_info.minor}"
    python, is_made = folder / "bin" / "python", folder / ".made"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            install = [
                sys.executable,
                "-m",
                "uv",
                "pip",
                "install",
                "--quiet",
                "--python",
                str(python),
                FEAST,
            ]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if "Failed to fetch" in done.stderr or "dns error" in done.stderr:
                pytest.skip(f"no package index can be reached to install {FEAST}: {done.stderr[-300:]}")
            assert done.returncode == 0, done.stderr
            is_made.touch()
    return python
