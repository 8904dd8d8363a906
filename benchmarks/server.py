"""The feature server under load from another process (wrk), against a bare handler and ``feast serve``.

Every server is one worker process on loopback, and gets the same requests: one entity, 10 features, over
connections that are kept open. The bare handler is ASGI under the same uvicorn; it parses the request's JSON,
reads the packed row from LMDB, unpacks it, and gives a list of values: no names, statuses, timestamps, ttl,
rights, limits, metrics or log. Ours does all of that.
"""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import lmdb
import orjson
import uvicorn

from benchmarks.buyers import FEATURES, NOW, VIEW, current_generation, fill, open_lakehouse
from benchmarks.feast_side import feast_serve
from benchmarks.report import MissingError, Row
from benchmarks.served import make_app
from benchmarks.timing import free_port
from orchestration.feature_store.online.encoding import Layout
from orchestration.feature_store.online.lmdb_store import MAP_BYTES, MAX_READERS, LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.server import FeatureServer, serve
from orchestration.feature_store.views import Catalog
from orchestration.settings import Clock, Settings

ENTITIES = 100_000
SECONDS = 5
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_PATH = "/get-online-features"


def _ours(folder: Path) -> FeatureServer:
    (folder / "counters").unlink(missing_ok=True)
    catalog = Catalog({VIEW.name: VIEW})
    return make_app(folder, catalog, OnlineReader(catalog, LmdbStore(folder / "store"), Clock(NOW)), NOW)


def _bare(folder: Path) -> Any:
    env = lmdb.open(
        str(current_generation(folder / "store")), map_size=MAP_BYTES, max_readers=MAX_READERS, readonly=True
    )
    head = Layout(VIEW).head

    async def answer(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        key = b"=" + orjson.loads(body)["entities"]["buyer"][0].encode() if body else b"none"
        with env.begin() as txn:
            value = txn.get(key)
        found = None
        if value is not None:
            _, _, _, *found = head.unpack_from(value)
            found[-1] = value[head.size :].decode()
        answered = orjson.dumps({"values": found})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answered)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answered})

    return answer


def _serve_bare(folder: Path, port: int) -> None:
    config = uvicorn.Config(
        _bare(folder),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    uvicorn.Server(config).run()


@contextmanager
def _running(process: "subprocess.Popen[bytes]", port: int, log: Path, body: str) -> Iterator[str]:
    """The address of a server, once it answers a request; the server is gone at the end."""
    url = f"http://127.0.0.1:{port}{_PATH}"
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answered:
                    answer = answered.read()
                break
            except urllib.error.HTTPError as error:
                raise RuntimeError(f"{url}: found {error.code} {error.read()[:500]!r}") from error
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the server did not come up:\n{tail}") from error
                time.sleep(0.1)
        if b"segment" not in answer:
            raise RuntimeError(f"{url}: found {answer[:500]!r}, expected the entity's values")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _script(folder: Path, entities: Sequence[str]) -> tuple[Path, str]:
    """A script for wrk that asks for these entities in turn, and the first of its requests."""
    wanted = [f"{VIEW.name}:{name}" for name in FEATURES]
    bodies = [json.dumps({"features": wanted, "entities": {"buyer": [entity]}}) for entity in entities]
    path = folder / "requests.lua"
    listed = ",\n".join(f"[==[{body}]==]" for body in bodies)
    path.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f"local bodies = {{{listed}}}\nlocal n = 0\n"
        "request = function()\n  n = n % #bodies + 1\n  return wrk.format(nil, nil, nil, bodies[n])\nend\n"
    )
    return path, bodies[0]


class Load:
    """What wrk measured: requests a second, and the 99th in a hundred of latencies in milliseconds."""

    def __init__(self, told: str) -> None:
        if re.search(r"Non-2xx|Socket errors", told):
            raise RuntimeError(f"wrk: found errors, expected none:\n{told}")
        rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
        late = re.search(r"\s99%\s+([\d.]+)(us|ms|s)", told)
        if rate is None or late is None:
            raise RuntimeError(f"wrk: found no rates:\n{told}")
        self.rate = float(rate[1])
        self.p99 = float(late[1]) * _UNITS[late[2]]


def _load(url: str, script: Path, connections: int, seconds: int = SECONDS) -> Load:
    threads = min(2, connections)
    command = [
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"wrk exited with {done.returncode}: {done.stderr}{done.stdout}")
    return Load(done.stdout)


def check_wrk() -> None:
    """Raise unless wrk is installed.

    Raises:
        MissingError: It is not.
    """
    if shutil.which("wrk") is None:
        raise MissingError("found no wrk, expected one on the path (Debian, Homebrew: package wrk)")


def _start(side: str, folder: Path, port: int, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "benchmarks.server", side, str(folder), str(port)]
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


def against_bare(folder: Path, entities: Sequence[str], repeats: int) -> tuple[list[Row], float]:
    """Ours against the bare handler, in turn; gives our requests a second too.

    Args:
        folder: Has ``store``, an online store of the view, in LMDB.
        entities: Whom to ask for.
        repeats: How often each side is put under load; the median counts.
    """
    check_wrk()
    script, body = _script(folder, entities)
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    single: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(repeats):
        for side, found in rates.items():
            port, log = free_port(), folder / f"{side}.log"
            with _running(_start(side, folder, port, log), port, log, body) as url:
                _load(url, script, 8, 1)
                found.append(_load(url, script, 8).rate)
                single[side].append(_load(url, script, 1).p99)
    ours, bare = median(rates["ours"]), median(rates["bare"])
    rows = [
        Row(
            "server, 8 connections, 1 entity x 10 features",
            f"{ours:,.0f} requests/s",
            f"{bare:,.0f} requests/s: bare ASGI + LMDB",
            ours / bare, 0.5, at_least=True,
        ),
        Row(
            "server, single reads with keep-alive",
            f"p99 {median(single['ours']):.2f} ms",
            f"1 ms (bare ASGI + LMDB: p99 {median(single['bare']):.2f} ms)",
            median(single["ours"]), 1.0, "x 1 ms",
        ),
    ]  # fmt: skip
    return rows, ours


def against_feast(folder: Path, repository: Path, kind: str, entities: Sequence[str], ours: float) -> Row:
    """``feast serve`` over a store that is materialized, against our requests a second."""
    check_wrk()
    script, body = _script(folder, entities)
    port, log = free_port(), folder / "feast-serve.log"
    with _running(feast_serve(repository, port, log), port, log, body) as url:
        _load(url, script, 8, 1)
        theirs = _load(url, script, 8)
    return Row(
        "server, 8 connections, 1 entity x 10 features",
        f"{ours:,.0f} requests/s",
        f"{theirs.rate:,.0f} requests/s: feast serve, {kind}",
        ours / theirs.rate, 10.0, at_least=True,
    )  # fmt: skip


def run(place: Path, *, repeats: int) -> list[Row]:
    """Ours against the bare handler.

    Raises:
        MissingError: There is no wrk.
    """
    check_wrk()
    folder = place / "server"
    lakehouse = open_lakehouse(folder)
    fill(lakehouse, ENTITIES)
    materialize(lakehouse, LmdbStore(folder / "store"), VIEW, NOW)
    with lakehouse.reader() as con:
        found = con.execute(f"select distinct buyer from {VIEW.schema}.{VIEW.table} limit 500").fetchall()
    return against_bare(folder, [str(buyer) for (buyer,) in found], 3 * repeats)[0]


if __name__ == "__main__":
    which, place, listen = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if which == "ours":
        serve(Settings(data_dir=place, server_port=listen), partial(_ours, place))
    else:
        _serve_bare(place, listen)
