"""Macros of the shipped project, rendered without dbt."""

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import jinja2

from orchestration.settings import PROJECT_DIR

FOLDER = PROJECT_DIR / "dbt_project" / "macros" / "groundwork"


def load_macros(*names: str, **given: Any) -> Any:
    """The macros of some files, as functions that return text.

    Args:
        names: The files.
        given: Their dbt context, and macros of other files.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.do"], keep_trailing_newline=True
    )
    environment.globals |= {"return": lambda value: value, **given}
    text = "\n".join((FOLDER / name).read_text() for name in names)
    return environment.from_string(text).module


def rolling_sums() -> Callable[..., str]:
    """The macro of that name, for a run without a window."""
    macros = load_macros(
        "rolling_sums.sql",
        "point_in_time_join.sql",
        model=SimpleNamespace(original_file_path="models/features/m.sql"),
        run_window=lambda: None,
        in_run_window=lambda instant: "true",
    )
    found: Callable[..., str] = macros.rolling_sums
    return found


@cache
def _stored_schema() -> Any:
    return load_macros("stored_schema.sql", config={}, model={}, adapter={}, run_query=None, exceptions={})


def is_wider(stored: str, given: str) -> bool:
    """The result of the macro of that name."""

    return str(_stored_schema().is_wider(stored, given)).strip() == "True"
