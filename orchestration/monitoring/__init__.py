"""Watching models that serve: have their inputs changed, are they as good as when they were chosen?

What belongs here: drift, performance (estimated and realised), bias and skew of declared models, from the
tables ``predictions.<model>`` and ``outcomes.<model>`` and from what a model's manifest says of the time it
was made. What does not: making predictions, and what follows from what is found (triggers read the tables
``monitoring.drift``, ``performance``, ``bias`` and ``skew``).
"""
