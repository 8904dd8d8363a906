"""How any DuckDB connection, ours or dbt's, reaches the lakehouse: from settings to SQL."""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb

from orchestration.settings import Settings

LAKE = "lake"
EXTENSIONS = ("ducklake", "sqlite_scanner", "postgres_scanner", "httpfs")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@cache
def _platform() -> str:
    """DuckDB's name of what it runs on; asked once a process, as a DuckDB must be opened for it."""
    with duckdb.connect() as con:
        return str(con.execute("pragma platform").fetchall()[0][0])


def link_extensions(folder: Path) -> Path:
    """Link the signed extension binaries of the installed wheels where DuckDB looks for them.

    Args:
        folder: The extension directory to fill; made if missing.

    Raises:
        ModuleNotFoundError: A wheel ``duckdb-extension-<name>`` is not installed.
        FileNotFoundError: A wheel has no binary for the running DuckDB version.
    """
    version = f"v{duckdb.__version__}"
    target = folder / version / _platform()
    target.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"package duckdb-extension-{name.replace('_', '-')} is not installed")
        binary = (
            Path(spec.submodule_search_locations[0]) / "extensions" / version / f"{name}.duckdb_extension"
        )
        if not binary.is_file():
            raise FileNotFoundError(f"{binary}: the wheel of {name} has no binary for DuckDB {version}")
        link = target / binary.name
        if link.is_symlink() and link.resolve() == binary.resolve():
            continue
        staging = link.with_suffix(f".{os.getpid()}")
        staging.unlink(missing_ok=True)
        staging.symlink_to(binary)
        staging.replace(link)
    return folder


@dataclass(frozen=True)
class Attachment:
    """The SQL and settings that open the lakehouse; secrets stay out of its ``repr``."""

    settings: Settings

    @property
    def is_embedded(self) -> bool:
        """True for a SQLite catalog: one writer at a time, one dbt thread."""
        return self.settings.lake_catalog_postgres is None

    @property
    def exists(self) -> bool:
        """Whether there is a lakehouse to look at; looking makes none."""
        return not self.is_embedded or (self.settings.lake_dir / "catalog.sqlite").exists()

    @property
    def data_path(self) -> str:
        """Where Parquet files are: a folder or an ``s3://`` prefix, with a trailing slash."""
        path = self.settings.lake_data_path or str(self.settings.lake_dir / "files")
        return path.rstrip("/") + "/"

    @property
    def path(self) -> str:
        """What follows ``attach``: ``ducklake:sqlite:...`` or ``ducklake:postgres:...``."""
        dsn = self.settings.lake_catalog_postgres
        if dsn is None:
            return f"ducklake:sqlite:{self.settings.lake_dir / 'catalog.sqlite'}"
        return f"ducklake:postgres:{dsn.get_secret_value()}"

    def without_password(self, text: str) -> str:
        """A text that may quote the catalog's address, without it."""
        dsn = self.settings.lake_catalog_postgres
        return text if dsn is None else text.replace(dsn.get_secret_value(), "*****")

    @property
    def options(self) -> Mapping[str, str]:
        """Options of the ``attach`` statement, values unquoted."""
        # DuckLake alters structs in rows that it stores in the catalog; other engines do not see such rows.
        options = {"data_path": self.data_path, "data_inlining_row_limit": "0"}
        if self.is_embedded:
            options |= {"meta_journal_mode": "WAL", "meta_busy_timeout": "30000"}
        return options

    def extension_dir(self) -> Path:
        """The extension directory, linked on first use."""
        return link_extensions(self.settings.data_dir / "duckdb_extensions")

    def config(self) -> dict[str, str | bool | int | float | list[str]]:
        """``config`` of ``duckdb.connect``."""
        self.settings.tmp_dir.mkdir(parents=True, exist_ok=True)
        config: dict[str, str | bool | int | float | list[str]] = {
            "extension_directory": str(self.extension_dir()),
            "temp_directory": str(self.settings.tmp_dir),
            "memory_limit": self.settings.duckdb_memory_limit,
            "autoinstall_known_extensions": False,
            "preserve_insertion_order": False,
            # Files are read once or twice; kept, they would fill the memory that sorts and joins need.
            "enable_external_file_cache": False,
            "python_enable_replacements": False,
        }
        if self.settings.duckdb_threads is not None:
            config["threads"] = self.settings.duckdb_threads
        return config

    def setup_sql(self) -> list[str]:
        """Statements, before the attachment, that load what the lakehouse needs and name its secrets."""
        settings = self.settings
        # For DuckLake's own connection too: it compares instants as texts, so a machine in another zone would
        # keep or remove old files hours off.
        statements = ["set global timezone = 'UTC'", "load ducklake"]
        statements.append("load sqlite_scanner" if self.is_embedded else "load postgres_scanner")
        if self.data_path.startswith("s3://"):
            statements += ["load httpfs", self.s3_secret_sql()]
        else:
            Path(self.data_path).mkdir(parents=True, exist_ok=True)
        if self.is_embedded:
            settings.lake_dir.mkdir(parents=True, exist_ok=True)
        return statements

    def session_sql(self) -> list[str]:
        """Statements for each session, once the lakehouse is attached."""
        return ["set timezone = 'UTC'", f"use {LAKE}"]

    def s3_secret_sql(self) -> str:
        """A DuckDB secret made from the S3 settings; never log it."""
        s = self.settings
        parts = ["type s3", f"region {_quote(s.s3_region)}", f"url_style {_quote(s.s3_url_style)}"]
        parts.append(f"use_ssl {str(s.s3_use_ssl).lower()}")
        if s.s3_endpoint:
            parts.append(f"endpoint {_quote(s.s3_endpoint)}")
        if s.s3_access_key_id and s.s3_secret_access_key:
            parts.append(f"key_id {_quote(s.s3_access_key_id.get_secret_value())}")
            parts.append(f"secret {_quote(s.s3_secret_access_key.get_secret_value())}")
        return f"create or replace secret groundwork_s3 ({', '.join(parts)})"

    def attach_sql(self, *, read_only: bool = False, snapshot: int | None = None) -> str:
        """The ``attach`` statement; never log it, it may hold a password."""
        options = [f"{key} {_quote(value)}" for key, value in self.options.items()]
        if read_only:
            options.append("read_only")
        if snapshot is not None:
            options.append(f"snapshot_version {snapshot}")
        return f"attach {_quote(self.path)} as {LAKE} ({', '.join(options)})"
