"""The monitoring suite on ten million predictions in a lakehouse, beside Evidently on one million of them.

What belongs here: making the predictions, starting both sides, the comparison. Each side runs in a process of
its own: ours reads from the lakehouse, Evidently data frames from Parquet files.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.environments import NoPackageIndexError, python_with
from benchmarks.report import GIB, MissingError, Row
from benchmarks.timing import Measured, apart, measure
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import PROJECT_DIR, Settings

ROWS, SAMPLE, DAYS = 10_000_000, 1_000_000, 28
NUMBERS, TEXTS = 12, 3
EVIDENTLY = ["evidently==0.7.23", "pandas<3", "pyarrow"]
"""With the pandas that it resolves to, it cannot be imported."""
_MADE = ".made"


def _row_sql(number: str, moved: float) -> str:
    """Columns of a prediction by its number: features, score, decision, label; the first feature moves."""
    normal = "round(sqrt(-2 * ln(random() + 1e-12)) * cos(2 * pi() * random()), 3)"
    numbers = [f"{normal} + {moved if n == 0 else 0} as f{n}" for n in range(NUMBERS)]
    texts = [f"'v' || floor(pow(random(), 2) * 20)::integer as t{n}" for n in range(TEXTS)]
    return (
        f"select *, score >= 0.4 as decision, random() < score as label from (select {number}::varchar as "
        f"prediction_id, 'batch' as mode, 'v1' as model_version, timestamptz '2024-03-01' + "
        f"to_seconds(({number} % {DAYS}) * 86400 + random() * 86000) as prediction_at, {', '.join(numbers)}, "
        f"{', '.join(texts)}, random() < 0.3 as b0, round(pow(random(), 2), 2) as score"
    )


def _generate(folder: Path) -> None:
    """The lakehouse with predictions and outcomes, and the Parquet files of the other side."""
    if (folder / _MADE).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lakehouse = LakehouseResource.from_settings(Settings(data_dir=folder / "data"))
    with lakehouse.get_connection() as con:
        con.execute("set enable_progress_bar = false")
        con.execute("select setseed(0.5)")
        for name in ("predictions", "outcomes"):
            con.execute(f"create schema if not exists lake.{name}")
        con.execute(f"create temp table made as {_row_sql('range', 1)} from range({ROWS}))")
        con.execute(
            "create table lake.predictions.m as select * exclude (label) from made order by prediction_at"
        )
        con.execute(
            "create table lake.outcomes.m as select prediction_id, mode, model_version, prediction_at, "
            "label, prediction_at + interval '1 hour' as label_known_at from made order by prediction_at"
        )
        left_out = "exclude (prediction_id, mode, model_version)"
        con.execute(f"copy (select * {left_out} from made limit {SAMPLE}) to '{folder / 'current.parquet'}'")
        reference = f"select * {left_out} from ({_row_sql('range', 0)} from range({SAMPLE})))"
        con.execute(f"copy ({reference}) to '{folder / 'reference.parquet'}'")
    (folder / _MADE).touch()


def _told(python: Path, script: str, folder: Path) -> tuple[dict[str, Any], Measured]:
    """What a process tells in its last line, and what it cost."""
    log = folder / f"{script}.log"
    command = [str(python), str(Path(__file__).with_name(f"{script}.py")), str(folder)]
    cost = measure(
        command, {"PYTHONPATH": str(PROJECT_DIR), "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}, log
    )
    return json.loads(log.read_text().splitlines()[-1]), cost


def run(place: Path, *, repeats: int) -> list[Row]:
    """Both sides once.

    Raises:
        MissingError: Evidently cannot be installed.
    """
    del repeats
    folder = place / "monitoring"
    try:
        other = python_with(EVIDENTLY)
    except NoPackageIndexError as error:
        raise MissingError(f"found no Evidently and no package index to install it from: {error}") from error
    apart(_generate, folder)
    ours, our_cost = _told(Path(sys.executable), "monitoring_process", folder)
    theirs, their_cost = _told(other, "evidently_process", folder)
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in ours["parts"].items())
    what = f"{NUMBERS + TEXTS + 1} features"
    return [
        Row(
            f"monitor {what}: {ROWS / 1e6:.0f} M predictions, Evidently {SAMPLE / 1e6:.0f} M",
            f"{ours['seconds']:.1f} s ({parts})",
            f"{theirs['seconds']:.1f} s: " + ", ".join(f"{n} {s:.1f} s" for n, s in theirs["parts"].items()),
            ours["seconds"] / theirs["seconds"],
            None,
        ),
        Row(
            "its memory at the peak, Python and libraries included",
            f"{our_cost.peak_bytes / GIB:.2f} GiB",
            f"{their_cost.peak_bytes / GIB:.2f} GiB",
            our_cost.peak_bytes / their_cost.peak_bytes,
            None,
        ),
    ]
