"""The algorithms by name, and the parameters that a declaration may give each.

What belongs here: what declarations are checked against when definitions load. What does not: the algorithms
(``algorithms``, whose import takes longer).
"""

from collections.abc import Mapping

PARAMETERS: Mapping[str, Mapping[str, type]] = {
    # LightGBM's own names; those that are left out would break what is promised, or do nothing.
    "lightgbm": {
        "learning_rate": float,
        "num_leaves": int,
        "max_depth": int,
        "min_data_in_leaf": int,
        "min_sum_hessian_in_leaf": float,
        "min_gain_to_split": float,
        "feature_fraction": float,
        "feature_fraction_bynode": float,
        "bagging_fraction": float,
        "bagging_freq": int,
        "lambda_l1": float,
        "lambda_l2": float,
        "path_smooth": float,
        "extra_trees": bool,
        "max_bin": int,
        "min_data_per_group": int,
        "max_cat_threshold": int,
        "max_cat_to_onehot": int,
        "cat_l2": float,
        "cat_smooth": float,
    },
    "logistic_regression": {"C": float},
}


def parameter_fault(algorithm: str, name: str, value: object) -> tuple[str, str] | None:
    """What was found and what was expected of a parameter that cannot be used; None when it can."""
    known = PARAMETERS[algorithm]
    kind = known.get(name)
    if kind is None:
        return f"unknown parameter {name!r}", f"one of {', '.join(sorted(known))}"
    fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        return repr(value), kind.__name__
    return None
