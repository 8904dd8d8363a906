"""Predictions on request, and a kill at each step from the first to the last of them in the lakehouse.

Two processes have to do with them, the server that writes them down and the run that lands them. Each step that
either takes is listed here in its order, and a process that takes others fails the test; it is killed before each
of them, which is after the one before it. Whatever the step, every answered prediction is in the table once after the
next landing, none twice, none half, and no file stays.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestration.lakehouse import LakehouseResource
from orchestration.learning.serving.assets import waiting
from orchestration.learning.serving.landing import RefusedFilesError, land_predictions
from orchestration.learning.serving.log import PredictionLog
from orchestration.learning.spec import ModelSpec
from orchestration.settings import Settings
from tests.forks import CONTEXT
from tests.integration.learning import killed_serving
from tests.integration.learning.killed_serving import line
from tests.model_works import PREDICT, make_spec

BEGUN = ("open .new", "lock .new", "rename .new .open", "fsync folder")
WRITTEN = ("write .open", "answer")
ENDED = ("fsync .open", "rename .open .jsonl", "close .jsonl")
SERVED = (
    "mkdir folder", *BEGUN, *WRITTEN,
    "fsync .open", "close .open",  # by the log's thread, on a handle of its own
    "write .open", *ENDED, "answer",  # which makes the file full
    *BEGUN, *WRITTEN,
    *ENDED,  # by the log's thread, as the file is old
    *BEGUN, *WRITTEN,
    *ENDED,  # as the server stops
)  # fmt: skip
LANDED = (
    "lock folder",
    "unlink .new",  # of one that was killed as it began a file
    "lock .open", "truncate .open", "rename .open .jsonl",  # of a killed one, with half a line at its end
    "lock .open",  # of a living one: in vain
    "rollback",  # A file of the first two cannot be read.
    "commit", "rename .jsonl .refused", "unlink .jsonl",
    "commit", "unlink .jsonl", "unlink .jsonl",
)  # fmt: skip


@dataclass
class Ground:
    """A lakehouse, and a log beside it."""

    settings: Settings
    spec: ModelSpec
    lakehouse: LakehouseResource

    @property
    def log(self) -> Path:
        return self.settings.prediction_log_dir / self.spec.name

    def land(self) -> None:
        land_predictions(self.lakehouse, self.settings.prediction_log_dir, self.spec)

    def rows(self, name: str) -> list[str]:
        """Which predictions of a test are in the table; all of each that is there."""
        told = json.loads(line(""))
        wanted = {column: told[column] for column in ("score", "decision", "pump", "demand")}
        with self.lakehouse.reader() as con:
            if not con.execute("select 1 from duckdb_tables() where schema_name = 'predictions'").fetchall():
                return []
            found = con.execute(
                f"select prediction_id, {', '.join(wanted)}, features_as_of is not null from lake.predictions.low_pressure "
                f"where prediction_id like '{name} %' order by prediction_id"
            ).fetchall()
        assert {row[1:] for row in found} <= {(*wanted.values(), True)}
        return [key for key, *_ in found]

    def names(self) -> list[str]:
        return sorted(path.name for path in self.log.iterdir()) if self.log.exists() else []


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("serving"), duckdb_threads=1)
    settings.prediction_log_dir.mkdir()
    lakehouse = LakehouseResource.from_settings(settings)
    with lakehouse.kept_open():
        with lakehouse.transaction():
            pass  # It is there.
        yield Ground(settings, make_spec(predict=PREDICT), lakehouse)


@pytest.fixture
def ground(lake: Ground) -> Ground:
    """Of all tests, as to open a lakehouse takes as long as one of them; the log is each test's own."""
    shutil.rmtree(lake.log, ignore_errors=True)
    return lake


