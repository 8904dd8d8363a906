"""Point-in-time join of 10 million feature rows to a million: us, a query by hand, polars, pandas, Feast.

Each side is a process of its own, which says how long the join took, from the caller's rows to an Arrow
table or a DataFrame in the caller's order; imports are left out. All give the same sum, or the comparison is
void. What Feast takes depends on the ttl, as it joins all pairs within it: so it is asked twice, for values
that hold until there are newer ones, which is what it does by default, and for a ttl of a few days.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from benchmarks.feast_side import run_feast
from benchmarks.report import GIB, Row
from benchmarks.timing import Measured, apart, measure
from orchestration.declarations import DeclaredColumn
from orchestration.feature_store.offline import get_historical_features
from orchestration.feature_store.views import Catalog, View
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Settings

FEATURES = [f"f{n}" for n in range(10)]
TTL_DAYS = 10
LONG_TTL_DAYS = 365
"""As long as the data: values hold until there are newer ones, which Feast has for a view without a ttl."""
WORDS = {
    "hand": "a hand-written ASOF query",
    "polars": "polars join_asof",
    "pandas": "pandas merge_asof",
    "feast": "Feast with DuckDB",
}


def _lakehouse(folder: Path) -> LakehouseResource:
    return LakehouseResource.from_settings(Settings(data_dir=folder / "data"))


def make_data(folder: Path, feature_rows: int, spine_rows: int) -> None:
    """A table of the lakehouse, the same as a Parquet file, and the spine as another."""
    if (folder / "spine.parquet").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)

    def instant(seed: int) -> str:
        micros = f"(hash(i * {seed}) % 31536000000000)::bigint"
        return f"timestamptz '2013-01-01' + to_microseconds({micros}) as known_at"

    values = ", ".join(f"(hash(i * {n + 3}) % 1000)::double as {name}" for n, name in enumerate(FEATURES))
    entities = feature_rows // 100
    with _lakehouse(folder).get_connection() as con:
        con.execute("set enable_progress_bar = false")
        con.execute("create schema if not exists features")
        con.execute(
            f"create or replace table features.readings as select (hash(i) % {entities})::bigint as entity, "
            f"{instant(7)}, {values} from range({feature_rows}) as t (i) order by known_at"
        )
        con.execute(f"copy features.readings to '{folder}/features.parquet'")
        con.execute(
            f"copy (select i as id, (hash(i * 3 + 99) % {entities})::bigint as entity, {instant(11)} "
            f"from range({spine_rows}) as t (i)) to '{folder}/spine.parquet'"
        )


def ours(folder: Path, ttl_days: int) -> tuple[float, float]:
    import pyarrow.dataset  # noqa: F401, PLC0415  # DuckDB imports it for Arrow tables, and with it pandas

    def column(name: str, data_type: str) -> DeclaredColumn:
        return DeclaredColumn(name, data_type, name, "public")

    readings = View(
        name="readings",
        schema="features",
        table="readings",
        entity=(column("entity", "bigint"),),
        timestamp="known_at",
        ttl=timedelta(days=ttl_days),
        online=False,
        features=tuple(column(name, "double") for name in FEATURES),
        description="",
        owner="team:benchmarks",
    )
    lakehouse = _lakehouse(folder)
    lakehouse.open().close()
    started = time.perf_counter()
    table = get_historical_features(
        Catalog({"readings": readings}),
        lakehouse,
        folder / "spine.parquet",
        ["readings:*"],
        event_timestamp="known_at",
    ).to_arrow()
    return time.perf_counter() - started, float(sum(v or 0 for v in table.column("f0").to_pylist()))


def hand(folder: Path, ttl_days: int) -> tuple[float, float]:
    values = ", ".join(
        f"case when f.known_at >= s.known_at - interval '{ttl_days} days' then f.{name} end as {name}"
        for name in FEATURES
    )
    lakehouse = _lakehouse(folder)
    lakehouse.open().close()
    started = time.perf_counter()
    with lakehouse.reader() as con:
        table = con.execute(
            f"select s.*, {values} from '{folder}/spine.parquet' as s asof left join features.readings as f "
            "on s.entity = f.entity and s.known_at >= f.known_at order by s.id"
        ).to_arrow_table()
    return time.perf_counter() - started, float(sum(v or 0 for v in table.column("f0").to_pylist()))


def polars(folder: Path, ttl_days: int) -> tuple[float, float]:
    import polars as pl  # noqa: PLC0415  # one side of the comparison only

    started = time.perf_counter()
    spine = pl.read_parquet(folder / "spine.parquet").sort("known_at")
    features = pl.read_parquet(folder / "features.parquet").sort("known_at")
    joined = spine.join_asof(
        features,
        on="known_at",
        by="entity",
        strategy="backward",
        tolerance=timedelta(days=ttl_days),
        check_sortedness=False,
    )
    joined = joined.sort("id")
    return time.perf_counter() - started, float(joined["f0"].sum())


def pandas(folder: Path, ttl_days: int) -> tuple[float, float]:
    import pandas as pd  # noqa: PLC0415  # one side of the comparison only

    started = time.perf_counter()
    spine = pd.read_parquet(folder / "spine.parquet").sort_values("known_at")
    features = pd.read_parquet(folder / "features.parquet").sort_values("known_at")
    joined = pd.merge_asof(spine, features, on="known_at", by="entity", tolerance=pd.Timedelta(days=ttl_days))
    joined = joined.sort_values("id")
    return time.perf_counter() - started, float(joined["f0"].sum())


SIDES: dict[str, Callable[[Path, int], tuple[float, float]]] = {
    "ours": ours,
    "hand": hand,
    "polars": polars,
    "pandas": pandas,
}
QUICK = ("ours", "hand")


def _feast(folder: Path, ttl_days: int) -> tuple[Measured, float]:
    declared = {
        "name": "readings",
        "entity": ["entity", "bigint"],
        "ttl_days": 0 if ttl_days == LONG_TTL_DAYS else ttl_days,
        "file": str(folder / "features.parquet"),
        "features": dict.fromkeys(FEATURES, "double"),
    }
    told, whole = run_feast("historical", folder, declared)
    return Measured(told["seconds"], whole.peak_bytes), told["total"]


def _once(side: str, folder: Path, ttl_days: int) -> tuple[Measured, float]:
    if side == "feast":
        return _feast(folder, ttl_days)
    log = folder / f"{side}.log"
    whole = measure([sys.executable, "-m", "benchmarks.join", side, str(folder), str(ttl_days)], {}, log)
    told = json.loads(log.read_text().splitlines()[-1])
    return Measured(told["seconds"], whole.peak_bytes), told["total"]


def _measured(place: Path, sides: Sequence[str], ttl_days: int, repeats: int) -> dict[str, Measured]:
    """Median seconds and highest peak of each side, taken in turn.

    Raises:
        RuntimeError: Two sides gave other values.
    """
    found: dict[str, list[Measured]] = {side: [] for side in sides}
    totals: dict[str, float] = {}
    for number in range(3 * repeats):
        for side, measured in found.items():
            if side in QUICK or number < repeats:
                cost, totals[side] = _once(side, place, ttl_days)
                measured.append(cost)
    if len(set(totals.values())) > 1:
        raise RuntimeError(f"the sides gave other values: {totals}")
    return {
        side: Measured(statistics.median(m.seconds for m in measured), max(m.peak_bytes for m in measured))
        for side, measured in found.items()
    }


def run(
    folder: Path, *, repeats: int, feature_rows: int = 10_000_000, spine_rows: int = 1_000_000
) -> list[Row]:
    """Ours and the hand-written query three times ``repeats``, the others ``repeats`` times; medians count.

    Raises:
        MissingError: Feast cannot be installed.
        RuntimeError: Two sides gave other values.
    """
    place = folder / "join"
    apart(make_data, place, feature_rows, spine_rows)
    rows = []
    asked = ((TTL_DAYS, ("ours", *WORDS), {"hand": 1.3}), (LONG_TTL_DAYS, ("ours", "feast"), {"feast": 6.0}))
    for ttl_days, sides, limits in asked:
        measured = _measured(place, sides, ttl_days, repeats)
        mine = measured.pop("ours")
        ttl = "no ttl" if ttl_days == LONG_TTL_DAYS else f"ttl {ttl_days} days"
        what = f"point-in-time join, {feature_rows:,} by {spine_rows:,} by {len(FEATURES)}, {ttl}"
        for side, theirs in measured.items():
            is_hand = side == "hand"
            rows.append(
                Row(
                    what, _told(mine), f"{_told(theirs)}: {WORDS[side]}",
                    mine.seconds / theirs.seconds if is_hand else theirs.seconds / mine.seconds,
                    limits.get(side), "x" if is_hand else "x faster", not is_hand,
                )
            )  # fmt: skip
    return rows


def _told(cost: Measured) -> str:
    return f"{cost.seconds:.1f} s, {cost.peak_bytes / GIB:.1f} GiB"


if __name__ == "__main__":
    taken, total = SIDES[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"seconds": taken, "total": total}))
