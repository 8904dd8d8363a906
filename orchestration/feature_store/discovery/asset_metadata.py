"""The catalog's facts as metadata of assets, for Dagster's UI.

What belongs here: facts as metadata values. What does not: the facts, and how the catalog's page shows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import dagster as dg

from orchestration.declarations import Declarations
from orchestration.feature_store.discovery import drawing
from orchestration.feature_store.discovery.facts import ViewFacts, gather
from orchestration.feature_store.discovery.profiles import BINS, Bar, ViewProfile
from orchestration.feature_store.views import Catalog, View
from orchestration.settings import Clock, Settings

Metadata = Mapping[str, dg.MetadataValue]


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; what a cell holds is taken as text."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(headings), line(("---",) * len(headings)), *map(line, rows)])


def catalog_url(settings: Settings) -> str:
    """Where the feature server shows the catalog."""
    scheme = "http" if settings.server_tls_certificate is None else "https"
    return f"{scheme}://{settings.server_host}:{settings.server_port}/catalog"


def declared_metadata(
    catalog: Catalog, declarations: Declarations, settings: Settings, clock: Clock
) -> dict[str, Metadata]:
    """What is declared of each view, by its name: nothing of it needs the lakehouse."""
    facts = gather(catalog, declarations, {}, {}, clock.now(), settings.dagster_ui_url)
    return {view.name: _declared(view, catalog_url(settings)) for view in facts.views}


def _declared(view: ViewFacts, url: str) -> Metadata:
    rows = [
        (f"`{f.name}`", f.data_type, f.description, ", ".join(f.used_by) or drawing.NOTHING)
        for f in view.features
    ]
    return {
        "features": dg.MetadataValue.md(_table(("feature", "type", "meaning", "used by"), rows)),
        "entity": dg.MetadataValue.text(", ".join(f"{key.name} ({key.data_type})" for key in view.entity)),
        "ttl": dg.MetadataValue.text(view.ttl),
        "version": dg.MetadataValue.text(view.schema_hash),
        "used_by": dg.MetadataValue.text(", ".join(view.used_by) or "nothing declared yet"),
        "feature_catalog": dg.MetadataValue.url(f"{url}#{view.name}"),
    }


def _pairs(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    """Half as many bars, where there are many: the UI's column is narrow."""
    if len(bars) < BINS:
        return tuple(bars)
    return tuple(Bar(a.label, a.share + b.share) for a, b in zip(bars[::2], bars[1::2], strict=False))


def stored_metadata(view: View, found: ViewProfile, clock: Clock) -> Metadata:
    """What the newest rows of a view hold."""
    rows = []
    for feature in view.features:
        profile = found.features[feature.name]
        line = drawing.sparkline(replace(profile, bars=_pairs(profile.bars)))
        told = (line, drawing.share(profile.null_share), drawing.in_a_sentence(profile))
        rows.append((f"`{feature.name}`", *told))
    table = _table(("feature", "distribution", "nulls", "values"), rows)
    metadata: dict[str, dg.MetadataValue] = {"values_of_newest_rows": dg.MetadataValue.md(table)}
    if found.newest is not None:
        age = (clock.now() - found.newest).total_seconds()
        metadata["newest_row"] = dg.MetadataValue.timestamp(found.newest)
        metadata["freshness"] = dg.MetadataValue.text(f"newest row {drawing.age(age)}")
    return metadata
