"""Retraining: when a model is trained again, and the job that does it.

What belongs here: triggers, the policy that holds them back, the log of decisions, sensors and jobs. What
does not: how drift or performance are measured (``orchestration.monitoring``), and how a model is trained,
judged and promoted (``orchestration.learning``).
"""
