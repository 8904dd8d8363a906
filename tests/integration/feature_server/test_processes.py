"""Real server processes: several workers, a graceful end, TLS."""

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration.feature_server.processes import running
from tests.programs import require

SHOP = ("-m", "tests.integration.feature_server.shop_process")


def shop(folder, *, workers=1, delay=0.0, certificate=None, **environment):
    command = [*SHOP, str(folder), str(workers), str(delay)]
    return running(command, folder, environment, certificate=certificate)


def workers_of(server):
    children = subprocess.run(
        [str(require("ps")), "-ww", "-o", "pid=,args=", "--ppid", str(server.process.pid)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [int(line.split()[0]) for line in children if "spawn_main" in line]


def test_requests_under_way_are_answered_before_the_server_stops(tmp_path):
    with shop(tmp_path, delay=1.0) as server, ThreadPoolExecutor() as pool:
        asked = pool.submit(server.ask, ["buyers:orders"], {"buyer": [1]})
        time.sleep(0.5)
        assert server.stop() == 0
        assert asked.result().json()["results"][1]["values"] == [7]
        with pytest.raises(requests.ConnectionError):
            server.ask(["buyers:orders"], {"buyer": [1]})
    assert [json.loads(line)["status"] for line in (tmp_path / "access.jsonl").read_text().splitlines()][
        -1
    ] == 200


def test_workers_share_the_port_and_the_counters_and_a_killed_one_is_replaced(tmp_path):
    with shop(tmp_path, workers=2) as server:

        def count():
            text = requests.get(f"{server.address}/metrics", timeout=5).text
            found = [line for line in text.splitlines() if 'features",status="200"' in line]
            return int(found[0].split()[-1]) if found else 0

        def ask(_):
            # A connection of its own each time: any worker may take it.
            body = {"features": ["buyers:orders"], "entities": {"buyer": [1]}}
            return requests.post(f"{server.address}/get-online-features", json=body, timeout=30).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(ask, range(40))) == {200}
        assert {count() for _ in range(10)} == {40}
        before = workers_of(server)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 30
        while (len(now := workers_of(server)) < 2 or now == before) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert before[0] not in now
        assert ask(0) == 200
        assert count() == 41
        assert server.stop() == 0


def test_with_a_certificate_it_speaks_tls_only(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [str(require("openssl")), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    variables = {
        "GROUNDWORK_SERVER_TLS_CERTIFICATE": str(certificate),
        "GROUNDWORK_SERVER_TLS_KEY": str(key),
        # The caller that spoke no TLS never says goodbye in TLS either.
        "GROUNDWORK_SERVER_SHUTDOWN_SECONDS": "1",
    }
    with shop(tmp_path, certificate=certificate, **variables) as server:
        assert server.ask(["buyers:orders"], {"buyer": [1]}).status_code == 200
        with pytest.raises(requests.ConnectionError):
            requests.get(server.address.replace("https", "http") + "/health", timeout=5)
