"""What models predicted and what became of it: ``predictions.<model>`` and ``outcomes.<model>``.

What belongs here: scoring a day's rows by the version that was champion then, keeping predictions, joining
labels to them as they become known. What does not: whether a model still holds
(``orchestration.monitoring``), or answering over HTTP. Importing this package imports no Arrow.
"""

from orchestration.learning.predictions.assets import build_prediction_assets, outcomes_key, predictions_key

__all__ = ["build_prediction_assets", "outcomes_key", "predictions_key"]
