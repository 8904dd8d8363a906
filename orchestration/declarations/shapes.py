"""The shape of every ``config.meta`` that the platform reads."""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, AwareDatetime, ByteSize, Field, model_validator

from orchestration.declarations.durations import Duration
from orchestration.declarations.models import LearnedModel
from orchestration.declarations.strict import Declared

Classification = Literal["public", "internal", "confidential", "personal"]

_OWNER = re.compile(r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")


def _known_timezone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("expected an IANA time zone, such as America/New_York")
    return value


TimeZone = Annotated[str, AfterValidator(_known_timezone)]


def _owner(value: str) -> str:
    if not _OWNER.match(value):
        raise ValueError("expected an e-mail address or team:<name>")
    return value


Owner = Annotated[str, AfterValidator(_owner)]


class Partition(Declared):
    """Daily partitions by ``event_time``: from ``start`` up to, not including, ``end``."""

    frequency: Literal["daily"]
    start: date
    end: date | None = None
    timezone: TimeZone = "UTC"

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
    timezone: TimeZone | None = None
    """The zone that zone-less timestamps of the source are local to; a column may declare its own."""
    new_columns: Literal["fail", "ignore", "evolve"] = "fail"
    max_quarantined_share: float = Field(0.0, ge=0, le=1)
    publication_delay: Duration = timedelta(0)
    partition_columns: tuple[str, ...] = ()
    """Declared columns whose values come from ``key=value`` folders if the file does not have them."""
    max_unpacked_size: ByteSize = ByteSize(16 * 1024**3)
    """The largest size of the unpacked content of one zip or gzip file, in bytes."""
    push: bool = False
    """Whether the feature server takes rows for it, which arrive as files in its landing folder."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.partition is not None and self.event_time is None:
            raise ValueError("partition needs event_time, the column that tells a row's day")
        if (self.format == "table") != (self.table is not None):
            raise ValueError("format table and the key table go together")
        if self.cursor is not None and self.format != "table":
            raise ValueError("cursor is for format table only")
        if self.partition_columns and self.format == "table":
            raise ValueError("partition_columns is for files only")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding {self.encoding!r} is no encoding of text that Python has") from None
        plain = self.compression in {"auto", "none"} and self.encoding.lower() in {"utf-8", "utf8"}
        if self.push and not (self.format in {"csv", "jsonl"} and plain):
            raise ValueError("push is for format csv or jsonl, in UTF-8, not compressed")
        return self


class FeatureView(Declared):
    """A feature view: ``models[].config.meta.feature_view``."""

    entity: Annotated[tuple[str, ...], Field(min_length=1)]
    timestamp: str = "known_at"
    ttl: Duration
    online: bool = False


class RoleView(Declared):
    """A feature view in a role: its entity keys under the names that a caller has for them."""

    view: str
    join_keys: Mapping[str, str]


class RequestColumn(Declared):
    """A value that only a request knows, such as the amount of an order."""

    data_type: str = Field(min_length=1)
    description: str = Field(min_length=1)


class OnDemandFeature(Declared):
    """A feature computed from features and request values when it is asked for.

    ``expression`` is DuckDB SQL over request columns and features, the latter written
    ``<view or role>__<feature>``; training and serving evaluate the same text.
    """

    expression: str = Field(min_length=1)
    data_type: str = Field(min_length=1)
    description: str = Field(min_length=1)
    classification: Classification = "internal"


class FeatureService(Declared):
    """Features that are asked for together: ``exposures[].config.meta.feature_service``."""

    features: Annotated[tuple[str, ...], Field(min_length=1)]
    roles: Mapping[str, RoleView] = Field(default_factory=dict)
    request: Mapping[str, RequestColumn] = Field(default_factory=dict)
    on_demand: Mapping[str, OnDemandFeature] = Field(default_factory=dict)


class Split(Declared):
    """How a training set is split by prediction time, and how long no row counts after each split.

    The embargo is as wide as a label's delay: what is trained on was known when validation begins.
    """

    train_until: AwareDatetime
    validation_until: AwareDatetime
    embargo: Duration

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.validation_until <= self.train_until + self.embargo:
            raise ValueError("expected validation_until after train_until and the embargo")
        return self


class TrainingSet(Declared):
    """A training set: ``models[].config.meta.training_set``. Its column ``split`` says what a row is for."""

    feature_service: str
    label: str
    label_known_at: str = "label_known_at"
    prediction_time: str = "prediction_at"
    split: Split


class Spine(Declared):
    """What is predicted: a model with a row for each thing, whether its label is known or not."""

    key: Annotated[tuple[str, ...], Field(min_length=1)]
    """Columns that tell a row from all others; the training set has them too."""
    partition_by: str
    """The instant by whose day rows are predicted together."""


class ExposureMeta(Declared):
    """``config.meta`` of an exposure."""

    owner: Owner
    feature_service: FeatureService | None = None
    model: LearnedModel | None = None


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
    training_set: TrainingSet | None = None
    spine: Spine | None = None
    freshness: Freshness | None = None


class ColumnMeta(Declared):
    """``config.meta`` of a column."""

    timezone: TimeZone | None = None
    """On a source: the zone that the column's zone-less timestamps are local to."""
    classification: Classification = "internal"
