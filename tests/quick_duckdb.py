"""DuckDB in a test process: the signatures of its extensions are checked once, not at each load.

To check one takes a tenth of a second of a processor, and a test opens many lakehouses. The files are
the same for the whole process. Processes that tests start check them as ever.
"""

from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from orchestration.lakehouse.attachment import EXTENSIONS, link_extensions

UNCHECKED: Mapping[str, Any] = {"allow_unsigned_extensions": True}


def check_extensions_once() -> None:
    """Load every extension, signature and all; from then on ``duckdb.connect`` skips that check."""
    connect = duckdb.connect
    with TemporaryDirectory() as folder:
        config = {"extension_directory": str(link_extensions(Path(folder)))}
        with connect(config=config) as con:
            for name in EXTENSIONS:
                con.execute(f"load {name}")

    @wraps(connect)
    def unchecked(*arguments: Any, config: Mapping[str, Any] | None = None, **named: Any) -> Any:
        return connect(*arguments, config={**(config or {}), **UNCHECKED}, **named)

    duckdb.connect = unchecked
