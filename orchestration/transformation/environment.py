"""What dbt is told through environment variables: the values behind ``profiles.yml``.

What belongs here: the variables and how they are set around one invocation. What does not: how the
lakehouse is reached otherwise (``lakehouse.attachment`` decides, this repeats it for dbt).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import duckdb

from orchestration.lakehouse import Attachment
from orchestration.settings import Settings


def dbt_target(settings: Settings) -> str:
    """The output of ``profiles.yml`` that fits the settings: catalog, and ``_s3`` for a bucket."""
    attachment = Attachment(settings)
    catalog = "sqlite" if attachment.is_embedded else "postgres"
    return catalog + ("_s3" if attachment.data_path.startswith("s3://") else "")


@cache
def _default_threads() -> int:
    with duckdb.connect() as con:
        return int(con.execute("select current_setting('threads')").fetchall()[0][0])


def dbt_environment(settings: Settings) -> dict[str, str]:
    """Every variable that ``profiles.yml`` reads; secrets carry the prefix that makes dbt mask them."""
    attachment = Attachment(settings)
    variables = {
        "GROUNDWORK_DBT_TARGET": dbt_target(settings),
        "GROUNDWORK_DBT_MAY_CREATE": "true",
        "GROUNDWORK_DATA_DIR": str(settings.data_dir),
        "GROUNDWORK_LAKE_DATA_PATH": attachment.data_path,
        "GROUNDWORK_DUCKDB_MEMORY_LIMIT": settings.duckdb_memory_limit,
        "GROUNDWORK_DUCKDB_THREADS": str(settings.duckdb_threads or _default_threads()),
        "GROUNDWORK_S3_REGION": settings.s3_region,
        "GROUNDWORK_S3_ENDPOINT": settings.s3_endpoint or "",
        "GROUNDWORK_S3_URL_STYLE": settings.s3_url_style,
        "GROUNDWORK_S3_USE_SSL": str(settings.s3_use_ssl).lower(),
    }
    secrets = {
        "DBT_ENV_SECRET_LAKE_CATALOG_POSTGRES": settings.lake_catalog_postgres,
        "DBT_ENV_SECRET_S3_ACCESS_KEY_ID": settings.s3_access_key_id,
        "DBT_ENV_SECRET_S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key,
    }
    return variables | {name: s.get_secret_value() for name, s in secrets.items() if s is not None}


@contextmanager
def applied(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while; afterwards each is as it was before.

    dbt reads ``os.environ`` when it is invoked; only one invocation runs in a process at a time.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
