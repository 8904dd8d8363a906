"""Declared tables: source tables and models, and how they hang together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from orchestration.declarations.shapes import Classification, ExposureMeta, Ingest, Partition, TableMeta
from orchestration.declarations.strict import DeclarationError

Layer = Literal["raw", "staged", "features", "training"]
NullKeys = Literal["reject", "match"]
"""Whether a null in a model's key fails the model (``reject``) or equals other nulls (``match``)."""
LAYERS: tuple[Layer, ...] = ("raw", "staged", "features", "training")
RESERVED_NAMES = (
    "rowid", "_source_uri", "_source_sha256", "_row_number", "_ingested_at", "_run_id", "_late_at",
)  # fmt: skip
"""Names that no column of a source may have: DuckDB's row number, and the columns that landing adds."""
RESERVED_PREFIX = "_gw_"
"""The prefix of helper columns of landing, which no column of a source may have."""


@dataclass(frozen=True)
class DeclaredColumn:
    """One documented, typed column."""

    name: str
    data_type: str
    description: str
    classification: Classification
    timezone: str | None = None

    @property
    def is_classified(self) -> bool:
        """Whether values of this column are masked wherever samples are shown."""
        return self.classification in {"confidential", "personal"}


@dataclass(frozen=True)
class Table:
    """A source table or a model, with what its YAML declares.

    ``layer`` is ``raw`` for a source, the first folder under ``models/`` for a model, and for a seed
    that of the earliest model that uses it;
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
    null_keys: NullKeys = "reject"

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

    def zone_of(self, name: str) -> str | None:
        """The time zone that a column's zone-less timestamps are local to; None if it is unknown.

        The default is UTC, unless the source is partitioned by the days of another zone.
        """
        column, ingest = self.column(name), self.ingest
        declared = (column.timezone if column is not None else None) or ingest.timezone
        if declared is not None or (ingest.partition is not None and ingest.partition.timezone != "UTC"):
            return declared
        return "UTC"

    def column(self, name: str) -> DeclaredColumn | None:
        """The column of that name, or None."""
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True)
class Exposure:
    """A use of the data: a dbt exposure with what its YAML declares."""

    unique_id: str
    name: str
    kind: str
    description: str
    file: str
    meta: ExposureMeta
    upstream: tuple[str, ...]


@dataclass(frozen=True)
class Declarations:
    """All source tables and models of the dbt project, by dbt unique id; exposures by name."""

    tables: Mapping[str, Table]
    exposures: Mapping[str, Exposure] = field(default_factory=dict)

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

    @cached_property
    def training_sets(self) -> tuple[Table, ...]:
        """The models that declare a training set."""
        return tuple(t for t in self.layer("training") if t.meta.training_set is not None)

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
