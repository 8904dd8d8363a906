"""What a version of a training set is made by, as the dbt project declares it.

What belongs here: reading that out of declarations and dbt's manifest. What does not: reading data.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestration.declarations import Declarations, Partition, Table
from orchestration.learning.datasets.manifest import ModelCode, SplitRule
from orchestration.sql import identifier, literal

SPLIT = "split"
SPLITS = ("train", "validation", "test", "embargo")
"""The splits in the order in which rows of them are stored; others follow by name."""

_TAKEN_BY_MODELS = {"features", "leave_out", "on_demand", "request", "encoding", "infinite"}
"""Keys of a model's declaration that say which columns it takes and how it encodes them."""

Compile = Callable[[Sequence[str], datetime], Mapping[str, str]]
"""The SQL of dbt models, by unique id, for the whole of history and labels known up to an instant."""


@dataclass(frozen=True)
class Recipe:
    """A training set: its table, what tells its rows apart and orders them, and what it is made from."""

    table: Table
    key: tuple[str, ...]
    order: tuple[str, ...]
    window_column: str | None
    partition: Partition | None
    split: SplitRule
    declared: Mapping[str, Any]
    inputs: Mapping[tuple[str, str], bool]
    sources: Mapping[str, str]
    project: str
    dbt_manifest_sha256: str

    @property
    def name(self) -> str:
        """The dataset's name: the training set's."""
        return self.table.name

    def models(self, compiled: Mapping[str, str]) -> dict[str, ModelCode]:
        """The code of its models, by what dbt compiled of each."""
        return {
            unique_id: ModelCode(source_sha256=source, compiled_sha256=_sha256(compiled[unique_id]))
            for unique_id, source in self.sources.items()
        }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def order_by(order: tuple[str, ...]) -> str:
    """The SQL of the total order of a version's rows."""
    ranks = " ".join(f"when {literal(name)} then {place}" for place, name in enumerate(SPLITS))
    split = f"case {identifier(SPLIT)} {ranks} else {len(SPLITS)} end"
    return f"{split}, " + ", ".join(f"{identifier(name)} asc nulls last" for name in order)


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """A hash of what a dbt manifest says of the project, and not of when or where it was parsed."""

    def lasting(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: lasting(v) for k, v in value.items() if k not in ("created_at", "root_path")}
        return value

    said = {kind: lasting(manifest.get(kind, {})) for kind in ("nodes", "sources", "macros", "exposures")}
    return _sha256(json.dumps(said, sort_keys=True, default=str))


def _columns(key: object) -> tuple[str, ...]:
    if not key:
        return ()
    return (key,) if isinstance(key, str) else tuple(str(part) for part in key)  # type: ignore[attr-defined]


def _used(declarations: Declarations, table: Table) -> Iterator[tuple[str, Any]]:
    declared = table.meta.training_set
    if declared is None:
        raise LookupError(f"{table.unique_id} declares no training set")
    yield "training_set", declared.model_dump(mode="json")
    exposure = declarations.exposures.get(declared.feature_service)
    if exposure is not None and exposure.meta.feature_service is not None:
        yield "feature_service", exposure.meta.feature_service.model_dump(mode="json")
    yield (
        "feature_views",
        {
            view.name: view.meta.feature_view.model_dump(mode="json")
            for view in sorted(declarations.ancestors(table.unique_id), key=lambda t: t.name)
            if view.meta.feature_view is not None
        },
    )
    yield (
        "models",
        {
            exposure.name: exposure.meta.model.model_dump(mode="json", include=_TAKEN_BY_MODELS)
            for exposure in sorted(declarations.exposures.values(), key=lambda e: e.name)
            if exposure.meta.model is not None and exposure.meta.model.training_set == table.name
        },
    )


def read_recipe(declarations: Declarations, manifest: Mapping[str, Any], table: Table) -> Recipe:
    """The recipe of a training set.

    Raises:
        LookupError: The table declares no training set.
    """
    declared = dict(_used(declarations, table))
    training_set = declared["training_set"]
    config = manifest["nodes"][table.unique_id]["config"]
    key = _columns(config.get("unique_key"))
    first = (SPLIT, training_set["prediction_time"])
    names = [column.name for column in table.columns]
    ancestors = list(declarations.ancestors(table.unique_id))
    models = [table, *(t for t in ancestors if t.unique_id in manifest["nodes"])]
    return Recipe(
        table=table,
        key=key,
        order=tuple(dict.fromkeys([*first, *(key or names)])),
        window_column=config.get("window_column"),
        partition=declarations.partition(table.unique_id),
        split=SplitRule(rule=training_set["split"]),
        declared=declared,
        inputs={(t.schema, t.name): t.unique_id in table.upstream for t in ancestors},
        sources={
            t.unique_id: str(manifest["nodes"][t.unique_id]["checksum"]["checksum"])
            for t in sorted(models, key=lambda t: t.unique_id)
        },
        project=str(manifest["metadata"].get("project_name", "")),
        dbt_manifest_sha256=manifest_hash(manifest),
    )
