"""What dbt's models, seeds and tests are to Dagster: asset specs and check specs, from the manifest.

What belongs here: the pure translation, the same as dagster-dbt's own (a test compares them) but
without importing dbt, which would cost every process that loads the definitions two seconds. What
does not: running anything.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.asset_specs import asset_key, spec_attributes
from orchestration.declarations import DeclarationError, Declarations, Table
from orchestration.partitions import partitions_def
from orchestration.settings import Clock, Settings

UNIQUE_ID = "dagster_dbt/unique_id"
"""Metadata key under which dagster-dbt looks for a spec's dbt node."""

Manifest = Mapping[str, Any]


def is_asset(manifest: Manifest, unique_id: str) -> bool:
    """Whether a node is a table or view of its own: not so an ephemeral model."""
    node = manifest["nodes"].get(unique_id)
    return node is None or node["config"].get("materialized") != "ephemeral"


def parents(manifest: Manifest, declarations: Declarations, unique_id: str) -> list[Table]:
    """The tables a table is built from, looking through ephemeral models; in key order."""
    found: dict[str, Table] = {}
    todo = list(declarations.tables[unique_id].upstream)
    while todo:
        parent = todo.pop()
        if parent not in declarations.tables:
            continue
        if is_asset(manifest, parent):
            found[parent] = declarations.tables[parent]
        else:
            todo.extend(declarations.tables[parent].upstream)
    return sorted(found.values(), key=lambda t: t.asset_path)


def code_version(manifest: Manifest, unique_id: str) -> str:
    """A hash of a node's own code: its SQL or data, its config and the project's macros it names."""
    node = manifest["nodes"][unique_id]
    package = node["package_name"]
    macros = (manifest["macros"][m] for m in sorted(node.get("depends_on", {}).get("macros", ())))
    config = {k: v for k, v in node["config"].items() if k not in ("meta", "docs", "tags", "group")}
    facts = [
        node["checksum"]["checksum"],
        node.get("raw_code", ""),
        json.dumps(config, sort_keys=True, default=str),
        *(m["macro_sql"] for m in macros if m["package_name"] == package),
    ]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


def _code_references(manifest: Manifest, table: Table, settings: Settings) -> dg.CodeReferencesMetadataValue:
    node = manifest["nodes"][table.unique_id]
    files = dict.fromkeys([node["original_file_path"], table.file])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # code references have been beta for years
        return dg.CodeReferencesMetadataValue(
            code_references=[
                dg.LocalFileCodeReference(
                    file_path=str(settings.dbt_project_dir / file), label=Path(file).name
                )
                for file in files
            ]
        )


def asset_spec(
    manifest: Manifest, declarations: Declarations, table: Table, settings: Settings, clock: Clock
) -> dg.AssetSpec:
    """The asset of one model or seed."""
    attributes = spec_attributes(table)
    attributes["metadata"] |= {
        UNIQUE_ID: table.unique_id,
        "dagster/code_references": _code_references(manifest, table, settings),
    }
    return dg.AssetSpec(
        key=asset_key(table),
        deps=[asset_key(parent) for parent in parents(manifest, declarations, table.unique_id)],
        code_version=code_version(manifest, table.unique_id),
        partitions_def=partitions_def(declarations.partition(table.unique_id), clock),
        skippable=True,
        **attributes,
    )


def _tested_node(manifest: Manifest, test: Mapping[str, Any]) -> str | None:
    """The node a test belongs to, as dagster-dbt finds it: declared, attached, or the only one."""
    ref = ((test["config"].get("meta") or {}).get("dagster") or {}).get("ref")
    if ref:
        named = (n for n in manifest["nodes"].values() if n["name"] == ref["name"])
        return next((n["unique_id"] for n in named if n["resource_type"] != "test"), None)
    depends_on = set(test["depends_on"]["nodes"])
    return depends_on.pop() if len(depends_on) == 1 else test.get("attached_node")


def check_specs(
    manifest: Manifest, declarations: Declarations, tables: Iterable[Table]
) -> list[dg.AssetCheckSpec]:
    """The dbt data tests of some tables; one that belongs to no table would never run, so it raises.

    Raises:
        DeclarationError: A test belongs to no model or seed.
    """
    wanted = {t.unique_id: t for t in tables}
    specs, faults = [], []
    for test in manifest["nodes"].values():
        if test["resource_type"] != "test":
            continue
        owner = _tested_node(manifest, test)
        if owner is None or owner not in manifest["nodes"] or not is_asset(manifest, owner):
            faults.append(
                f"{test['original_file_path']}: {test['name']}: found a test of {owner or 'several tables'}, "
                "expected a test of one model or seed, or config.meta.dagster.ref.name to say which"
            )
        elif owner in wanted:
            specs.append(_check_spec(manifest, declarations, test, wanted[owner]))
    if faults:
        raise DeclarationError(faults)
    return sorted(specs, key=lambda s: (s.asset_key, s.name))


def _check_spec(
    manifest: Manifest, declarations: Declarations, test: Mapping[str, Any], table: Table
) -> dg.AssetCheckSpec:
    others = {
        asset_key(declarations.tables[parent])
        for parent in test["depends_on"]["nodes"]
        if parent in declarations.tables and is_asset(manifest, parent)
    } - {asset_key(table)}
    return dg.AssetCheckSpec(
        name=test["name"],
        asset=asset_key(table),
        description=test.get("description") or f"dbt test declared in {test['original_file_path']}",
        additional_deps=sorted(others),
        metadata={UNIQUE_ID: test["unique_id"], "declared_in": test["original_file_path"]},
        blocking=(test["config"].get("severity") or "error").lower() == "error",
    )
