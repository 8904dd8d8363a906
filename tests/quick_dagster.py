"""Dagster in a test process: its database migrations are read once, not each time a database is opened.

Dagster looks for the newest of them, some eighty Python files, whenever it opens or makes one of its databases:
a tenth of a second of a processor for each instance, and again for each run. Processes that tests start read
them as ever.
"""

from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory


def read_migrations_once() -> None:
    """From now on the migrations of a configuration are read when they are first asked for."""
    read: Any = ScriptDirectory.from_config
    known: dict[tuple[str | None, str | None], ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        which = (config.config_file_name, config.get_main_option("script_location"))
        if which not in known:
            known[which] = read(config)
        return known[which]

    ScriptDirectory.from_config = from_config  # type: ignore[method-assign]
