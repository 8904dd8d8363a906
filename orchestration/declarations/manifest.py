"""From dbt's manifest to declared tables; every fault found is listed at once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, get_args

from orchestration.declarations.data_types import ALTERED_TYPES, altered_type, canonical, unknown_type
from orchestration.declarations.shapes import ColumnMeta, ExposureMeta, TableMeta
from orchestration.declarations.strict import DeclarationError, parse_strict
from orchestration.declarations.tables import (
    LAYERS,
    RESERVED_NAMES,
    RESERVED_PREFIX,
    Declarations,
    DeclaredColumn,
    Exposure,
    Layer,
    NullKeys,
    Table,
)
from orchestration.sql import folded


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
                DeclaredColumn(
                    name, data_type, column.get("description", ""), meta.classification, meta.timezone
                )
            )
    if not columns:
        faults.append(f"{file}: {key}.columns: found nothing, expected every column of the table")
    return tuple(columns)


def _named_columns(meta: TableMeta) -> Iterator[tuple[str, str]]:
    """Every ``(key, column)`` in which a declaration names a column of its own table."""
    if meta.ingest is not None:
        for name in meta.ingest.primary_key:
            yield "ingest.primary_key", name
        for name in meta.ingest.partition_columns:
            yield "ingest.partition_columns", name
        for key in ("event_time", "cursor"):
            name = getattr(meta.ingest, key)
            if name is not None:
                yield f"ingest.{key}", name
    if meta.feature_view is not None:
        for name in meta.feature_view.entity:
            yield "feature_view.entity", name
        yield "feature_view.timestamp", meta.feature_view.timestamp
    if meta.training_set is not None:
        for key in ("label", "label_known_at", "prediction_time"):
            yield f"training_set.{key}", getattr(meta.training_set, key)
        yield "training_set.split", "split"
    if meta.spine is not None:
        for name in meta.spine.key:
            yield "spine.key", name
        yield "spine.partition_by", meta.spine.partition_by
    if meta.freshness is not None:
        yield "freshness.column", meta.freshness.column


def _bad_names(columns: Sequence[DeclaredColumn], file: str, key: str) -> Iterator[str]:
    """Faults for column names that a raw table cannot have."""
    before: dict[str, str] = {}
    for column in columns:
        name, place = column.name, f"{file}: {key}.columns.{column.name}"
        if not name.strip():
            yield f"{place}: found an empty name, expected the name of a column"
        if folded(name) in RESERVED_NAMES:
            yield f"{place}: found a reserved name, expected none of {', '.join(RESERVED_NAMES)}"
        if folded(name).startswith(RESERVED_PREFIX):
            yield f"{place}: found a reserved name, expected one that does not begin with {RESERVED_PREFIX}"
        if folded(name) in before:
            other = before[folded(name)]
            yield f"{place}: found another column {other!r}, expected names that differ by more than case"
        before[folded(name)] = name


def _unstored_types(columns: Sequence[DeclaredColumn], file: str, key: str) -> Iterator[str]:
    """Faults for columns of types that a stored table cannot have, or whose values it would alter."""
    for column in columns:
        if column.data_type and (unknown := unknown_type(column.data_type)) is not None:
            yield (
                f"{file}: {key}.columns.{column.name}.data_type: found {column.data_type!r}, "
                f"expected a type that the lakehouse has, which {unknown!r} is not"
            )
        if (found := altered_type(column.data_type)) is not None:
            yield (
                f"{file}: {key}.columns.{column.name}.data_type: found {column.data_type!r}, "
                f"expected a type that keeps its values: {ALTERED_TYPES[found]}"
            )


def _null_keys(node: Mapping[str, Any], file: str, key: str, faults: list[str]) -> NullKeys:
    """The config ``null_keys`` of a model, which dbt itself does not validate."""
    config = node.get("config", {})
    found = config.get("null_keys")
    place = f"{file}: {key}.config.null_keys"
    if found not in {None, *get_args(NullKeys)}:
        faults.append(f"{place}: found {found!r}, expected one of {', '.join(get_args(NullKeys))}")
    if found != "match":
        return "reject"
    strategy = config.get("incremental_strategy")
    if config.get("materialized") == "incremental" and strategy not in {"window", "history"}:
        faults.append(
            f"{place}: found match with incremental_strategy {strategy or 'default'}, "
            "expected strategy window or history, or null_keys: reject"
        )
    if _meta(node).get("spine"):
        faults.append(f"{place}: found match on a spine, expected reject: a prediction needs a complete key")
    return "match"


def _table(node: Mapping[str, Any], layer: Layer, faults: list[str]) -> Table | None:
    kind = node["resource_type"]
    is_source = kind == "source"
    file = str(node.get("patch_path") or node["original_file_path"]).split("://")[-1]
    key = f"sources.{node['source_name']}.{node['name']}" if is_source else f"{kind}s.{node['name']}"
    meta = parse_strict(TableMeta, _meta(node), file, f"{key}.config.meta", faults)
    columns = _columns(node, file, key, faults)
    if not node.get("description"):
        faults.append(f"{file}: {key}.description: found nothing, expected a sentence")
    if meta is None:
        return None
    if is_source and meta.ingest is None:
        faults.append(f"{file}: {key}.config.meta.ingest: found nothing, expected a declaration")
    if not is_source and meta.ingest is not None:
        faults.append(f"{file}: {key}.config.meta.ingest: found on a {kind}, expected on a source only")
    for needs, declared, name in (
        ("features", meta.feature_view, "feature_view"),
        ("training", meta.training_set or meta.spine, "training_set"),
    ):
        if kind == "model" and layer == needs and declared is None:
            hint = " (or config.meta.spine)" if needs == "training" else ""
            faults.append(f"{file}: {key}.config.meta.{name}: found nothing, expected a declaration{hint}")
    if layer != "training" and meta.training_set is not None:
        faults.append(f"{file}: {key}.config.meta.training_set: found in {layer}, expected in training only")
    if layer != "training" and meta.spine is not None:
        faults.append(f"{file}: {key}.config.meta.spine: found in {layer}, expected in training only")
    names = {c.name for c in columns}
    if is_source or node.get("config", {}).get("materialized") not in {"view", "ephemeral"}:
        faults.extend(_unstored_types(columns, file, key))
    if is_source:
        faults.extend(_bad_names(columns, file, key))
    faults.extend(
        f"{file}: {key}.config.meta.{where}: found {name!r}, expected one of the table's columns"
        for where, name in _named_columns(meta)
        if name not in names
    )
    table = Table(
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
        null_keys="reject" if is_source else _null_keys(node, file, key, faults),
    )
    faults.extend(_zone_faults(table, key))
    return table


def _zone_faults(table: Table, key: str) -> Iterator[str]:
    """Faults for time zones that are declared where none applies, or missing where one is needed."""
    for column in table.columns:
        kind = canonical(column.data_type)
        if column.timezone is not None and not (table.meta.ingest and kind.startswith("timestamp")):
            yield (
                f"{table.file}: {key}.columns.{column.name}.config.meta.timezone: found "
                f"{column.timezone!r} on a {kind}, expected one only on a timestamp column of a source"
            )
    ingest = table.meta.ingest
    event = table.column(ingest.event_time) if ingest and ingest.event_time else None
    if ingest is None or event is None or ingest.partition is None:
        return
    kind = canonical(event.data_type)
    if kind.startswith("timestamp") and kind != "timestamptz" and table.zone_of(event.name) is None:
        yield (
            f"{table.file}: {key}.config.meta.ingest.timezone: found nothing, expected the time zone that "
            f"the {kind} {event.name!r} is local to (partition days are those of {ingest.partition.timezone})"
        )


def _folder_layer(node: Mapping[str, Any]) -> Layer | None:
    folder = PurePosixPath(node["original_file_path"].replace("\\", "/")).parts[1]
    return next((name for name in LAYERS[1:] if name == folder), None)


def _layer(node: Mapping[str, Any], manifest: Mapping[str, Any], faults: list[str]) -> Layer | None:
    """A model's folder; a seed's earliest user; None for what is no table."""
    file = node["original_file_path"]
    match node["resource_type"]:
        case "model":
            layer = _folder_layer(node)
            if layer is None:
                faults.append(
                    f"{file}: found in folder {PurePosixPath(file).parts[1]!r}, "
                    f"expected models/ and one of {', '.join(LAYERS[1:])}"
                )
            return layer
        case "seed":
            children = (manifest["nodes"].get(u) for u in manifest["child_map"][node["unique_id"]])
            users = [_folder_layer(n) for n in children if n and n["resource_type"] == "model"]
            if not users:
                faults.append(f"{file}: found a seed that no model uses, expected at least one")
            return min((u for u in users if u), key=LAYERS.index, default=None)
        case "snapshot":
            faults.append(f"{file}: found a snapshot, expected a model: the platform builds models and seeds")
    return None


def _exposure(node: Mapping[str, Any], faults: list[str]) -> Exposure | None:
    file, key = node["original_file_path"], f"exposures.{node['name']}"
    meta = parse_strict(ExposureMeta, _meta(node), file, f"{key}.config.meta", faults)
    if not node.get("description"):
        faults.append(f"{file}: {key}.description: found nothing, expected a sentence")
    if meta is None:
        return None
    return Exposure(
        unique_id=node["unique_id"],
        name=node["name"],
        kind=node["type"],
        description=node.get("description", ""),
        file=file,
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
        layer = _layer(node, manifest, faults)
        table = _table(node, layer, faults) if layer is not None else None
        if table is not None:
            tables[table.unique_id] = table
    found = (_exposure(node, faults) for node in manifest.get("exposures", {}).values())
    declarations = Declarations(tables, {e.name: e for e in found if e is not None})
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
