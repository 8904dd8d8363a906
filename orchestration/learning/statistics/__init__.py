"""How good a model is and whether another is better, with how sure that is.

What belongs here: numbers from labels and scores. What does not: what follows from them (``gate``). In
every function ``labels`` are 0 or 1, ``scores`` probabilities of 1, and ``days`` whole numbers that are
equal for rows of one day: rows of a day share their weather, so that days, not rows, are drawn.
"""
