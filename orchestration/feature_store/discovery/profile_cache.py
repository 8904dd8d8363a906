"""Profiles, kept until the table they are of changes.

What belongs here: files under the data folder, one a view. What does not: how a profile is made.
"""

from contextlib import suppress
from pathlib import Path

import duckdb
from pydantic import TypeAdapter, ValidationError

from orchestration.feature_store.discovery.profiles import ViewProfile, profile
from orchestration.feature_store.views import View
from orchestration.lakehouse import last_change
from orchestration.settings import Settings

_FORMAT = 1
_PROFILE = TypeAdapter(ViewProfile)


class ProfileCache:
    """Profiles on disk, shared by all processes; one that cannot be read is made again."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir / "cache" / "profiles"

    def get(self, con: duckdb.DuckDBPyConnection, view: View) -> ViewProfile | None:
        """The profile of a view as its table is now; None while the table is not there."""
        try:
            change = last_change(con, view.schema, view.table)
        except LookupError:
            return None
        classified = sum(2**n for n, column in enumerate(view.features) if column.is_classified)
        path = self._folder / f"{view.name}-{view.schema_hash}-{classified:x}-{change}-{_FORMAT}.json"
        with suppress(OSError, ValidationError):
            return _PROFILE.validate_json(path.read_bytes())
        made = profile(con, view)
        if made is not None:
            self._keep(path, view, made)
        return made

    def _keep(self, path: Path, view: View, made: ViewProfile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        former = [other for other in self._folder.glob(f"{view.name}-*-*-*-*.json") if other != path]
        arriving = path.with_suffix(".part")
        arriving.write_bytes(_PROFILE.dump_json(made))
        arriving.replace(path)
        for other in former:
            other.unlink(missing_ok=True)
