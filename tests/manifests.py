"""Parts of a dbt manifest, for tests of what is read from one."""

from collections.abc import Mapping
from typing import Any


def model_node(name: str, layer: str, columns: Mapping[str, str], **meta: Any) -> dict[str, Any]:
    return {
        "unique_id": f"model.works.{name}",
        "resource_type": "model",
        "name": name,
        "alias": name,
        "schema": layer,
        "description": "One row.",
        "tags": [],
        "patch_path": f"works://models/{layer}/{name}.yml",
        "original_file_path": f"models/{layer}/{name}.sql",
        "columns": {
            column: {"name": column, "data_type": kind, "description": "It.", "config": {"meta": {}}}
            for column, kind in columns.items()
        },
        "config": {"meta": {"owner": "team:operators", **meta}},
        "depends_on": {"nodes": []},
    }
