"""The files of the second domain: pumps in a water works, and their hourly pressure readings."""

import json
import random
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

PUMPS = ("alder", "birch", "cedar", "dogwood")
FIRST_DAY = date(2024, 1, 1)
HEADER = "reading_id,pump,read_at,pressure,valve\n"


def pressure_at(hour: int, number: int, luck: float) -> float:
    """Bar: low for three hours of every twelve, each pump at hours of its own, but for one reading in eight.

    Args:
        hour: Of the day in UTC.
        number: The pump's.
        luck: From -1 to 1.
    """
    is_low = (hour // 3 + number) % 4 == (0 if abs(luck) < 0.875 else 2)
    return (2.5 if is_low else 4.5) + 0.4 * luck


def reading_lines(day: date, *, seed: int = 7) -> list[str]:
    """One CSV line for each pump and hour of a day; the same for the same day and seed."""
    dice = random.Random(f"{seed}-{day}")
    midnight = datetime.combine(day, time.min, UTC)
    lines = []
    for hour in range(24):
        for number, pump in enumerate(PUMPS):
            read_at = midnight + timedelta(hours=hour, minutes=dice.randrange(60))
            reading = (day - FIRST_DAY).days * 1000 + hour * 10 + number
            pressure = f"{pressure_at(hour, number, dice.uniform(-1, 1)):.2f}"
            valve = dice.choice(["open", "open", "open", "shut"])
            lines.append(f"{reading},{pump},{read_at:%Y-%m-%dT%H:%M:%SZ},{pressure},{valve}\n")
    return lines


def deliver_readings(folder: Path, day: date, *, extra: tuple[str, ...] = (), seed: int = 7) -> Path:
    """Put the file of one day into the landing folder, whole or not at all."""
    target = folder / "readings" / f"{day}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    arriving = target.with_suffix(".part")
    arriving.write_text(HEADER + "".join([*reading_lines(day, seed=seed), *extra]))
    return arriving.replace(target)


def deliver_pumps(folder: Path) -> Path:
    """Put the list of pumps into the landing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "pumps.jsonl"
    rows = [
        {"pump": pump, "maker": f"maker-{n % 2}", "installed_on": f"20{10 + n}-05-01"}
        for n, pump in enumerate(PUMPS)
    ]
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return target


def deliver(folder: Path, days: int = 4) -> None:
    """All files of the first ``days`` days."""
    deliver_pumps(folder)
    for n in range(days):
        deliver_readings(folder, FIRST_DAY + timedelta(days=n))
