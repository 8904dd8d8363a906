"""Programs that tests need and a bare machine lacks: found, or the test is skipped with that reason.

With ``GROUNDWORK_TEST_REQUIRE_SERVICES=1``, as in continuous integration, a missing program is an error.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRE = "GROUNDWORK_TEST_REQUIRE_SERVICES"

PACKAGES = {
    "redis-server": "redis-server",
    "PostgreSQL": "postgresql",
    "chromium": "chromium",
    "openssl": "openssl",
    "git": "git",
    "ps": "procps",
    "wrk": "wrk",
}
"""Debian's package of each program."""

_OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}
_REASON = re.compile(r"^Skipped: no (?P<what>.+?) \(")


class MissingProgramError(RuntimeError):
    """This machine lacks a program, and the environment says that it must not."""


def require(program: str) -> Path:
    """The path of a program of ``PACKAGES``; skips the test that asks for a missing one.

    Raises:
        MissingProgramError: It is missing, and ``GROUNDWORK_TEST_REQUIRE_SERVICES`` is 1.
    """
    package = PACKAGES[program]
    found = _postgres() if program == "PostgreSQL" else _on_path(program, *_OTHER_NAMES.get(program, ()))
    if found is None:
        missing(program, f"package {package}")
    return found


def missing(what: str, how: str) -> NoReturn:
    """Skip the test for want of something, or fail it where nothing may be missing.

    Args:
        what: What is missing, as the line at the end of pytest's output counts it.
        how: How to get it, or what it is for.

    Raises:
        MissingProgramError: ``GROUNDWORK_TEST_REQUIRE_SERVICES`` is 1.
    """
    if os.environ.get(REQUIRE, "0") not in {"", "0"}:
        raise MissingProgramError(f"found no {what} ({how}), expected one: {REQUIRE} is set")
    pytest.skip(f"no {what} ({how})")


def skipped_line(reasons: Iterable[str]) -> str | None:
    """``12 tests skipped: no redis-server (9), PostgreSQL (3)``, or None when nothing was missing."""
    counts = Counter(found["what"] for reason in reasons if (found := _REASON.search(reason)))
    if not counts:
        return None
    total = sum(counts.values())
    most_first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    named = ", ".join(f"{what} ({count})" for what, count in most_first)
    return f"{total} {'test' if total == 1 else 'tests'} skipped: no {named}"


def _on_path(*names: str) -> Path | None:
    return next((Path(found) for name in names if (found := shutil.which(name))), None)


def _postgres() -> Path | None:
    """The newest folder with PostgreSQL's server programs; Debian has them on no path."""
    installed = Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")
    newest = max(installed, key=lambda program: float(program.parent.parent.name), default=None)
    found = newest or _on_path("pg_ctl")
    return found.resolve().parent if found else None
