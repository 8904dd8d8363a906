"""Watching a model: windows are measured, and what was found replaces what the tables say of them.

What belongs here: which windows are due, from rows to rows of the tables, each window in one transaction.
What does not: any measurement, or assets. A version is compared with what its own manifest says, so that a
window in which two versions predicted has rows of both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource, describe_table
from orchestration.lakehouse.tables import relation
from orchestration.learning.predictions.table import PREDICTIONS
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.learning.statistics.metrics import Estimate
from orchestration.monitoring.bias import Bias, measure_bias
from orchestration.monitoring.cells import Slice, Tally, has_many_scores, tally
from orchestration.monitoring.counting import CountedDays, day_sql
from orchestration.monitoring.drift import Drifted, compare_drift, count_drift
from orchestration.monitoring.performance import Performance, measure_performance
from orchestration.monitoring.reference import Expected, Reference, reference_of
from orchestration.monitoring.skew import PREDICTED_AT, ColumnSkew, measure_skew, served_columns
from orchestration.monitoring.tables import Row, read_windows, replace_windows
from orchestration.monitoring.together import Together, read_sample, sample_sql, tell_apart
from orchestration.monitoring.window import Source, last_day, window_of, within
from orchestration.partitions import Window
from orchestration.sql import literal

Counts = Mapping[date, Mapping[str, tuple[int, int]]]
TOGETHER, EVERY = "together", "*"


class Dataset(Protocol):
    """The version of a training set that a model was trained on."""

    def read(self, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows."""
        ...


@dataclass(frozen=True)
class DriftFound:
    """What was found of a version in a window; ``together`` is None where nothing was asked or told."""

    version: str
    drifted: Drifted
    together: Together | None


