"""Messages reach real servers, and secrets reach no log."""

import json
import logging
import socket
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from orchestration.automation.notifiers import (
    Alert,
    EmailNotifier,
    LogNotifier,
    NotificationError,
    WebhookNotifier,
    build_notifiers,
)
from orchestration.settings import Settings

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
def mail_server(answer: Callable[[str], str | None]) -> Iterator[tuple[int, list[str]]]:
    """A server that speaks just enough SMTP; ``answer`` may refuse a command with a line of its own."""
    mails: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 sink\r\n")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                reply = answer(verb) or {"DATA": "354 go", "QUIT": "221 bye"}.get(verb, "250 ok")
                self.wfile.write(f"{reply}\r\n".encode())
                if verb == "QUIT":
                    return
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
        mail_server(lambda verb: "550 no" if verb == "RCPT" else None) as (port, _),
        pytest.raises(NotificationError, match="email"),
    ):
        EmailNotifier("127.0.0.1", port, "platform@example.org").send(ALERT)


def test_the_log_gets_every_line(caplog: pytest.LogCaptureFixture) -> None:
    LogNotifier(LOG).send(ALERT)
    assert "ana@example.org" in caplog.text
    assert "raw/t was not made (run 1)" in caplog.text


def test_the_settings_decide_the_channels() -> None:
    assert [n.name for n in build_notifiers(Settings(), LOG)] == ["log"]
    full = Settings(notify_webhook_url="http://127.0.0.1/x", notify_smtp_host="127.0.0.1")
    assert [n.name for n in build_notifiers(full, LOG)] == ["log", "webhook", "email"]
