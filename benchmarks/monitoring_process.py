"""Our side of the monitoring benchmark, in a process of its own: ``monitoring_process.py FOLDER``.

The last line that it prints is JSON. The profile is made of the reference first, and not timed: a model has
its own.
"""

import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.monitoring import DAYS, NUMBERS, TEXTS
from orchestration.declarations import BiasWatch, DriftWatch, PerformanceWatch
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.profile import ColumnProfile, profile_number, profile_texts
from orchestration.monitoring.bias import measure_bias
from orchestration.monitoring.cells import tally
from orchestration.monitoring.drift import compare_drift, count_drift
from orchestration.monitoring.performance import measure_performance
from orchestration.monitoring.reference import Expected, Reference
from orchestration.monitoring.together import read_sample, sample_sql, tell_apart
from orchestration.monitoring.window import PREDICTION_AT, Source
from orchestration.partitions import Window
from orchestration.settings import Settings

START = datetime(2024, 3, 1, tzinfo=UTC)
GROUPS = ("t0", "b0")


def _reference(rows: pa.Table) -> Reference:
    known = tuple(f"v{n}" for n in range(20))
    profiles: dict[str, ColumnProfile] = {
        f"f{n}": profile_number(f"f{n}", np.asarray(rows.column(f"f{n}"))) for n in range(NUMBERS)
    }
    profiles |= {
        f"t{n}": profile_texts(f"t{n}", "category", rows.column(f"t{n}"), known) for n in range(TEXTS)
    }
    flags = rows.column("b0").cast(pa.string())
    profiles["b0"] = profile_texts("b0", "flag", flags, ("false", "true"))
    labels = rows.column("label").cast(pa.string())
    return Reference(
        version="v1",
        features=profiles,
        score=profile_number("score", np.asarray(rows.column("score"))),
        label=profile_texts("label", "flag", labels, ("false", "true")),
        importance=dict.fromkeys(profiles, 1 / len(profiles)),
        threshold=0.4,
        dataset_version="d0",
        train_start=None,
        train_end=START,
        expected={"": {"auc": Expected(0.8, 0.79, 0.81)}},
    )


@dataclass
class Lap:
    """Seconds of each part."""

    parts: dict[str, float]
    since: float

    def __call__(self, name: str) -> None:
        """A part is over."""
        now = time.perf_counter()
        self.parts[name] = now - self.since
        self.since = now


def suite(con: duckdb.DuckDBPyConnection, reference: Reference, before: pa.Table) -> dict[str, float]:
    """Everything that is watched, of one window that holds all predictions."""
    source = Source("m", PREDICTION_AT, "UTC")
    window = Window(START, START + timedelta(days=DAYS))
    rows = source.of_version(window, "v1")
    lap = Lap({}, time.perf_counter())
    labels = source.labels(con, window.end, rows)
    counted = count_drift(con, reference, rows, source.day, source.with_labels(rows, labels))
    drifted = compare_drift(reference, counted, DriftWatch())
    lap("drift")
    assert drifted.names == ["f0"], drifted.names
    limit, total = DriftWatch().together_rows, drifted.columns[0].rows
    sample = read_sample(con, sample_sql(rows, source.day, reference.features, "prediction_id", limit, total))
    con.register("before", before)
    numbered = "(select *, row_number() over () as _row from before)"
    old = read_sample(
        con, sample_sql(numbered, source.day, reference.features, "_row", limit, before.num_rows)
    )
    assert tell_apart(old, sample, reference.features, significance=0.01, seed=1) is not None
    lap("classifier")
    tallies = tally(con, rows, source.day, labels, GROUPS)
    assert measure_performance(tallies, reference, PerformanceWatch(), 1)
    lap("performance")
    assert measure_bias(tallies, BiasWatch())
    lap("bias")
    return lap.parts


def main(folder: Path) -> None:
    """Run the suite and tell its times."""
    before = parquet.read_table(folder / "reference.parquet")
    reference = _reference(before)
    with LakehouseResource.from_settings(Settings(data_dir=folder / "data")).reader() as con:
        parts = suite(con, reference, before.slice(0, 200_000))
    print("\n" + json.dumps({"seconds": sum(parts.values()), "parts": parts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
