"""The manifest of a dataset version: what the data is, and all that it was made from.

What belongs here: its shape, its identity, reading and writing it as JSON. What does not: gathering what
it says (``circumstances``), or where it is kept (``store``).
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

FORMAT = 1
ID_LENGTH = 16
"""Hexadecimal digits of a version: of 2**64; a build compares the whole of what it stands for."""


class DatasetError(ValueError):
    """A dataset version that cannot be found, read, made or used; the message says which and why."""


class Part(BaseModel):
    """Base of everything in a manifest: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SchemaColumn(Part):
    """A column, by DuckDB's name of its type."""

    name: str
    type: str


class Shard(Part):
    """One Parquet file: rows of one split, in order; ``row_groups`` are the rows of each."""

    path: str
    split: str | None
    rows: int
    bytes: int
    sha256: str
    row_groups: tuple[int, ...]


class Git(Part):
    """The commit of the repository that holds the dbt project; dirty when files differ from it."""

    commit: str
    dirty: bool


class ModelCode(Part):
    """A dbt model by the hashes of its file and of the SQL that dbt compiled for the whole of history."""

    source_sha256: str
    compiled_sha256: str


class Input(Part):
    """A table that the training set was made from, and the newest snapshot up to it that changed the table.

    ``is_read`` tells the tables that its own SQL reads from those further up.
    """

    changed_at: int
    is_read: bool


class Lake(Part):
    """The state of the lakehouse that the rows are of: one snapshot for the training set and all inputs."""

    snapshot: int
    snapshot_at: AwareDatetime
    table_uuid: str
    inputs: Mapping[str, Input]


class Window(Part):
    """The spans of a column whose rows have been built, each ``[start, end)``."""

    column: str
    spans: tuple[tuple[AwareDatetime, AwareDatetime], ...]


class SplitRule(Part):
    """How rows were split. Splits go by time, which draws nothing at random: their seed is None."""

    rule: Mapping[str, Any]
    seed: int | None = None


class Engine(Part):
    """What ran: versions by name, and the settings that shape a computation."""

    versions: Mapping[str, str]
    settings: Mapping[str, str]


class CheckOutcome(Part):
    """How a check of the training set came out when it was last evaluated: passed, warned or failed."""

    name: str
    outcome: str
    blocking: bool
    evaluated_at: AwareDatetime
    run_id: str
    description: str
    measured: float | None = None


class Provenance(Part):
    """What a build was made from and with."""

    built_at: AwareDatetime
    run_id: str | None
    git: Git | None
    project: str
    dbt_manifest_sha256: str
    variables: Mapping[str, Any]
    cutoff: AwareDatetime
    models: Mapping[str, ModelCode]
    declarations: Mapping[str, Any]
    lake: Lake
    window: Window | None
    split: SplitRule
    engine: Engine
    lock_sha256: str | None
    checks: tuple[CheckOutcome, ...]


class Manifest(Part):
    """A dataset version.

    ``order`` is the total order of its rows, ``key`` the columns that tell them apart. ``query`` is the
    SQL that makes it, in ``query.sql``, by its hash.
    """

    format: int
    dataset: str
    version: str
    content_hash: str
    columns: tuple[SchemaColumn, ...]
    rows: int
    bytes: int
    key: tuple[str, ...]
    order: tuple[str, ...]
    splits: Mapping[str, int]
    shards: tuple[Shard, ...]
    query_sha256: str
    built: Provenance

    @property
    def reference(self) -> str:
        """``<dataset>@<version>``."""
        return f"{self.dataset}@{self.version}"

    @property
    def column_names(self) -> list[str]:
        """The columns in order."""
        return [column.name for column in self.columns]

    def to_json(self) -> str:
        """The manifest as text, for people too."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


class Build(Part):
    """A line of the log of builds: a build made the version, or came out the same as it."""

    version: str
    is_new: bool
    manifest_sha256: str
    built: Provenance


def version_of(content_hash: str, columns: tuple[SchemaColumn, ...]) -> str:
    """The id of a version: a hash of what defines the data, and of nothing else."""
    defined = {"columns": [[c.name, c.type] for c in columns], "content_hash": content_hash, "format": FORMAT}
    return hashlib.sha256(json.dumps(defined, sort_keys=True).encode()).hexdigest()[:ID_LENGTH]


def parse_manifest(text: bytes, place: str) -> Manifest:
    """Read a manifest.

    Raises:
        DatasetError: It is no manifest, or of a later format.
    """
    try:
        found = json.loads(text)
        known = found.get("format")
        if known != FORMAT:
            raise DatasetError(f"{place}: format: found {known!r}, expected {FORMAT}")
        return Manifest.model_validate(found)
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise DatasetError(f"{place}: found no JSON object, expected a manifest ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DatasetError(f"{place}: {key}: {first['msg']}") from error


def parse_build(line: str) -> Build | None:
    """A line of the log of builds; None for one that a killed process left unfinished."""
    try:
        return Build.model_validate_json(line)
    except ValidationError:
        return None


def last_built(manifest: Manifest, builds: list[Build]) -> datetime:
    """When a version was made or last came out again."""
    return max(
        [manifest.built.built_at, *(b.built.built_at for b in builds if b.version == manifest.version)]
    )
