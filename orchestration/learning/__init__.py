"""Models: declared, trained, compared, promoted, and kept so that any past moment can be asked about.

What belongs here: from a dataset version to a champion. What does not: how features and dataset versions
are made, what a model says in service, or whether it still holds (``orchestration.monitoring``).
LightGBM, scikit-learn and SciPy are imported where they are used: loading definitions needs none of them.
"""
