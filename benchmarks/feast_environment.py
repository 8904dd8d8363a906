"""Feast in an environment of its own: Feast pins what Groundwork has newer."""

from pathlib import Path

from benchmarks.environments import NoPackageIndexError, python_with

VERSION = "0.67.0"

__all__ = ["VERSION", "NoPackageIndexError", "feast_python"]


def feast_python(extras: str = "") -> Path:
    """A Python that has Feast, with extras such as ``[redis]``: an environment for each choice of them.

    Raises:
        NoPackageIndexError: It is not installed yet, and cannot be now.
        RuntimeError: Installing it failed for another reason.
    """
    return python_with([f"feast{extras}=={VERSION}"])
