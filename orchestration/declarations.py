"""What the dbt project declares, as strict typed models read from dbt's manifest.

What belongs here: the shape of every ``config.meta`` the platform reads, and its validation. What
does not: what is done with a declaration (ingestion, features, quality decide that themselves).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

Layer = Literal["raw", "staged", "features", "training"]
LAYERS: tuple[Layer, ...] = ("raw", "staged", "features", "training")
Classification = Literal["public", "internal", "confidential", "personal"]

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DURATION = re.compile(r"^\s*(\d+)\s+(second|minute|hour|day|week)s?\s*$")
_OWNER = re.compile(r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")


class DeclarationError(ValueError):
    """Declarations that cannot be used; the message has one line a fault: file, key, found, expected."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("the dbt project's declarations have faults:\n  " + "\n  ".join(self.faults))


def parse_duration(value: object) -> timedelta:
    """A length of time written as ``6 hours``, ``10 minutes``, ``28 days``.

    Raises:
        ValueError: Any other text.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a whole number and a unit, such as '6 hours'")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _known_timezone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("expected an IANA time zone, such as America/New_York")
    return value


def _owner(value: str) -> str:
    if not _OWNER.match(value):
        raise ValueError("expected an e-mail address or team:<name>")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Owner = Annotated[str, AfterValidator(_owner)]


class Declared(BaseModel):
    """Base of all declarations: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Partition(Declared):
    """Daily partitions by ``event_time``: from ``start`` up to, not including, ``end``."""

    frequency: Literal["daily"]
    start: date
    end: date | None = None
    timezone: Annotated[str, AfterValidator(_known_timezone)] = "UTC"

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"expected end after start ({self.start}), found {self.end}")
        return self

    @property
    def tz(self) -> ZoneInfo:
        """The zone whose midnights part the days."""
        return ZoneInfo(self.timezone)


class Ingest(Declared):
    """How one source table is read: ``sources[].tables[].config.meta.ingest``."""

    uri: str = Field(min_length=1)
    format: Literal["csv", "jsonl", "parquet", "table"]
    compression: Literal["auto", "none", "gzip", "zip"] = "auto"
    delimiter: str = Field(",", min_length=1, max_length=1)
    null_values: tuple[str, ...] = ("",)
    encoding: str = "utf-8"
    table: str | None = None
    cursor: str | None = None
    primary_key: Annotated[tuple[str, ...], Field(min_length=1)]
    event_time: str | None = None
    partition: Partition | None = None
    new_columns: Literal["fail", "ignore", "evolve"] = "fail"
    max_quarantined_share: float = Field(0.0, ge=0, le=1)
    publication_delay: Duration = timedelta(0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.partition is not None and self.event_time is None:
            raise ValueError("partition needs event_time, the column that tells a row's day")
        if (self.format == "table") != (self.table is not None):
            raise ValueError("format table and the key table go together")
        if self.cursor is not None and self.format != "table":
            raise ValueError("cursor is for format table only")
        return self


class FeatureView(Declared):
    """A feature view: ``models[].config.meta.feature_view``."""

    entity: Annotated[tuple[str, ...], Field(min_length=1)]
    timestamp: str = "known_at"
    ttl: Duration
    online: bool = False


class Freshness(Declared):
    """How old the newest row may be, on the platform's clock."""

    column: str
    warn_after: Duration
    fail_after: Duration | None = None


class TableMeta(Declared):
    """``config.meta`` of a source table or model."""

    owner: Owner
    ingest: Ingest | None = None
    feature_view: FeatureView | None = None
    freshness: Freshness | None = None


class ColumnMeta(Declared):
    """``config.meta`` of a column."""

    classification: Classification = "internal"


@dataclass(frozen=True)
class DeclaredColumn:
    """One documented, typed column."""

    name: str
    data_type: str
    description: str
    classification: Classification


@dataclass(frozen=True)
class Table:
    """A source table or a model, with what its YAML declares.

    ``layer`` is ``raw`` for a source and the first folder under ``models/`` for a model;
    ``schema`` and ``name`` are its place in the lakehouse; ``upstream`` are dbt unique ids.
    """

    unique_id: str
    layer: Layer
    schema: str
    name: str
    description: str
    file: str
    columns: tuple[DeclaredColumn, ...]
    tags: tuple[str, ...]
    meta: TableMeta
    upstream: tuple[str, ...]

    @property
    def asset_path(self) -> tuple[str, str]:
        """The asset key's parts: layer and table."""
        return (self.layer, self.name)

    @property
    def ingest(self) -> Ingest:
        """The ingest declaration of a source table.

        Raises:
            LookupError: The table is a model.
        """
        if self.meta.ingest is None:
            raise LookupError(f"{self.unique_id} declares no ingest")
        return self.meta.ingest

    def column(self, name: str) -> DeclaredColumn | None:
        """The column of that name, or None."""
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True)
class Declarations:
    """All source tables and models of the dbt project, by dbt unique id."""

    tables: Mapping[str, Table]

    @property
    def sources(self) -> tuple[Table, ...]:
        """The source tables, in name order."""
        return self.layer("raw")

    def layer(self, layer: Layer) -> tuple[Table, ...]:
        """The tables of a layer, in name order."""
        return tuple(sorted((t for t in self.tables.values() if t.layer == layer), key=lambda t: t.name))

    @cached_property
    def feature_views(self) -> tuple[Table, ...]:
        """The models that declare a feature view."""
        return tuple(t for t in self.layer("features") if t.meta.feature_view is not None)

    def ancestors(self, unique_id: str) -> Iterator[Table]:
        """Every table a table is built from, each once."""
        seen: set[str] = set()
        todo = list(self.tables[unique_id].upstream)
        while todo:
            parent = todo.pop()
            if parent in seen or parent not in self.tables:
                continue
            seen.add(parent)
            yield self.tables[parent]
            todo.extend(self.tables[parent].upstream)

    def partition(self, unique_id: str) -> Partition | None:
        """How a table is partitioned: a source as declared, a model as the sources it is built from."""
        table = self.tables[unique_id]
        if table.meta.ingest is not None:
            return table.meta.ingest.partition
        found = {t.meta.ingest.partition for t in self.ancestors(unique_id) if t.meta.ingest} - {None}
        if len(found) > 1:
            raise DeclarationError(
                [
                    f"{table.file}: {table.name}: is built from sources with {len(found)} different "
                    "partition declarations, expected one"
                ]
            )
        return next(iter(found), None)


