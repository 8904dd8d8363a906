"""Feature servers in processes of their own, on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from orchestration.settings import PROJECT_DIR


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A server that answers."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, log: Path, verify: str | bool) -> None:
        self.process, self.address, self.log = process, address, log
        self.http = requests.Session()
        self.http.verify, self.http.trust_env = verify, False

    def stop(self) -> int:
        """Tell it to stop as a service manager does; gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def ask(self, features: Sequence[str], entities: Mapping[str, object]) -> requests.Response:
        body = {"features": features, "entities": entities}
        return self.http.post(f"{self.address}/get-online-features", json=body, timeout=30)


@contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, certificate: Path | None = None
) -> Iterator[Running]:
    """Start a server on a free port and wait until it answers; it is gone at the end."""
    port, log = free_port(), folder / "server.log"
    variables = {
        **os.environ,
        **environment,
        "GROUNDWORK_SERVER_PORT": str(port),
        "PYTHONPATH": str(PROJECT_DIR),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=PROJECT_DIR, env=variables, stdout=out, stderr=out
        )
        scheme, verify = ("https", str(certificate)) if certificate else ("http", True)
        server = Running(process, f"{scheme}://localhost:{port}", log, verify)
        try:
            _wait(server)
            yield server
        finally:
            server.http.close()
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait(server: Running) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if server.http.get(f"{server.address}/health", timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not come up:\n{server.log.read_text()}")
