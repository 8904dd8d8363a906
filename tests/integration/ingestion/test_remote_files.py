"""Files behind HTTP and in an S3-compatible store, on servers on loopback."""

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from orchestration.ingestion.faults import IngestFault
from tests.integration.ingestion.landing_ground import Ground

COLUMNS = {"id": "integer", "name": "varchar"}
CSV = b"id,name\n1,a\n2,b\n"


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; paths that start with /cut break off, those with /busy refuse."""

    def do_GET(self) -> None:
        if self.path.startswith("/busy"):
            self.send_error(503)
        elif self.path.startswith("/cut"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CSV) + 10))
            self.end_headers()
            self.wfile.write(CSV)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_behind_http_lands_and_lands_again_when_it_changes(ground: Ground, web: str) -> None:
    ground.put("web/x.csv.gz", gzip.compress(CSV))
    table = ground.csv(COLUMNS, uri=f"{web}/x.csv.gz?token=hunter2")
    ground.land(table)
    assert ground.rows("id, name") == [(1, "a"), (2, "b")]
    assert ground.land(table).landings == []
    ground.put("web/x.csv.gz", gzip.compress(CSV + b"3,c\n"))
    assert ground.land(table).total("rows") == 1
    assert ground.ask("select distinct _source_uri from raw.readings") == [(f"{web}/x.csv.gz?token=***",)]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("missing.csv", IngestFault, "HTTP status 404"),
        ("busy.csv", ConnectionError, "HTTP status 503"),
        ("cut.csv", ConnectionError, r"cut\.csv"),
    ],
)
def test_a_server_that_does_not_deliver_fails_without_showing_the_password(
    ground: Ground, web: str, path: str, error: type[Exception], message: str
) -> None:
    address = web.replace("http://", "http://joe:hunter2@")
    with pytest.raises(error, match=message) as caught:
        ground.land(ground.csv(COLUMNS, uri=f"{address}/{path}"))
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_connection_error(ground: Ground) -> None:
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9/x\.csv") as caught:
        ground.land(ground.csv(COLUMNS, uri="http://joe:hunter2@127.0.0.1:9/x.csv"))
    assert "hunter2" not in str(caught.value)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


def on_s3(ground: Ground, store: str) -> object:
    ground.use(
        s3_endpoint=store, s3_url_style="path", s3_use_ssl=False, s3_access_key_id="key",
        s3_secret_access_key="hunter2",
    )  # fmt: skip
    client = boto3.client(
        "s3", endpoint_url=f"http://{store}", aws_access_key_id="key", aws_secret_access_key="hunter2",
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")
    return client


def test_objects_of_an_s3_store_land_one_by_one_and_by_prefix(ground: Ground, store: str) -> None:
    client = on_s3(ground, store)
    client.put_object(Bucket="bucket", Key="in/a b+1.csv", Body=CSV)  # type: ignore[attr-defined]
    client.put_object(Bucket="bucket", Key="in/c.csv", Body=b"id,name\n3,c\n")  # type: ignore[attr-defined]
    ground.land(ground.csv(COLUMNS, uri="s3://bucket/in/a b+1.csv"))
    assert ground.rows("id, _source_uri") == [
        (1, "s3://bucket/in/a b+1.csv"),
        (2, "s3://bucket/in/a b+1.csv"),
    ]
    ground.land(ground.csv(COLUMNS, uri="s3://bucket/in/"))
    assert ground.rows("id") == [(1,), (2,), (3,)]
    assert ground.land(ground.csv(COLUMNS, uri="s3://bucket/in/*.csv")).landings == []
    with pytest.raises(IngestFault, match="HTTP status 404"):
        ground.land(ground.csv(COLUMNS, uri="s3://bucket/in/none.csv"))
    with pytest.raises(IngestFault, match="with no file"):
        ground.land(ground.csv(COLUMNS, uri="s3://bucket/elsewhere/"))
