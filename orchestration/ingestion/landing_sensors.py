"""Sensors that notice new and changed files in landing folders and ask for the partitions they touch.

What belongs here: when to ask for a run, and of which partitions. What does not: landing anything.
"""

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from orchestration.asset_specs import asset_key
from orchestration.declarations import Declarations, Table
from orchestration.ingestion.contract import reading_version
from orchestration.ingestion.delivery import deliver, unpack
from orchestration.ingestion.event_time import EventTime
from orchestration.ingestion.faults import IngestFault, faults_of
from orchestration.ingestion.files import READERS, temporary_folder
from orchestration.ingestion.landing_log import LandingLog
from orchestration.ingestion.quarantine import SCHEMA, bad_row
from orchestration.ingestion.uris import Item, Place, find_place, local_items, looks_like_many
from orchestration.lakehouse import LakehouseResource
from orchestration.partitions import PARTITION_FORMAT, Window, day_window, partitions_def
from orchestration.run_keys import run_key
from orchestration.settings import Clock, Settings
from orchestration.sql import literal

INTERVAL_SECONDS = 30
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

Days = tuple[date, date]
"""First and last day of a run of days."""


@dataclass(frozen=True)
class Seen:
    """What a sensor remembers of a file; ``sha256`` is None while it has not been asked for."""

    mtime_ns: int
    size: int
    sha256: str | None = None
    days: tuple[tuple[str, str], ...] = ()

    def is_same_file(self, other: "Seen") -> bool:
        """Whether size and modification time are equal."""
        return (self.mtime_ns, self.size) == (other.mtime_ns, other.size)


_UNSEEN = Seen(-1, -1)


def _load(cursor: str | None) -> dict[str, Seen]:
    held: dict[str, dict[str, Any]] = json.loads(cursor) if cursor else {}
    return {
        label: Seen(s["mtime_ns"], s["size"], s["sha256"], tuple((a, b) for a, b in s["days"]))
        for label, s in held.items()
    }


def _dump(seen: dict[str, Seen]) -> str:
    return json.dumps({label: asdict(s) for label, s in sorted(seen.items())})


def runs_of_days(days: Iterable[date]) -> list[Days]:
    """Days as spans without gaps."""
    spans: list[Days] = []
    for day in sorted(set(days)):
        if spans and day - spans[-1][1] <= timedelta(days=1):
            spans[-1] = (spans[-1][0], day)
        else:
            spans.append((day, day))
    return spans


def _all_days(spans: Iterable[tuple[str, str]]) -> set[date]:
    found: set[date] = set()
    for start, end in spans:
        day, last = date.fromisoformat(start), date.fromisoformat(end)
        while day <= last:
            found.add(day)
            day += timedelta(days=1)
    return found


def event_days(table: Table, item: Item, place: Place, settings: Settings) -> set[date]:
    """The days of the events in a file.

    Raises:
        IngestFault: The file cannot be read as declared.
    """
    ingest, event = table.ingest, EventTime.of(table)
    if event is None:
        return set()
    with temporary_folder(settings) as folder, closing(duckdb.connect()) as con:
        con.execute("set timezone = 'UTC'")
        con.execute(f"set temp_directory = {literal(str(folder))}")
        con.execute(f"set memory_limit = {literal(settings.duckdb_memory_limit)}")
        with faults_of(item.label):
            path = unpack(deliver(item, place, settings, folder), ingest, folder)
            reading = READERS[ingest.format](con, table, path, item.label, item.parts)
            rows = con.execute(
                f"select distinct {event.day} from ({reading.rows('rejecting')}) "
                f"where not _gw_skip and not {bad_row(table)}"
            ).fetchall()
    return {row[0] for row in rows}


@dataclass(frozen=True)
class Look:
    """What one look at a landing folder found."""

    seen: dict[str, Seen]
    arrived: dict[str, Seen]
    """New and changed files, with the days of their present and former versions."""
    unsettled: list[str]
    gone: list[str]
    former: dict[str, Seen] = field(default_factory=dict)
    """The earlier state of the arrived files, as of the last look."""


