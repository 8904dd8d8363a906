"""The same project with a PostgreSQL catalog and an S3 bucket, by settings alone."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from orchestration.settings import Settings
from tests.integration.transformation.tiny_platform import Platform, materializations, with_raw


@pytest.fixture
def bucket() -> Iterator[str]:
    """``host:port`` of an S3 store with a bucket ``lake``."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "s3cret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="lake")
    yield f"{host}:{port}"
    server.stop()


def test_layers_build_on_postgresql_and_s3(
    parsed_once: Platform, postgres_url: str, bucket: str, tmp_path: Path
) -> None:
    platform = with_raw(
        Settings(
            dbt_project_dir=parsed_once.settings.dbt_project_dir,
            data_dir=tmp_path / "data",
            lake_catalog_postgres=postgres_url,
            lake_data_path="s3://lake/files",
            s3_endpoint=bucket,
            s3_url_style="path",
            s3_use_ssl=False,
            s3_access_key_id="key",
            s3_secret_access_key="s3cret",
        )
    )
    result = platform.run()
    assert result.success
    [event] = materializations(result)["staged/stg_readings"]
    assert event.metadata["dagster/row_count"].value == 96
    assert platform.rows("select count(*) from features.sensor_loudness") == [(68,)]
    logs = [p.read_text() for p in (tmp_path / "data" / "dbt" / "runs").rglob("dbt.log")]
    assert logs
    assert not [text for text in logs if postgres_url in text or "s3cret" in text]
    assert any("Concurrency: 1 threads (target='postgres_s3')" in text for text in logs)
