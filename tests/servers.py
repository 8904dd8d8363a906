"""Real servers for tests: PostgreSQL and Redis from the machine's binaries, S3 from moto, on loopback only."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
import redis

from tests.programs import require


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_server_user() -> list[str]:
    """Prefix of a command that PostgreSQL refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []


@contextmanager
def postgres_server() -> Iterator[str]:
    """A fresh server without durability; gives the ``postgresql://`` address of its database."""
    programs = require("PostgreSQL")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data, port = folder / "data", _free_port()
    run = _as_server_user()

    def call(*command: str) -> None:
        done = subprocess.run([*run, *command], capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode:
            log = folder / "log"
            raise RuntimeError(
                f"{command[0]}: {done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}"
            )

    try:
        call(str(programs / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8",
             "--no-sync", "--locale=C")  # fmt: skip
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off "
            "-c synchronous_commit=off -c full_page_writes=off -c max_connections=60 -c shared_buffers=32MB"
        )
        call(
            str(programs / "pg_ctl"), "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start"
        )
        try:
            yield f"postgresql://tester:s3cret-pass@127.0.0.1:{port}/postgres"
        finally:
            call(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """An empty database of its own on a running server; gives its address."""
    name = f"test_{os.urandom(6).hex()}"
    admin = psycopg2.connect(server)
    admin.autocommit = True
    try:
        with admin.cursor() as cursor:
            cursor.execute(f"create database {name}")
        yield server.rsplit("/", 1)[0] + f"/{name}"
        with admin.cursor() as cursor:
            cursor.execute(f"drop database {name} with (force)")
    finally:
        admin.close()


@contextmanager
def redis_server() -> Iterator[str]:
    """A fresh Redis that keeps nothing on disk; gives its ``redis://`` address."""
    program = require("redis-server")
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        process = subprocess.Popen(
            [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", folder],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with redis.Redis(port=port) as client:
                for _ in range(200):
                    with suppress(redis.ConnectionError):
                        if client.ping():
                            break
                    time.sleep(0.05)
                else:
                    raise RuntimeError(f"redis-server does not answer on port {port}")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(10)
