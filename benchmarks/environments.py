"""Other projects' Pythons, each in an environment of its own, made once, in ``.feast/``.

What belongs here: making one. What does not: what runs in it.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestration.settings import PROJECT_DIR


class NoPackageIndexError(RuntimeError):
    """No package index can be reached."""


def python_with(wanted: Sequence[str]) -> Path:
    """A Python that has some packages; its folder is named by the first.

    Raises:
        NoPackageIndexError: They are not installed yet, and cannot be now.
        RuntimeError: Installing them failed for another reason.
    """
    folder = PROJECT_DIR / ".feast" / f"{wanted[0]}-py{sys.version_info.major}{sys.version_info.minor}"
    python, is_made = folder / "bin" / "python", folder / ".made"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
            done = subprocess.run([*install, *wanted], capture_output=True, text=True, check=False)
            if "Failed to fetch" in done.stderr or "dns error" in done.stderr:
                raise NoPackageIndexError(f"{wanted[0]}: {done.stderr[-300:]}")
            if done.returncode:
                raise RuntimeError(f"{wanted[0]}: {done.stderr}")
            is_made.touch()
    return python
