"""Finding features: what each one means, who made it, what it looks like and who uses it.

What belongs here: the facts of the catalog, and how a page and a terminal show them. What does not: HTTP
(``server``), and where checks are kept (``quality``).
"""

from orchestration.feature_store.discovery.facts import (
    CheckResult,
    Facts,
    FeatureFacts,
    ServiceFacts,
    ViewFacts,
    gather,
)
from orchestration.feature_store.discovery.page import content_security_policy, render
from orchestration.feature_store.discovery.profile_cache import ProfileCache
from orchestration.feature_store.discovery.profiles import ViewProfile, profile

__all__ = [
    "CheckResult",
    "Facts",
    "FeatureFacts",
    "ProfileCache",
    "ServiceFacts",
    "ViewFacts",
    "ViewProfile",
    "content_security_policy",
    "gather",
    "profile",
    "render",
]