class Watch:
    """One landing folder."""

    def __init__(self, table: Table, settings: Settings, clock: Clock) -> None:
        self._table = table
        self._settings = settings
        self._clock = clock

    def look(self, before: dict[str, Seen], now: float) -> Look:
        """Compare the folder with what was seen before.

        Args:
            before: What the last look has seen.
            now: The wall clock, in seconds since 1970.

        Raises:
            IngestFault: The declared uri stands for nothing.
        """
        place = find_place(self._table.ingest, self._settings, self._table.name)
        found = Look({}, {}, [], [])
        for item in local_items(place, self._table.ingest):
            try:
                self._look_at(item, place, before.get(item.label), now, found)
            except FileNotFoundError:
                continue
        found.gone.extend(sorted(set(before) - set(found.seen)))
        return found

    def _look_at(self, item: Item, place: Place, before: Seen | None, now: float, found: Look) -> None:
        stat = Path(item.address).stat()
        current = Seen(stat.st_mtime_ns, stat.st_size)
        former = before or _UNSEEN
        if former.sha256 is not None and former.is_same_file(current):
            found.seen[item.label] = former
            return
        # Renaming a file changes its ctime but not its mtime: such a file was whole when it came.
        # A modification time may be in the future; the time of the change is the system's own clock.
        last = min(stat.st_mtime, stat.st_ctime)
        is_whole = stat.st_ctime_ns > stat.st_mtime_ns or now - last > INTERVAL_SECONDS
        if not is_whole:
            found.unsettled.append(item.label)
            found.seen[item.label] = replace(current, days=former.days)
            return
        with Path(item.address).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 == former.sha256:
            found.seen[item.label] = replace(current, sha256=sha256, days=former.days)
            return
        try:
            days = event_days(self._table, item, place, self._settings)
        except IngestFault:
            # The asset finds the same fault, and fails where people look.
            days = set()
        spans = tuple((a.isoformat(), b.isoformat()) for a, b in runs_of_days(days))
        found.seen[item.label] = replace(current, sha256=sha256, days=spans)
        both = runs_of_days(days | _all_days(former.days))
        found.arrived[item.label] = replace(
            found.seen[item.label], days=tuple((a.isoformat(), b.isoformat()) for a, b in both)
        )
        found.former[item.label] = former

    def without_landed(self, look: Look, lakehouse: LakehouseResource, made: Collection[str]) -> Look:
        """The same without the files that have landed, just as they are, before this sensor saw them.

        Args:
            look: What a look has found.
            lakehouse: Its log of landings tells.
            made: The partitions that are materialized; not empty for a source without any that is.
        """
        told = [label for label, seen in look.arrived.items() if self._is_made(seen, made)]
        if not told:
            return look
        with lakehouse.reader() as con:
            log = LandingLog(con, self._table.name, reading_version(self._table))
            landed = {label for label in told if self._has_landed(log, label, look.arrived[label])}
        return replace(look, arrived={k: seen for k, seen in look.arrived.items() if k not in landed})

    def _is_made(self, seen: Seen, made: Collection[str]) -> bool:
        if self._table.ingest.partition is None:
            return bool(made)
        days = {day.strftime(PARTITION_FORMAT) for day in _all_days(seen.days)}
        return bool(days) and days.issubset(made)

    def _has_landed(self, log: LandingLog, label: str, seen: Seen) -> bool:
        partition = self._table.ingest.partition
        windows: list[Window | None] = [None]
        if partition is not None:
            spans = [(date.fromisoformat(first), date.fromisoformat(last)) for first, last in seen.days]
            windows = [
                Window(day_window(partition, first).start, day_window(partition, last).end)
                for first, last in spans
            ]
        known = [log.known(label, seen.sha256 or "", window) for window in windows]
        return all(found is not None and found.is_covered for found in known)

    def requests(self, look: Look) -> Iterator[dg.RunRequest]:
        """One request a span of days that the arrived files touch; the newest day if nothing tells."""
        if not look.arrived:
            return
        # The earlier state of a file is part of the request: the file may return to its first state.
        names = json.dumps(
            sorted(
                (label, s.sha256, s.mtime_ns, before.sha256, before.mtime_ns)
                for label, s in look.arrived.items()
                for before in [look.former.get(label, _UNSEEN)]
            )
        )
        key = f"{self._table.name}:{hashlib.sha256(names.encode()).hexdigest()[:24]}"
        selection = [asset_key(self._table), dg.AssetKey([SCHEMA, self._table.name])]
        definition = partitions_def(self._table.ingest.partition, self._clock)
        if definition is None:
            yield dg.RunRequest(run_key=key, asset_selection=selection)
            return
        existing = definition.get_partition_keys(current_time=self._clock.now())
        wanted = {d.strftime(PARTITION_FORMAT) for s in look.arrived.values() for d in _all_days(s.days)}
        untold = any(not s.days for s in look.arrived.values())
        keys = [k for k in existing if k in wanted]
        if untold or not keys:
            keys = sorted({*keys, *existing[-1:]})
        for first, last in runs_of_days(date.fromisoformat(k) for k in keys):
            start, end = first.strftime(PARTITION_FORMAT), last.strftime(PARTITION_FORMAT)
            run_key = f"{key}:{start}:{end}"
            if start == end:
                yield dg.RunRequest(run_key=run_key, asset_selection=selection, partition_key=start)
            else:
                tags = {RANGE_START: start, RANGE_END: end}
                yield dg.RunRequest(run_key=run_key, asset_selection=selection, tags=tags)