def told_by(work: Callable[..., None], *arguments: Any, exit_code: int, **named: Any) -> list[Any]:
    """What a process has told until it ended so."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=work, args=(theirs, *arguments), kwargs=named)
    process.start()
    theirs.close()
    told = []
    with suppress(EOFError):
        while True:
            told.append(ours.recv())
    process.join(60)
    assert process.exitcode == exit_code
    return told


def test_these_are_the_steps_of_a_server(ground: Ground) -> None:
    folder = ground.settings.prediction_log_dir
    *answers, steps = told_by(killed_serving.serve, folder, "whole", None, exit_code=0)
    assert tuple(steps) == SERVED
    assert len(ground.names()) == 3
    ground.land()
    assert ground.rows("whole") == [key for keys in answers for key in keys]
    assert ground.names() == []


@pytest.mark.parametrize(
    ("step", "how"),
    [
        *((n, f"before {step}") for n, step in enumerate(SERVED)),
        *((n, f"amid {step}") for n, step in enumerate(SERVED) if step.startswith("write")),
    ],
)
def test_a_killed_server_loses_nothing_that_it_has_answered(ground: Ground, step: int, how: str) -> None:
    name, amid = f"{how} {step}", how.startswith("amid")
    folder = ground.settings.prediction_log_dir
    told = told_by(killed_serving.serve, folder, name, step, amid=amid, exit_code=-signal.SIGKILL)
    answered = [key for keys in told for key in keys]
    count = sum(s == "answer" for s in SERVED[:step])
    assert answered == [f"{name} {number} {row}" for number in range(1, count + 1) for row in "ab"]

    ground.land()
    found = ground.rows(name)
    assert found[: len(answered)] == answered
    # Of one that was written and not answered there may be rows, whole ones.
    is_written = amid or SERVED[:step].count("write .open") > count
    unanswered = [f"{name} {count + 1} {row}" for row in ("a" if amid else "ab")] if is_written else []
    assert found[len(answered) :] == unanswered

    left = [] if how not in ("before lock .new", "before rename .new .open") else [".new"]
    assert [Path(file).suffix for file in ground.names()] == left  # It might be about to be locked.
    for file in ground.names():
        os.utime(ground.log / file, (0, time.time() - 60))
    ground.land()
    assert ground.names() == []
    assert ground.rows(name) == found


def lay_out(ground: Ground, name: str) -> PredictionLog:
    """Files of all kinds; the last is held by the writer that this gives."""
    ground.log.mkdir()

    def lay(file: str, *lines: bytes) -> None:
        (ground.log / file).write_bytes(b"\n".join(lines))

    lay("0-0.new")
    os.utime(ground.log / "0-0.new", (0, time.time() - 60))
    lay("0-1.jsonl", line(f"{name} 1"), line(f"{name} 2"), b"")
    lay("0-2.jsonl", line(f"{name} 3"), b'{"prediction_id": 4, "score": "much"}', b"")
    lay("0-3.open", line(f"{name} 5"), line(f"{name} 6")[:-9])
    lay("0-4.jsonl", line(f"{name} 7"), b"")
    writer = PredictionLog(ground.settings.prediction_log_dir)
    writer.write("low_pressure", [line(f"{name} 8")])
    return writer


@pytest.mark.parametrize("step", range(len(LANDED) + 1), ids=[*(f"before {s}" for s in LANDED), "not killed"])
def test_a_killed_landing_is_made_good_by_the_next(ground: Ground, step: int) -> None:
    name, is_whole = f"landing {step}", step == len(LANDED)
    writer = lay_out(ground, name)
    told = told_by(
        killed_serving.land,
        ground.settings.data_dir,
        ground.spec,
        None if is_whole else step,
        exit_code=0 if is_whole else -signal.SIGKILL,
    )
    assert [tuple(steps) for steps in told] == ([LANDED] if is_whole else [])
    some, more = [f"{name} 1", f"{name} 2"], [f"{name} 5", f"{name} 7"]
    assert ground.rows(name) == [[], some, [*some, *more]][LANDED[:step].count("commit")]

    is_refused = "rename .jsonl .refused" in LANDED[:step]
    if is_refused:
        ground.land()
    else:
        with pytest.raises(RefusedFilesError, match=r"0-2\.refused"):
            ground.land()
    assert ground.rows(name) == [*some, *more]
    refused, held = ground.names()
    assert (refused, Path(held).suffix) == ("0-2.refused", ".open")

    writer.close()
    (ground.log / refused).write_bytes(line(f"{name} 3") + b"\n")  # mended
    (ground.log / refused).rename(ground.log / "0-2.jsonl")
    ground.land()
    assert ground.rows(name) == sorted([*some, *more, f"{name} 3", f"{name} 8"])
    assert ground.names() == []


def test_a_run_is_asked_for_once_the_server_that_holds_the_file_is_killed(ground: Ground) -> None:
    """Not before: that run would land nothing, and another of the same key would not be started."""
    folder, models = ground.settings.prediction_log_dir, [ground.spec.name]
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=killed_serving.hold, args=(theirs, folder, "held 1"))
    process.start()
    assert ours.recv() == "held 1"
    assert waiting(folder, models) == []
    process.kill()
    process.join()
    (file,) = ground.names()
    assert waiting(folder, models) == [f"low_pressure {file}"]
    ground.land()
    assert (ground.rows("held"), ground.names(), waiting(folder, models)) == (["held 1"], [], [])
