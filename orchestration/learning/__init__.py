"""Learning: dataset versions, and the models trained on them.

What belongs here: from a training set to a champion. What does not: how features are made, what a model
says in service, or whether it still holds.
"""
