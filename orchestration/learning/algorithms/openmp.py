"""LightGBM on a machine without an OpenMP runtime of its own.

LightGBM's wheel for Linux needs the system's ``libgomp.so.1``, which a bare Debian has not. scikit-learn's
wheel brings the same library, under a name that nothing else asks for: here it is lent under the right one.
"""

import ctypes
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

WANTED = "libgomp.so.1"
HINT = f"install it: on Debian and Ubuntu, apt-get install libgomp1; it brings {WANTED}"


class OpenMpError(ImportError):
    """LightGBM cannot be loaded for want of an OpenMP runtime; the message names the package."""


def import_lightgbm() -> ModuleType:
    """LightGBM, with the OpenMP runtime that it needs.

    Raises:
        OpenMpError: There is none.
    """
    if sys.platform == "linux" and "lightgbm" not in sys.modules:
        _load_openmp()
    try:
        import lightgbm  # noqa: PLC0415
    except OSError as fault:
        hint = "brew install libomp" if sys.platform == "darwin" else HINT
        raise OpenMpError(f"LightGBM cannot load the OpenMP runtime: {fault}; {hint}") from fault
    found: ModuleType = lightgbm
    return found


def _load_openmp() -> None:
    try:
        ctypes.CDLL(WANTED)
    except OSError as fault:
        bundled = _bundled()
        if bundled is None:
            raise OpenMpError(f"LightGBM needs the OpenMP runtime ({fault}); {HINT}") from fault
        _load_under_wanted_name(bundled)


def _bundled() -> Path | None:
    """scikit-learn's own libgomp."""
    try:
        files = distribution("scikit-learn").files or []
    except PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.name.startswith("libgomp-")), None)


def _load_under_wanted_name(bundled: Path) -> None:
    """Load a copy in memory that calls itself ``libgomp.so.1``: the loader goes by that name."""
    own = bundled.name.encode() + b"\0"
    content = bundled.read_bytes()
    if content.count(own) != 1 or len(own) <= len(WANTED):
        raise OpenMpError(f"{bundled}: found its name {content.count(own)} times, expected once; {HINT}")
    renamed = content.replace(own, WANTED.encode().ljust(len(own), b"\0"))
    handle = os.memfd_create(WANTED)
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(renamed)
        ctypes.CDLL(f"/proc/self/fd/{handle}", mode=ctypes.RTLD_GLOBAL)
    except OSError as fault:
        raise OpenMpError(f"{bundled}: {fault}; {HINT}") from fault
    finally:
        os.close(handle)
