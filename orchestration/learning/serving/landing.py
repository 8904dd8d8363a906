"""From the log of predictions to ``predictions.<model>``: each prediction once, whoever was killed when.

What belongs here: that way. What does not: the log's files (``log``) and batches (``predictions``).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.learning.predictions.table import PREDICTIONS, ensure_table
from orchestration.learning.serving.log import whole_segments
from orchestration.learning.serving.predictor import MODE, Asked
from orchestration.learning.spec import ModelSpec
from orchestration.sql import identifier, listing, literal

FILES_AT_ONCE = 100
"""So many files at most in one transaction."""


@dataclass(frozen=True)
class Landed:
    """What was brought to the lakehouse."""

    files: int
    rows: int


def land_predictions(lakehouse: LakehouseResource, folder: Path, spec: ModelSpec) -> Landed:
    """Bring a model's predictions from the log to the lakehouse, and remove the files that are there whole.

    A file is removed after the commit; one that a killed landing has left is read again and adds nothing.

    Args:
        lakehouse: Where to.
        folder: The log.
        spec: The model.

    Raises:
        duckdb.Error: A line is not what was written; its file and those of its transaction stay.
    """
    log, rows = folder / spec.name, 0
    if not log.is_dir():
        return Landed(0, 0)
    with _alone(log):
        files = list(whole_segments(log))
        for at in range(0, len(files), FILES_AT_ONCE):
            some = files[at : at + FILES_AT_ONCE]
            rows += _land(lakehouse, some, spec)
            for file in some:
                file.unlink()
    return Landed(len(files), rows)


@contextmanager
def _alone(log: Path) -> Iterator[None]:
    """Two that land the same file at once would both find its predictions missing."""
    handle = os.open(log, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _land(lakehouse: LakehouseResource, files: list[Path], spec: ModelSpec) -> int:
    told = Asked(spec).logged
    spine = {} if spec.spine is None else spec.prediction_columns
    columns = {**told, **spine}
    names = ", ".join(map(identifier, told))
    types = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in told.items())
    made = (
        f"select {names} from read_json({listing(map(str, files))}, format = 'newline_delimited', "
        f"columns = {{{types}}})"
    )
    table = relation(PREDICTIONS, spec.name)

    def work(con: duckdb.DuckDBPyConnection) -> int:
        ensure_table(con, PREDICTIONS, spec.name, columns)
        con.execute(f"create or replace temp table _made as {made}")
        ((added,),) = con.execute(
            f"insert into {table} ({names}) select {names} from _made as made where not exists ("
            f"select 1 from {table} as held where held.mode = '{MODE}' "
            "and held.predicted_at >= (select min(predicted_at) from _made) "
            "and held.prediction_id = made.prediction_id) order by predicted_at, prediction_id"
        ).fetchall()
        con.execute("drop table _made")
        return int(added)

    return lakehouse.write(work)
