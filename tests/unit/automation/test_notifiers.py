"""Messages reach real servers, and secrets reach no log."""

import base64
import json
import logging
import socket
import socketserver
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from orchestration.automation.notifiers import (
    Alert,
    EmailNotifier,
    LogNotifier,
    NotificationError,
    WebhookNotifier,
    build_notifiers,
)
from orchestration.settings import Settings
from tests.programs import require

ALERT = Alert("ana@example.org", "Groundwork: 1 failing", ("raw/t was not made (run 1)",))
LOG = logging.getLogger("tests.notifiers")


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[misc]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def webhook(status: int) -> Iterator[tuple[str, list[dict[str, object]]]]:
    received: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/hook?token=hunter2", received


@contextmanager
def mail_server(
    answer: Callable[[str], str | None], tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[str]]]:
    """A server that speaks just enough SMTP; ``answer`` may refuse a line with one of its own."""
    mails: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 sink\r\n")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                reply = answer(verb + line[len(verb) :]) or {
                    "DATA": "354 go",
                    "QUIT": "221 bye",
                    "STARTTLS": "220 go",
                }.get(verb, "250 ok")
                self.wfile.write(f"{reply}\r\n".encode())
                if verb == "QUIT":
                    return
                if verb == "STARTTLS" and tls is not None:
                    secret = tls.wrap_socket(self.connection, server_side=True)
                    self.rfile, self.wfile = secret.makefile("rb"), secret.makefile("wb", 0)
                if reply.startswith("354"):
                    mails.append(self._data())
                    self.wfile.write(b"250 kept\r\n")

        def _data(self) -> str:
            lines = []
            while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                lines.append(line)
            return "\n".join(lines)

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, mails


def test_a_webhook_gets_the_alert_as_json() -> None:
    with webhook(200) as (url, received):
        WebhookNotifier(url).send(ALERT)
    assert received == [
        {
            "owner": ALERT.owner,
            "subject": ALERT.subject,
            "lines": list(ALERT.lines),
            "text": "Groundwork: 1 failing\n\nraw/t was not made (run 1)",
        }
    ]


def test_a_refusing_webhook_is_an_error_that_does_not_name_its_address() -> None:
    with webhook(500) as (url, _), pytest.raises(NotificationError, match="HTTP 500") as error:
        WebhookNotifier(url).send(ALERT)
    assert "hunter2" not in f"{error.value} {WebhookNotifier(url)!r}"


def test_an_unreachable_webhook_is_an_error_that_does_not_name_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NotificationError) as error:
        WebhookNotifier(f"http://127.0.0.1:{port}/?token=hunter2").send(ALERT)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_an_owner_with_an_address_gets_an_e_mail() -> None:
    with mail_server(lambda _: None) as (port, mails):
        EmailNotifier("127.0.0.1", port, "platform@example.org").send(ALERT)
    (mail,) = mails
    assert "To: ana@example.org" in mail
    assert "Subject: Groundwork: 1 failing" in mail
    assert "raw/t was not made (run 1)" in mail


def test_a_team_has_no_mailbox() -> None:
    with mail_server(lambda _: None) as (port, mails):
        EmailNotifier("127.0.0.1", port, "platform@example.org").send(Alert("team:data", "s", ("l",)))
    assert mails == []


def test_a_refusing_mail_server_is_an_error() -> None:
    with (
        mail_server(lambda line: "550 no" if line.startswith("RCPT") else None) as (port, _),
        pytest.raises(NotificationError, match="email"),
    ):
        EmailNotifier("127.0.0.1", port, "platform@example.org").send(ALERT)


def test_a_password_is_given_in_secret_only_and_to_the_right_server(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [str(require("openssl")), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    said: list[str] = []

    def answer(line: str) -> str | None:
        said.append(line)
        if line.startswith("EHLO"):
            return "250-sink\r\n250-STARTTLS\r\n250 AUTH PLAIN"
        return "235 welcome" if line.startswith("AUTH") else None

    login = ("groundwork", SecretStr("hunter2"))
    with mail_server(answer, context) as (port, mails):
        trusting = ssl.create_default_context(cafile=certificate)
        EmailNotifier("127.0.0.1", port, "p@example.org", tls=trusting, login=login).send(ALERT)
        assert len(mails) == 1
        (proof,) = [line.split()[-1] for line in said if line.startswith("AUTH")]
        assert base64.b64decode(proof) == b"\0groundwork\0hunter2"
        assert said.index("STARTTLS") < said.index(f"AUTH PLAIN {proof}")
        said.clear()
        with pytest.raises(NotificationError, match="SSLCertVerificationError"):
            EmailNotifier(
                "127.0.0.1", port, "p@example.org", tls=ssl.create_default_context(), login=login
            ).send(ALERT)
    assert not any(line.startswith("AUTH") for line in said)


@pytest.mark.parametrize(
    "half",
    [
        {"notify_smtp_user": "u"},
        {"notify_smtp_password": "hunter2"},
        {"notify_smtp_user": "u", "notify_smtp_password": "hunter2"},
    ],
    ids=["no-password", "no-user", "no-tls"],
)
def test_a_login_that_is_not_whole_or_not_secret_stops_the_start(half: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="notify_smtp_user") as error:
        Settings(**half)
    assert "hunter2" not in str(error.value)


def test_the_log_gets_every_line(caplog: pytest.LogCaptureFixture) -> None:
    LogNotifier(LOG).send(ALERT)
    assert "ana@example.org" in caplog.text
    assert "raw/t was not made (run 1)" in caplog.text


def test_the_settings_decide_the_channels() -> None:
    assert [n.name for n in build_notifiers(Settings(), LOG)] == ["log"]
    full = Settings(notify_webhook_url="http://127.0.0.1/x", notify_smtp_host="127.0.0.1")
    assert [n.name for n in build_notifiers(full, LOG)] == ["log", "webhook", "email"]
