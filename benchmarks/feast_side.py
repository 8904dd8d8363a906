"""Feast in an environment of its own, made when it is absent, and the commands that run there.

What belongs here: the environment and its processes. What does not: what Feast does in them
(``feast_process``), and what it is compared with.
"""

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import MissingError
from benchmarks.timing import Measured, measure
from orchestration.settings import PROJECT_DIR

FEAST = "feast[duckdb,redis]==0.67.0"
_ENVIRONMENT = {"FEAST_USAGE": "False", "IS_TEST": "True", "PYTHONWARNINGS": "ignore"}


def feast_python() -> Path:
    """A Python that has Feast; its environment stays in ``.feast/`` for later runs.

    Raises:
        MissingError: It cannot be installed.
    """
    folder = PROJECT_DIR / ".feast" / f"{FEAST}-py{sys.version_info.major}{sys.version_info.minor}"
    python, is_made = folder / "bin" / "python", folder / ".made"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            print(f"Installing {FEAST} into {folder}")
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
            if done.returncode != 0:
                raise MissingError(f"found no {FEAST}, expected to install it: {done.stderr[-500:]}")
            is_made.touch()
    return python


def run_feast(what: str, folder: Path, declared: Mapping[str, Any]) -> tuple[Any, Measured]:
    """What ``feast_process`` tells of one of its works, and what the process cost."""
    folder.mkdir(parents=True, exist_ok=True)
    place, log = folder / f"{what}.json", folder / f"feast-{what}.log"
    place.write_text(json.dumps(declared))
    script = Path(__file__).with_name("feast_process.py")
    command = [str(feast_python()), str(script), what, str(folder), str(place)]
    cost = measure(command, _ENVIRONMENT, log)
    return json.loads(log.read_text().splitlines()[-1]), cost


def feast_serve(folder: Path, port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start ``feast serve`` over an online store that is materialized, with its defaults but three.

    One worker like ours, no access log, and its worker is not restarted every thousand requests.
    """
    program = feast_python().with_name("feast")
    command = [str(program), "--chdir", str(folder), "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-access-log", "--max-requests", "0"]
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)
