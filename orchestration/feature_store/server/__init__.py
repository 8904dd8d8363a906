"""The feature server: features over HTTP, in Feast's JSON.

What belongs here: HTTP, keys and rights, limits, metrics, the access log. What does not: what a feature is
(``views``), where its value comes from (``online``), and which parts a deployment is made of.
"""

from orchestration.feature_store.server.access import Access, KeysFault, new_key
from orchestration.feature_store.server.access_log import AccessLog
from orchestration.feature_store.server.app import (
    ROUTES,
    FeatureServer,
    Parts,
    PushFault,
    Reader,
    counted_views,
)
from orchestration.feature_store.server.metrics import Metrics
from orchestration.feature_store.server.predicting import Predictor, Unavailable
from orchestration.feature_store.server.serving import ServingFault, check_exposure, serve
from orchestration.feature_store.server.wire import Answer

__all__ = [
    "ROUTES",
    "Access",
    "AccessLog",
    "Answer",
    "FeatureServer",
    "KeysFault",
    "Metrics",
    "Parts",
    "Predictor",
    "PushFault",
    "Reader",
    "ServingFault",
    "Unavailable",
    "check_exposure",
    "counted_views",
    "new_key",
    "serve",
]