def _found(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that a declaration knows at a place inside it."""
    current: type[BaseModel] = model
    for part in location:
        field = current.model_fields.get(str(part))
        if field is None:
            continue
        nested = [
            a
            for a in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if isinstance(a, type) and issubclass(a, BaseModel)
        ]
        if nested:
            current = nested[0]
    return sorted(current.model_fields)


def _describe(error: Any, model: type[BaseModel]) -> tuple[str, str]:
    """Found and expected, in words, of one pydantic error."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = ", ".join(_keys_at(model, error["loc"][:-1]))
        return f"unknown key {str(error['loc'][-1])!r}", f"one of {known}"
    if kind == "missing":
        return "nothing", "a value"
    if kind == "value_error":
        message = str(context["error"])
        return _found(error["input"]), message.removeprefix("expected ")
    if "expected" in context:
        return _found(error["input"]), str(context["expected"])
    return _found(error["input"]), str(error["msg"])[:1].lower() + str(error["msg"])[1:]


def parse_strict(model: type[BaseModel], value: object, file: str, key: str, faults: list[str]) -> Any:
    """``value`` as ``model``, or None after adding one line a fault to ``faults``."""
    try:
        return model.model_validate(value)
    except ValidationError as invalid:
        for error in invalid.errors():
            place = ".".join([key, *map(str, error["loc"])])
            found, expected = _describe(error, model)
            faults.append(f"{file}: {place}: found {found}, expected {expected}")
    return None


def _meta(node: Mapping[str, Any]) -> dict[str, Any]:
    return dict(node.get("config", {}).get("meta") or node.get("meta") or {})


def _columns(node: Mapping[str, Any], file: str, key: str, faults: list[str]) -> tuple[DeclaredColumn, ...]:
    columns = []
    for name, column in node["columns"].items():
        place = f"{key}.columns.{name}"
        meta = parse_strict(ColumnMeta, _meta(column), file, f"{place}.config.meta", faults)
        if not column.get("data_type"):
            faults.append(f"{file}: {place}.data_type: found nothing, expected a DuckDB type")
        if not column.get("description"):
            faults.append(f"{file}: {place}.description: found nothing, expected a sentence")
        if meta is not None:
            data_type = (column.get("data_type") or "").lower()
            columns.append(
                DeclaredColumn(name, data_type, column.get("description", ""), meta.classification)
            )
    if not columns:
        faults.append(f"{file}: {key}.columns: found nothing, expected every column of the table")
    return tuple(columns)


def _named_columns(meta: TableMeta) -> Iterator[tuple[str, str]]:
    """Every ``(key, column)`` in which a declaration names a column of its own table."""
    if meta.ingest is not None:
        for name in meta.ingest.primary_key:
            yield "ingest.primary_key", name
        for key in ("event_time", "cursor"):
            name = getattr(meta.ingest, key)
            if name is not None:
                yield f"ingest.{key}", name
    if meta.feature_view is not None:
        for name in meta.feature_view.entity:
            yield "feature_view.entity", name
        yield "feature_view.timestamp", meta.feature_view.timestamp
    if meta.freshness is not None:
        yield "freshness.column", meta.freshness.column


def _table(node: Mapping[str, Any], layer: Layer, faults: list[str]) -> Table | None:
    is_source = node["resource_type"] == "source"
    file = str(node.get("patch_path") or node["original_file_path"]).split("://")[-1]
    key = f"sources.{node['source_name']}.{node['name']}" if is_source else f"models.{node['name']}"
    meta = parse_strict(TableMeta, _meta(node), file, f"{key}.config.meta", faults)
    columns = _columns(node, file, key, faults)
    if not node.get("description"):
        faults.append(f"{file}: {key}.description: found nothing, expected a sentence")
    if meta is None:
        return None
    if is_source and meta.ingest is None:
        faults.append(f"{file}: {key}.config.meta.ingest: found nothing, expected a declaration")
    if not is_source and meta.ingest is not None:
        faults.append(f"{file}: {key}.config.meta.ingest: found on a model, expected on a source only")
    if layer == "features" and meta.feature_view is None:
        faults.append(f"{file}: {key}.config.meta.feature_view: found nothing, expected a declaration")
    names = {c.name for c in columns}
    faults.extend(
        f"{file}: {key}.config.meta.{where}: found {name!r}, expected one of the table's columns"
        for where, name in _named_columns(meta)
        if name not in names
    )
    return Table(
        unique_id=node["unique_id"],
        layer=layer,
        schema=node["schema"],
        name=node["identifier"] if is_source else node["alias"],
        description=node.get("description", ""),
        file=file,
        columns=columns,
        tags=tuple(node.get("tags", ())),
        meta=meta,
        upstream=tuple(node.get("depends_on", {}).get("nodes", ())),
    )


def load_declarations(manifest: Mapping[str, Any]) -> Declarations:
    """Read and check every declaration of a dbt manifest.

    Args:
        manifest: dbt's ``manifest.json``, parsed.

    Raises:
        DeclarationError: At least one declaration cannot be used; all faults are listed.
    """
    faults: list[str] = []
    tables: dict[str, Table] = {}
    for node in manifest["sources"].values():
        table = _table(node, "raw", faults)
        if table is not None:
            tables[table.unique_id] = table
    for node in manifest["nodes"].values():
        if node["resource_type"] != "model":
            continue
        folder = PurePosixPath(node["original_file_path"].replace("\\", "/")).parts[1]
        layer = next((name for name in LAYERS[1:] if name == folder), None)
        if layer is None:
            faults.append(
                f"{node['original_file_path']}: found in folder {folder!r}, "
                f"expected models/ and one of {', '.join(LAYERS[1:])}"
            )
            continue
        table = _table(node, layer, faults)
        if table is not None:
            tables[table.unique_id] = table
    declarations = Declarations(tables)
    faults.extend(_backward_edges(declarations))
    if faults:
        raise DeclarationError(faults)
    for unique_id in tables:
        declarations.partition(unique_id)
    return declarations


def _backward_edges(declarations: Declarations) -> Iterator[str]:
    for table in declarations.tables.values():
        for parent in (declarations.tables.get(u) for u in table.upstream):
            if parent is not None and LAYERS.index(parent.layer) > LAYERS.index(table.layer):
                yield (
                    f"{table.file}: models.{table.name}: found a reference to {parent.layer}.{parent.name}, "
                    f"expected references to {table.layer} or an earlier layer"
                )
