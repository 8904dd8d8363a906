"""Feast in an environment of its own, which is made once and stays in ``.feast/``.

What belongs here: making it. Feast pins what Groundwork has newer.
"""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from orchestration.settings import PROJECT_DIR

VERSION = "0.67.0"


class NoPackageIndexError(RuntimeError):
    """No package index can be reached."""


def feast_python(extras: str = "") -> Path:
    """A Python that has Feast, with extras such as ``[redis]``: an environment for each choice of them.

    Raises:
        NoPackageIndexError: It is not installed yet, and cannot be now.
        RuntimeError: Installing it failed for another reason.
    """
    wanted = f"feast{extras}=={VERSION}"
    folder = PROJECT_DIR / ".feast" / f"{wanted}-py{sys.version_info.major}{sys.version_info.minor}"
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
                wanted,
            ]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if "Failed to fetch" in done.stderr or "dns error" in done.stderr:
                raise NoPackageIndexError(f"{wanted}: {done.stderr[-300:]}")
            if done.returncode:
                raise RuntimeError(f"{wanted}: {done.stderr}")
            is_made.touch()
    return python
