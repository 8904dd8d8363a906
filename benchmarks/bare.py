"""What a team would write without a platform: load the files by hand, run Soda on each contract.

``python -m benchmarks.bare load DATA_DIR FLIGHTS`` and ``python -m benchmarks.bare soda DATA_DIR FOLDER...``.
No hashing, no quarantine, no idempotence, no history: the lower bound the platform is measured against.
"""

import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
import yaml

from benchmarks.generate import SHIPPED
from orchestration.lakehouse import Attachment
from orchestration.settings import PROJECT_DIR, Settings


def connect(data_dir: Path) -> duckdb.DuckDBPyConnection:
    attachment = Attachment(Settings(data_dir=data_dir))
    con = duckdb.connect(config=attachment.config())
    for statement in (*attachment.setup_sql(), attachment.attach_sql(), *attachment.session_sql()):
        con.execute(statement)
    return con


def load(data_dir: Path, flights: str) -> None:
    """Every source table, straight from its file; ``flights`` is a zip file or a glob of CSV files."""
    declared = yaml.safe_load((PROJECT_DIR / "dbt_project/models/raw/sources.yml").read_text())
    with connect(data_dir) as con, tempfile.TemporaryDirectory() as folder:
        con.execute("create schema if not exists lake.raw")
        for table in declared["sources"][0]["tables"]:
            name = table["name"]
            path = flights if name == "flights" else str(SHIPPED / f"{name}.csv")
            if path.endswith(".zip"):
                with zipfile.ZipFile(path) as archive:
                    path = archive.extract(archive.namelist()[0], folder)
            types = {column["name"]: column["data_type"] for column in table["columns"]}
            nulls = table["config"]["meta"]["ingest"].get("null_values", [""])
            con.execute(
                f"create or replace table lake.raw.{name} as select *, ?::varchar as _source_uri, "
                "null::varchar as _source_sha256, null::bigint as _row_number, now() as _ingested_at, "
                "null::varchar as _run_id, null::timestamptz as _late_at "
                f"from read_csv(?, columns = {types}, nullstr = {nulls}, header = true, auto_detect = false)",
                [path, path],
            )


def soda(data_dir: Path, folders: Sequence[Path]) -> None:
    """Every contract in some folders, one after the other, on one connection."""
    # Imported here: loading by hand does not pay for it.
    from soda_core.common.yaml import ContractYamlSource  # noqa: PLC0415
    from soda_core.contracts.contract_verification import ContractVerificationSession  # noqa: PLC0415
    from soda_duckdb.common.data_sources.duckdb_data_source import DuckDBDataSourceImpl  # noqa: PLC0415

    with connect(data_dir) as con:
        source = DuckDBDataSourceImpl.from_existing_cursor(con, name="lake")
        for path in (path for folder in folders for path in sorted(folder.rglob("*.yml"))):
            ContractVerificationSession.execute(
                contract_yaml_sources=[ContractYamlSource.from_file_path(str(path))],
                data_source_impls=[source],
            )


if __name__ == "__main__":
    command, data_dir, *arguments = sys.argv[1:]
    if command == "load":
        load(Path(data_dir), *arguments)
    else:
        soda(Path(data_dir), [Path(argument) for argument in arguments])
