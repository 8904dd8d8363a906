"""The replay: the platform's clock walks through recorded history, and the loop is seen working.

What belongs here: plans of when to train, the walk, its report. It puts rooms together as definitions do,
by the very functions that assets and sensors call. What does not: anything that runs live.
"""
