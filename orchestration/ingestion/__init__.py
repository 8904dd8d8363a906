"""Ingestion: declared sources become raw tables.

What belongs here: finding, reading, checking and landing deliveries; the assets and sensors that do
it. What does not: what the rows mean (that starts in the staged layer).
"""

from orchestration.ingestion.assets import build_raw_assets
from orchestration.ingestion.landing_sensors import build_landing_sensors, unwatched_assets

__all__ = ["build_landing_sensors", "build_raw_assets", "unwatched_assets"]
