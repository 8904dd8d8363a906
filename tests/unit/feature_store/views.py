"""Feature views that tests make up."""

from datetime import timedelta

from orchestration.declarations import DeclaredColumn
from orchestration.feature_store.online.values import typed_list
from orchestration.feature_store.views import View


def make_view(
    features,
    entity=None,
    *,
    name="readings",
    timestamp="known_at",
    ttl=timedelta(hours=6),
    null_keys="reject",
):
    """A view of ``{feature: type}`` for an entity of ``{key: type}``."""

    def columns(types):
        return tuple(DeclaredColumn(n, t, f"The {n}.", "internal") for n, t in types.items())

    return View(
        name=name,
        schema="features",
        table=name,
        entity=columns(entity or {"pump": "varchar"}),
        timestamp=timestamp,
        ttl=ttl,
        online=True,
        features=columns(features),
        description="A view.",
        owner="team:tests",
        null_keys=null_keys,
    )


def typed_literal(value, data_type):
    """A value as SQL of a type."""
    return f"{typed_list([value], data_type)}[1]"
