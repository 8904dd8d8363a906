"""The point-in-time join outside dbt: the macro that dbt's training sets call, rendered from the same file.

What belongs here: from views to the macro's arguments, and its SQL. What does not: running it
(``offline``), or anything of how the join works, which is the macro's alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestration.declarations import DeclaredColumn, OnDemandFeature
from orchestration.feature_store.views import Role
from orchestration.lakehouse import LAKE
from orchestration.sql import identifier, literal

MACRO = Path("macros", "groundwork", "point_in_time_join.sql")


def view_argument(
    role: Role,
    features: Sequence[DeclaredColumn],
    spine_columns: Sequence[str],
    *,
    as_of: datetime | None = None,
) -> dict[str, Any]:
    """A view in a role, as the macro takes it.

    Args:
        role: The view and the name of its columns in the join, ``<role>__<feature>``.
        features: What is wanted of it.
        spine_columns: SQL names of the spine's columns, one for each key of the view, in order.
        as_of: Leave out what was not known by then.
    """
    view = role.view
    relation = ".".join(identifier(part) for part in (LAKE, view.schema, view.table))
    timestamp = identifier(view.timestamp)
    if as_of is not None:
        relation = f"(select * from {relation} where {timestamp} <= {literal(as_of)})"
    return {
        "name": role.name,
        "relation": relation,
        "entity": {identifier(key): name for key, name in zip(view.keys, spine_columns, strict=True)},
        "timestamp": timestamp,
        "ttl_seconds": int(view.ttl.total_seconds()),
        "features": {identifier(f"{role.name}__{f.name}"): identifier(f.name) for f in features},
        "order": [identifier(f.name) for f in view.features],
        "null_keys": view.null_keys,
    }


@dataclass(frozen=True)
class PointInTimeSql:
    """The macros of a dbt project's file as functions."""

    dbt_project_dir: Path

    @cached_property
    def _macros(self) -> Any:
        import jinja2  # noqa: PLC0415  # who only serves features need not wait for it

        text = (self.dbt_project_dir / MACRO).read_text(encoding="utf-8")
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
        return environment.from_string(text).module

    def found_rows(
        self, spine: str, prediction_time: str, view: Mapping[str, Any], first: str, last: str
    ) -> str:
        """A select of ``_row``, keys and instant of what one view knew, for the spine's rows with any.

        ``first`` and ``last`` are SQL: the earliest and latest prediction time.
        """
        return str(self._macros.found_rows(spine, prediction_time, view, first, last))

    def fetched_values(self, found: str, view: Mapping[str, Any]) -> str:
        """A select of ``_row`` and values for what was found; several times a row where timestamps tie."""
        return str(self._macros.fetched_values(found, view))

    def fetched_several_times(self, fetched: str) -> str:
        """A select of each ``_row`` that was fetched more than once."""
        return str(self._macros.fetched_several_times(fetched))

    def greatest_values(self, found: str, several: str, view: Mapping[str, Any]) -> str:
        """A select of ``_row`` and values, the greatest of those that tie, for the rows of ``several``."""
        return str(self._macros.greatest_values(found, several, view))

    def with_on_demand(self, joined: str, on_demand: Mapping[str, OnDemandFeature]) -> str:
        """A select that adds on-demand features to a join."""
        arguments = {identifier(name): feature.model_dump() for name, feature in on_demand.items()}
        return str(self._macros.with_on_demand(joined, arguments))
