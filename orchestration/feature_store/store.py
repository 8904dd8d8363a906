"""``FeatureStore``: the one class through which Python reads features.

What belongs here: opening the project and handing on to what does the work. What does not: the work.
"""

from collections.abc import Sequence
from functools import cached_property

from orchestration.feature_store.online.opening import open_online_store
from orchestration.feature_store.online.reading import EntityRows, OnlineReader, OnlineResponse
from orchestration.feature_store.views import Catalog, build_catalog
from orchestration.project import Project, read_project
from orchestration.settings import Settings


class FeatureStore:
    """The features of a project."""

    def __init__(self, project: Project) -> None:
        self.project = project

    @classmethod
    def open(cls, settings: Settings | None = None) -> "FeatureStore":
        """The feature store of the project that the settings, or else the environment's, name."""
        return cls(read_project(settings or Settings()))

    @cached_property
    def catalog(self) -> Catalog:
        """Every declared view and service."""
        return build_catalog(self.project.declarations)

    @cached_property
    def online(self) -> OnlineReader:
        """What reads the online store."""
        return OnlineReader(self.catalog, open_online_store(self.project.settings), self.project.clock)

    def get_online_features(
        self, features: Sequence[str] | str, entity_rows: EntityRows, *, full_feature_names: bool = False
    ) -> OnlineResponse:
        """The latest values of features for entities; see ``OnlineReader``."""
        return self.online.get_online_features(features, entity_rows, full_feature_names=full_feature_names)

    async def get_online_features_async(
        self, features: Sequence[str] | str, entity_rows: EntityRows, *, full_feature_names: bool = False
    ) -> OnlineResponse:
        """``get_online_features`` for an event loop."""
        return await self.online.get_online_features_async(
            features, entity_rows, full_feature_names=full_feature_names
        )
