"""The replay: the platform's clock walks through recorded history, and the loop is seen working.

The platform itself walks, by its own jobs, assets and sensor, beside plain plans of when to train. What
belongs here: what it begins with, the walk, those plans, the report. What does not: anything that runs live.
"""
