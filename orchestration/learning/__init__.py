"""Learning: dataset versions, and the models declared, trained, compared and promoted on them.

What belongs here: from a training set to a champion. What does not: how features are made, what a model
says in service, or whether it still holds (``orchestration.monitoring``). LightGBM, scikit-learn and SciPy
are imported where they are used: loading definitions needs none of them.
"""
