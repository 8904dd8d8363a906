"""Feast's processes, in an environment of its own that is made when it is absent.

What belongs here: starting them. What does not: what Feast does in them (``feast_process``), and what it is
compared with.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.feast_environment import NoPackageIndexError, feast_python
from benchmarks.report import MissingError
from benchmarks.timing import Measured, measure

_ENVIRONMENT = {"FEAST_USAGE": "False", "IS_TEST": "True", "PYTHONWARNINGS": "ignore"}


def _python() -> Path:
    """A Python that has Feast with DuckDB and Redis.

    Raises:
        MissingError: It cannot be installed.
    """
    try:
        return feast_python("[duckdb,redis]")
    except NoPackageIndexError as error:
        raise MissingError(f"found no Feast and no package index to install it from: {error}") from error


def run_feast(what: str, folder: Path, declared: Mapping[str, Any]) -> tuple[Any, Measured]:
    """What ``feast_process`` tells of one of its works, and what the process cost."""
    folder.mkdir(parents=True, exist_ok=True)
    place, log = folder / f"{what}.json", folder / f"feast-{what}.log"
    place.write_text(json.dumps(declared))
    script = Path(__file__).with_name("feast_process.py")
    command = [str(_python()), str(script), what, str(folder), str(place)]
    cost = measure(command, _ENVIRONMENT, log)
    return json.loads(log.read_text().splitlines()[-1]), cost


def feast_serve(folder: Path, port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start ``feast serve`` over an online store that is materialized, with its defaults but three.

    One worker like ours, no access log, and its worker is not restarted every thousand requests.
    """
    program = _python().with_name("feast")
    command = [str(program), "--chdir", str(folder), "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-access-log", "--max-requests", "0"]
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)
