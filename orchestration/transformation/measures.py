"""Floating-point measures of ``rolling_sums``, found before anything runs.

The macro itself fails on such a measure; this check runs it when definitions load, over empty tables of the
declared types. A model that cannot be compiled without its tables is left to the macro.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from orchestration.declarations import DeclarationError, Declarations, Table
from orchestration.lakehouse import LAKE, Attachment
from orchestration.settings import Settings
from orchestration.sql import identifier
from orchestration.transformation.compilation import compile_models
from orchestration.transformation.environment import dbt_environment
from orchestration.transformation.manifest import DbtParseError, cache_file
from orchestration.transformation.records import target_dir

_MACRO = "rolling_sums"
_CTE, _END = "exact_measures", "/* exact_measures ends */"
_FAULT = re.compile(rf"^Invalid Input Error: (.*{_MACRO}\.measures\..*)$", re.DOTALL)


def check_measures(
    settings: Settings,
    manifest: Mapping[str, Any],
    declarations: Declarations,
    landing_columns: Mapping[str, str],
) -> None:
    """Check the types of all measures, once per content of the project.

    Args:
        settings: Where the project is.
        manifest: What ``load_manifest`` gave.
        declarations: What it declares.
        landing_columns: The types of columns that raw tables have and no YAML declares, by name.

    Raises:
        DeclarationError: A measure is a floating-point number; the message names all of them.
    """
    passed = cache_file(settings, "measures")
    models = _models(manifest)
    if not models or passed.is_file():
        return
    with target_dir(settings) as folder:
        # A separate lakehouse: loading definitions neither needs nor creates the real one.
        scratch = settings.under(folder)
        Attachment(scratch).extension_dir()
        variables = {"training_cutoff": "2000-01-01T00:00:00+00:00"}
        try:
            compiled = compile_models(settings, manifest, models, variables, dbt_environment(scratch))
        except DbtParseError:
            return
    faults = list(_faults(declarations, landing_columns, [*compiled.values()]))
    if faults:
        raise DeclarationError(faults)
    passed.touch()


def _models(manifest: Mapping[str, Any]) -> list[str]:
    """Models that call the macro, directly or through other macros."""
    macros = manifest["macros"]

    def calls(names: Sequence[str], seen: set[str]) -> bool:
        for name in names:
            if name in macros and name not in seen:
                seen.add(name)
                if macros[name]["name"] == _MACRO or calls(macros[name]["depends_on"]["macros"], seen):
                    return True
        return False

    return [
        unique_id
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model" and calls(node["depends_on"]["macros"], set())
    ]


def _faults(
    declarations: Declarations, landing_columns: Mapping[str, str], texts: Sequence[str]
) -> Iterator[str]:
    with duckdb.connect() as con:
        con.execute(f"set timezone = 'UTC'; attach ':memory:' as {LAKE}; use {LAKE}")
        for table in declarations.tables.values():
            _create(con, table, landing_columns if table.meta.ingest is not None else {})
        for text in texts:
            for end in re.finditer(re.escape(_END), text):
                try:
                    con.execute(f"{text[: end.start()]} select * from {_CTE}").fetchall()
                except duckdb.Error as error:
                    if found := _FAULT.match(str(error)):
                        yield found[1]


def _create(con: duckdb.DuckDBPyConnection, table: Table, more: Mapping[str, str]) -> None:
    columns = {c.name: c.data_type for c in table.columns} | dict(more)
    body = ", ".join(f"{identifier(name)} {data_type}" for name, data_type in columns.items())
    address = f"{LAKE}.{identifier(table.schema)}"
    con.execute(f"create schema if not exists {address}")
    try:
        con.execute(f"create table {address}.{identifier(table.name)} ({body})")
    except duckdb.Error:  # A type of an extension: models that read the table are left to the macro.
        return