@dataclass(frozen=True)
class Watcher:
    """Who watches one model, on the platform's clock at ``now``."""

    spec: ModelSpec
    registry: Registry
    lakehouse: LakehouseResource
    catalog: Catalog
    open_dataset: Callable[[str, str], Dataset]
    now: datetime
    run_id: str
    log: Callable[[str], None]
    _references: dict[str, Reference] = field(default_factory=dict)

    @cached_property
    def source(self) -> Source:
        """Where its predictions are."""
        return Source.of(self.spec)

    @property
    def today(self) -> date:
        """The day that is not over yet."""
        return self.now.astimezone(self.spec.timezone).date()

    @property
    def last_day(self) -> date:
        """The last day that is over."""
        return last_day(self.now, self.spec.timezone)

    def window(self, day: date, length: timedelta) -> Window:
        """The window of a length that ends with a day."""
        return window_of(day, length, self.spec.timezone)

    def reference(self, version: str) -> Reference:
        """What a version says of itself."""
        if version not in self._references:
            self._references[version] = reference_of(self.registry, self.spec, version)
            if self._references[version].gaps is None:
                self.log(
                    f"{version}: its manifest has no calibration_gaps: estimates take its scores as right"
                )
        return self._references[version]

    def counts(self, length: timedelta, days: int) -> Counts:
        """Rows and labelled rows by day and version, of all windows that end in the last ``days`` days."""
        with self.lakehouse.reader() as con:
            span = self.window(self.last_day, length + timedelta(days=days - 1))
            return self.source.day_counts(con, span, self.now)

    def due(self, table: str, length: timedelta, days: int) -> list[date]:
        """The last days of the windows that are not told of yet with the rows that there are, oldest first.

        Drift is due again when predictions have come or gone, performance also when labels have.

        Args:
            table: Whose windows.
            length: Of each.
            days: How many days back to look.
        """
        counts = self.counts(length, days)
        with self.lakehouse.reader() as con:
            told = self._told(con, table)
        found = []
        for back in range(days - 1, -1, -1):
            day = self.last_day - timedelta(days=back)
            there = within(counts, day, length)
            wanted = {
                v: (rows, labelled if table == "performance" else 0) for v, (rows, labelled) in there.items()
            }
            if wanted and told.get(self.window(day, length)) != wanted:
                found.append(day)
        return found

    def _told(self, con: duckdb.DuckDBPyConnection, table: str) -> dict[Window, dict[str, tuple[int, int]]]:
        where = "slice = ''" if table == "performance" else "role = 'score'"
        columns = ["window_start", "window_end", "model_version", "rows"]
        columns += ["labelled"] if table == "performance" else []
        found: dict[Window, dict[str, tuple[int, int]]] = {}
        for start, end, version, rows, *more in read_windows(
            con, table, self.spec.name, columns, where=where
        ):
            found.setdefault(Window(start, end), {})[version] = (rows, more[0] if more else 0)
        return found

    def write(self, table: str, found: Mapping[Window, Sequence[Row]]) -> None:
        """Put the rows of windows in the place of those of the same windows, in one transaction."""
        common = {"model": self.spec.name, "run_id": self.run_id}
        given = [
            {**row, **common, "window_start": window.start, "window_end": window.end}
            for window, rows in found.items()
            for row in rows
        ]
        ends = [window.end for window in found]
        self.lakehouse.write(lambda con: replace_windows(con, table, self.spec.name, ends, given))

    def drift(self, days: Sequence[date], *, together: bool) -> list[DriftFound]:
        """Measure drift of the windows that end with some days, and write it.

        Args:
            days: The last day of each, in order; rows are counted once for all of them.
            together: Whether to ask a classifier about the last one too, which takes seconds.

        Returns:
            What was found of each version that predicted in the last window, the newest last.
        """
        watch = self.spec.declared.monitoring.drift
        found: dict[Window, list[DriftFound]] = {}
        whole = Window(self.window(days[0], watch.window).start, self.window(days[-1], watch.window).end)
        counted: dict[str, Mapping[str, CountedDays]] = {}
        with self.lakehouse.reader() as con:
            there = self.source.day_counts(con, whole, self.now)
            for day in days:
                window = self.window(day, watch.window)
                first, found[window] = window.start.astimezone(self.spec.timezone).date(), []
                for version in within(there, day, watch.window):
                    if version not in counted:
                        counted[version] = self._counted(con, whole, version)
                    part = {name: column.between(first, day) for name, column in counted[version].items()}
                    drifted = compare_drift(self.reference(version), part, watch)
                    rows = self.source.of_version(window, version)
                    is_asked = together and day == days[-1]
                    asked = self._together(con, self.reference(version), rows, drifted) if is_asked else None
                    found[window].append(DriftFound(version, drifted, asked))
                told = (f"{f.version}: {', '.join(f.drifted.names) or 'no drift'}" for f in found[window])
                self.log(f"drift up to {day}: {'; '.join(told) or 'no predictions'}")
        self.write("drift", {w: [r for f in told for r in _drift_rows(f)] for w, told in found.items()})
        return found[window]

    def _counted(
        self, con: duckdb.DuckDBPyConnection, window: Window, version: str
    ) -> Mapping[str, CountedDays]:
        rows = self.source.of_version(window, version)
        labelled = self.source.with_labels(rows, self.source.labels(con, self.now, rows))
        return count_drift(con, self.reference(version), rows, self.source.day, labelled)

    def _versions(self, con: duckdb.DuckDBPyConnection, window: Window) -> list[str]:
        if not self.source.is_there(con):
            return []
        found = con.execute(
            f"select model_version from {self.source.rows(window)} group by model_version "
            "order by max(prediction_at), model_version"
        ).fetchall()
        return [str(version) for (version,) in found]

    def _together(
        self, con: duckdb.DuckDBPyConnection, reference: Reference, rows: str, drifted: Drifted
    ) -> Together | None:
        watch, asked = self.spec.declared.monitoring.drift, self.spec.training_set.prediction_time
        total = max((c.rows for c in drifted.columns), default=0)
        if total < watch.min_rows:
            return None
        limit, profiles = watch.together_rows, reference.features
        query = sample_sql(rows, self.source.day, profiles, "prediction_id", limit, total)
        window = read_sample(con, query)
        trained = self.open_dataset(self.spec.table.name, reference.dataset_version).read(
            columns=list(dict.fromkeys([*profiles, asked, self.spec.training_set.label_known_at]))
        )
        inside = [f"{asked} < {literal(reference.train_end)}"]
        if reference.train_start is not None:
            inside.append(f"{asked} >= {literal(reference.train_start)}")
        con.register("_trained", trained)
        try:
            numbered = f"(select *, row_number() over () as _row from _trained where {' and '.join(inside)})"
            total = con.execute(f"select count(*) from {numbered}").fetchall()[0][0]
            query = sample_sql(numbered, day_sql(asked, self.source.timezone), profiles, "_row", limit, total)
            before = read_sample(con, query)
        finally:
            con.unregister("_trained")
        return tell_apart(
            before, window, profiles, significance=watch.significance, seed=self.spec.declared.seed
        )

    def _tallies(
        self, con: duckdb.DuckDBPyConnection, window: Window, version: str, columns: Sequence[str]
    ) -> dict[Slice, Tally]:
        rows = self.source.of_version(window, version)
        return tally(con, rows, self.source.day, self.source.labels(con, self.now, rows), columns)

    def _whole(
        self, con: duckdb.DuckDBPyConnection, window: Window, version: str
    ) -> dict[Slice, Tally] | None:
        """The cells of all windows inside one; None where a window's cells are not those of its days."""
        if has_many_scores(con, self.source.of_version(window, version)):
            return None
        return self._tallies(con, window, version, self.spec.declared.slices)

    def performance(self, days: Sequence[date]) -> dict[str, list[Performance]]:
        """Measure performance of the windows that end with some days, and write it.

        Args:
            days: The last day of each, in order; where scores are few, rows are counted once for all of them.

        Returns:
            What was found of each version that predicted in the last window, the newest last.
        """
        watch, seed = self.spec.declared.monitoring.performance, self.spec.declared.seed
        found: dict[Window, dict[str, list[Performance]]] = {}
        whole = Window(self.window(days[0], watch.window).start, self.window(days[-1], watch.window).end)
        tallied: dict[str, dict[Slice, Tally] | None] = {}
        with self.lakehouse.reader() as con:
            there = self.source.day_counts(con, whole, self.now)
            for day in days:
                window = self.window(day, watch.window)
                first, found[window] = window.start.astimezone(self.spec.timezone).date(), {}
                for version in within(there, day, watch.window):
                    if version not in tallied:
                        tallied[version] = self._whole(con, whole, version)
                    parts = tallied[version]
                    if parts is None:
                        told = self._tallies(con, window, version, self.spec.declared.slices)
                    else:
                        told = {of: part.between(first, day) for of, part in parts.items()}
                    told = {of: part for of, part in told.items() if part.rows}
                    found[window][version] = measure_performance(told, self.reference(version), watch, seed)
                self.log(f"performance up to {day}: {', '.join(found[window]) or 'no predictions'}")
        self.write(
            "performance",
            {
                w: [r for version, part in told.items() for r in _performance_rows(version, part)]
                for w, told in found.items()
            },
        )
        return found[window]

    def bias(self, day: date) -> dict[str, list[Bias]]:
        """Measure bias of the window that ends with a day and write it, by version, the newest last."""
        watch = self.spec.declared.monitoring.bias
        window = self.window(day, watch.window)
        groups = self.spec.declared.slices if watch.groups is None else watch.groups
        with self.lakehouse.reader() as con:
            found = {
                version: measure_bias(self._tallies(con, window, version, groups), watch)
                for version in self._versions(con, window)
            }
        rows = [{"model_version": v, **asdict(bias)} for v, told in found.items() for bias in told]
        self.write("bias", {window: rows})
        return found

    def skew(self, day: date) -> dict[str, list[ColumnSkew]]:
        """Compare the newest online predictions that were made on a day and before it, and write it.

        Args:
            day: The day, which need not be over: what is wrong now need not wait for midnight.

        Returns:
            What was found of each version that predicted on that day or as long before as is declared, the
            newest last.
        """
        watch = self.spec.declared.monitoring.skew
        window = self.window(day, watch.window + timedelta(days=1))
        with self.lakehouse.reader() as con:
            served = self._served(con, window)
        found = {
            version: measure_skew(
                self.spec, self.catalog, self.lakehouse, rows, watch, self.reference(version).features
            )
            for version, rows in served.items()
        }
        rows = [
            {"model_version": version, **asdict(c), "alarm": c.alarm}
            for version, told in found.items()
            for c in told
        ]
        self.write("skew", {window: rows})
        return found

    def _served(self, con: duckdb.DuckDBPyConnection, window: Window) -> dict[str, pa.Table]:
        """Online predictions made in a window by version, the one that predicted last being the last."""
        if not self.source.is_there(con):
            return {}
        held = [column.name for column in describe_table(con, PREDICTIONS, self.spec.name)]
        columns = ", ".join(served_columns(self.spec, held))
        newest = con.execute(
            f"select {columns} from {relation(PREDICTIONS, self.spec.name)} where mode = 'online' "
            f"and {PREDICTED_AT} >= {literal(window.start)} and {PREDICTED_AT} < {literal(window.end)} "
            f"order by {PREDICTED_AT} desc, prediction_id limit {self.spec.declared.monitoring.skew.max_rows}"
        ).to_arrow_table()
        versions = dict.fromkeys(newest.column("model_version").to_pylist())
        return {
            version: newest.filter(pc.equal(newest["model_version"], version))
            for version in reversed(versions)
        }


def _drift_rows(found: DriftFound) -> Iterator[dict[str, Any]]:
    for column in found.drifted.columns:
        yield {"model_version": found.version, **asdict(column)}
    if found.together is not None:
        watch = found.drifted.watch
        yield {
            "model_version": found.version,
            "column_name": EVERY,
            "role": TOGETHER,
            "rows": found.together.rows,
            "statistic": found.together.area,
            "low": found.together.low,
            "p_value": found.together.p_value,
            "adjusted_p_value": found.together.p_value,
            "alarm": found.together.low >= watch.together,
        }


def _performance_rows(version: str, found: Sequence[Performance]) -> Iterator[dict[str, Any]]:
    for told in found:
        row: dict[str, Any] = {"model_version": version, "slice": told.slice, "metric": told.metric}
        for name in ("estimated", "realised", "expected"):
            value: Estimate | Expected | None = getattr(told, name)
            row |= {
                name: value and value.value,
                f"{name}_low": value and value.low,
                f"{name}_high": value and value.high,
            }
        yield {**row, "rows": told.rows, "labelled": told.labelled}