def _summary(look: Look) -> str:
    parts = [f"{len(look.seen)} files, none new or changed"]
    if look.unsettled:
        parts.append(f"still being written: {', '.join(look.unsettled[:10])}")
    if look.gone:
        parts.append(f"no longer there (their rows stay): {', '.join(look.gone[:10])}")
    return "; ".join(parts)


def unwatched_assets(declarations: Declarations, settings: Settings) -> list[dg.AssetKey]:
    """Keys of what the partitioned sources land that can gain late rows while no sensor watches them.

    These are single files, web addresses, buckets and databases; an installed package never changes.
    """
    return [
        key
        for table in declarations.sources
        if table.ingest.partition is not None
        and not table.ingest.uri.startswith("package://")
        and not looks_like_many(table.ingest, settings)
        for key in (asset_key(table), dg.AssetKey([SCHEMA, table.name]))
    ]


def _made(instance: dg.DagsterInstance, table: Table) -> Collection[str]:
    """The partitions of a source that are materialized; of one without partitions, the run that made it."""
    key = asset_key(table)
    if table.ingest.partition is not None:
        return instance.get_materialized_partitions(key)
    event = instance.get_latest_materialization_event(key)
    return [] if event is None else [event.run_id]


def build_landing_sensor(
    table: Table, settings: Settings, clock: Clock, default_status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """The sensor of one source."""
    watch, name = Watch(table, settings, clock), f"landing_{table.name}"

    @dg.sensor(
        name=name,
        description=f"Notices new and changed files of {table.ingest.uri} and asks for their partitions.",
        target=dg.AssetSelection.assets(asset_key(table), dg.AssetKey([SCHEMA, table.name])),
        minimum_interval_seconds=settings.sensor_interval(INTERVAL_SECONDS),
        default_status=default_status,
    )
    def landing(
        context: dg.SensorEvaluationContext, lakehouse: dg.ResourceParam[LakehouseResource]
    ) -> dg.SensorResult:
        look = watch.look(_load(context.cursor), time.time())
        if look.arrived:
            look = watch.without_landed(look, lakehouse, _made(context.instance, table))
        for label in look.gone:
            context.log.info(f"{label} is no longer there; its rows stay")
        requests = [
            request.with_replaced_attrs(
                run_key=run_key(context.instance, name, request.run_key or "", time.time()).key
            )
            for request in watch.requests(look)
        ]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else dg.SkipReason(_summary(look)),
            cursor=_dump(look.seen),
        )

    return landing


def build_landing_sensors(
    declarations: Declarations,
    settings: Settings,
    clock: Clock,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> list[dg.SensorDefinition]:
    """One sensor a source that is a local folder or pattern."""
    return [
        build_landing_sensor(table, settings, clock, default_status)
        for table in declarations.sources
        if looks_like_many(table.ingest, settings)
    ]
