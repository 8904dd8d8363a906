"""What a process has done before others are forked from it: the platform imported, and what is read once read.

Imported by ``tests.forks``' server and by ``tests.crash_runner``, not by tests.
"""

import gc
from pathlib import Path
from tempfile import TemporaryDirectory

# Imported by a run when it needs them; here they are imported once for all runs.
import dbt.adapters.duckdb
import dbt.cli.main
import matplotlib.backends.backend_agg
import matplotlib.figure
import pyarrow.parquet
import scipy.special
import sklearn.isotonic
import sklearn.linear_model
import soda_core.contracts.contract_verification
import soda_duckdb.common.data_sources.duckdb_data_source

import orchestration.run_command
import orchestration.transformation.invocation
from orchestration.instance import open_instance
from orchestration.learning.algorithms.openmp import import_lightgbm
from orchestration.settings import Settings
from tests.quick_dagster import read_migrations_once
from tests.quick_duckdb import check_extensions_once

PRELOADED = (dbt, matplotlib, orchestration, pyarrow, scipy, sklearn, soda_core, soda_duckdb)

import_lightgbm()
check_extensions_once()
read_migrations_once()
with TemporaryDirectory() as _folder, open_instance(Settings(data_dir=Path(_folder))):
    pass  # for Dagster to read its migrations

# As the command line does for a run.
gc.collect()
gc.freeze()
gc.set_threshold(200_000, 50, 100)
