"""From the log of predictions to ``predictions.<model>``: each prediction once, whoever was killed when.

What belongs here: that way. What does not: the log's files (``log``) and batches (``predictions``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.learning.predictions.table import PREDICTIONS, ensure_table
from orchestration.learning.serving.log import REFUSED, WHOLE, alone, whole_segments
from orchestration.learning.serving.predictor import MODE, Asked
from orchestration.learning.spec import ModelSpec
from orchestration.sql import identifier, listing, literal

FILES_AT_ONCE = 100
"""So many files at most in one transaction."""
_UNREADABLE = (duckdb.InvalidInputException, duckdb.DataError)


class RefusedFilesError(ValueError):
    """Files of the log that do not hold what was to be written; all others were landed."""


@dataclass(frozen=True)
class Landed:
    """What was brought to the lakehouse."""

    files: int
    rows: int


def land_predictions(lakehouse: LakehouseResource, folder: Path, spec: ModelSpec) -> Landed:
    """Bring a model's predictions from the log to the lakehouse, and remove the files that are there whole.

    A file is removed after the commit; one that a killed landing has left is read again and adds nothing. One
    that cannot be read is kept under another name, ``*.refused``, and holds up no other.

    Args:
        lakehouse: Where to.
        folder: The log.
        spec: The model.

    Raises:
        RefusedFilesError: A line is not what was to be written. Everything else was landed.
    """
    log, rows = folder / spec.name, 0
    refused: list[str] = []
    if not log.is_dir():
        return Landed(0, 0)
    with alone(log):  # Two that land a file at once would both find its predictions missing.
        files = list(whole_segments(log))
        for at in range(0, len(files), FILES_AT_ONCE):
            some = files[at : at + FILES_AT_ONCE]
            try:
                rows += _land(lakehouse, some, spec)
            except _UNREADABLE:
                bad = {file: reason for file in some if (reason := _fault(file, spec)) is not None}
                if not bad:
                    raise
                some = [file for file in some if file not in bad]
                rows += _land(lakehouse, some, spec) if some else 0
                for file, reason in bad.items():
                    kept = file.rename(file.with_suffix(REFUSED))
                    refused.append(f"{kept}: {reason}")
            for file in some:
                file.unlink()
    if refused:
        raise RefusedFilesError(
            f"predictions of {spec.name}: {len(refused)} of {len(files)} files cannot be landed; "
            f"they are kept: mend them and name them *{WHOLE} again: " + "; ".join(refused)
        )
    return Landed(len(files), rows)


def _lines_of(files: list[Path], columns: Mapping[str, str]) -> str:
    """A query for what files hold."""
    types = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in columns.items())
    return (
        f"select {', '.join(map(identifier, columns))} from read_json({listing(map(str, files))}, "
        f"format = 'newline_delimited', hive_partitioning = false, columns = {{{types}}})"
    )


def _fault(file: Path, spec: ModelSpec) -> str | None:
    """Why a file cannot be read; None if it can."""
    with duckdb.connect() as con:
        try:
            con.execute(f"create table made as {_lines_of([file], Asked(spec).logged)}")
        except _UNREADABLE as fault:
            return str(fault).splitlines()[0]
    return None


def _land(lakehouse: LakehouseResource, files: list[Path], spec: ModelSpec) -> int:
    told = Asked(spec).logged
    spine = {} if spec.spine is None else spec.prediction_columns
    columns = {**told, **spine}
    names = ", ".join(map(identifier, told))
    made, table = _lines_of(files, told), relation(PREDICTIONS, spec.name)

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
