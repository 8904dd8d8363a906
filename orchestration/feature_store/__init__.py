"""The feature store: every declared feature, as training reads it and as serving reads it.

What belongs here: what a feature view and a feature service are, point-in-time joins, the online store
and the feature server. What does not: computing a feature (``dbt_project``) or declaring one
(``declarations``).
"""
