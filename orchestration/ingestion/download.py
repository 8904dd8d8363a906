"""Bringing a remote file to the local disk, in pieces of bounded size.

What belongs here: HTTP, and S3's signed HTTP. What does not: what the file holds.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
import urllib3

from orchestration.ingestion.faults import IngestFault
from orchestration.settings import Settings

CHUNK = 1 << 20
_TIMEOUT = (10.0, 60.0)
_EMPTY = hashlib.sha256(b"").hexdigest()


def fetch_http(url: str, label: str, target: Path, headers: dict[str, str] | None = None) -> None:
    """Write the bytes behind a url, exactly as delivered, to ``target``.

    Raises:
        IngestFault: The server has no such file, or refuses it.
        ConnectionError: The network or the server failed, which may pass.
    """
    try:
        _fetch(url, label, target, headers or {})
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        # Their messages quote the url, which may hold a password.
        raise ConnectionError(f"{label}: {type(error).__name__}") from None


def _fetch(url: str, label: str, target: Path, headers: dict[str, str]) -> None:
    # "identity": what is hashed must be the file, not a compression of the transport.
    asked = {"Accept-Encoding": "identity", **headers}
    with requests.get(url, headers=asked, stream=True, timeout=_TIMEOUT) as response:
        if 400 <= response.status_code < 500 and response.status_code not in {408, 425, 429}:
            raise IngestFault(label, f"HTTP status {response.status_code} {response.reason}", "the file")
        if response.status_code >= 300:
            raise ConnectionError(f"{label}: HTTP status {response.status_code} {response.reason}")
        received = 0
        with target.open("wb") as out:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                received += out.write(chunk)
        announced = response.headers.get("Content-Length")
        if announced is not None and int(announced) != received:
            raise ConnectionError(f"{label}: received {received} of {announced} bytes")


def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def s3_request(uri: str, settings: Settings, now: datetime) -> tuple[str, dict[str, str]]:
    """Url and signed headers that read ``s3://bucket/key`` (AWS Signature Version 4).

    Without a key id and secret in the settings the request is anonymous.
    """
    parts = urlsplit(uri, allow_fragments=False)
    bucket, key = parts.netloc, quote(uri.split("://", 1)[1].split("/", 1)[1], safe="/-_.~")
    endpoint = settings.s3_endpoint or f"s3.{settings.s3_region}.amazonaws.com"
    host = endpoint if settings.s3_url_style == "path" else f"{bucket}.{endpoint}"
    path = f"/{bucket}/{key}" if settings.s3_url_style == "path" else f"/{key}"
    url = f"{'https' if settings.s3_use_ssl else 'http'}://{host}{path}"
    if settings.s3_access_key_id is None or settings.s3_secret_access_key is None:
        return url, {}
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
    signed = ";".join(headers)
    canonical = "\n".join(["GET", path, "", *(f"{k}:{v}" for k, v in headers.items()), "", signed, _EMPTY])
    scope = f"{day}/{settings.s3_region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])
    secret = settings.s3_secret_access_key.get_secret_value()
    signature = hmac.new(_signing_key(secret, day, settings.s3_region), text.encode(), hashlib.sha256)
    credential = f"{settings.s3_access_key_id.get_secret_value()}/{scope}"
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature.hexdigest()}"
    )
    return url, headers


def fetch_s3(uri: str, settings: Settings, target: Path) -> None:
    """Write an object of an S3-compatible store to ``target``; raises as ``fetch_http`` does."""
    url, headers = s3_request(uri, settings, datetime.now(UTC))
    fetch_http(url, uri, target, headers)
