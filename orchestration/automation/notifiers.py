"""Notifiers: where a failure message goes.

What belongs here: one class a channel, behind one protocol. What does not: which failures are worth
a message, and to whom (``alerts`` decides that). No secret ever reaches a log or an exception.
"""

import logging
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Protocol

from pydantic import SecretStr

from orchestration.settings import Settings

_TIMEOUT_SECONDS = 10.0


class NotificationError(Exception):
    """A message could not be delivered; it will be tried again."""


@dataclass(frozen=True)
class Alert:
    """What one owner is told: which of their assets and checks fail, and since how many runs."""

    owner: str
    subject: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The message as plain text."""
        return "\n".join([self.subject, "", *self.lines])


class Notifier(Protocol):
    """A channel for messages."""

    name: str

    def send(self, alert: Alert) -> None:
        """Deliver a message.

        Raises:
            NotificationError: It did not get through.
        """


class LogNotifier:
    """Writes messages to a log."""

    name = "log"

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def send(self, alert: Alert) -> None:
        """Write one error line an alert."""
        self._logger.error("to %s: %s", alert.owner, alert.text)


class WebhookNotifier:
    """Posts messages as JSON: ``owner``, ``subject``, ``lines``, and ``text`` for chat services."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    def __repr__(self) -> str:
        return "WebhookNotifier()"

    def send(self, alert: Alert) -> None:
        """Post the alert.

        Raises:
            NotificationError: No answer, or one that is not a success.
        """
        body = {
            "owner": alert.owner,
            "subject": alert.subject,
            "lines": list(alert.lines),
            "text": alert.text,
        }
        # Only who posts pays for its import.
        import requests  # noqa: PLC0415

        try:
            answer = requests.post(self._url, json=body, timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            # Neither the message nor the cause of a requests error: both name the address.
            raise NotificationError(f"webhook: {type(error).__name__}") from None
        if not answer.ok:
            raise NotificationError(f"webhook: HTTP {answer.status_code}")


class EmailNotifier:
    """Sends messages to owners that are e-mail addresses; a ``team:`` owner has no mailbox."""

    name = "email"

    def __init__(
        self,
        host: str,
        port: int,
        sender: str,
        *,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, SecretStr] | None = None,
    ) -> None:
        self._host, self._port, self._sender = host, port, sender
        self._tls, self._login = tls, login

    def send(self, alert: Alert) -> None:
        """Send the alert to its owner.

        Raises:
            NotificationError: The mail server cannot be reached or refuses.
        """
        if "@" not in alert.owner:
            return
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, alert.owner, alert.subject
        message.set_content(alert.text)
        try:
            with smtplib.SMTP(self._host, self._port, timeout=_TIMEOUT_SECONDS) as server:
                if self._tls is not None:
                    server.starttls(context=self._tls)
                if self._login is not None:
                    server.login(self._login[0], self._login[1].get_secret_value())
                server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise NotificationError(f"email: {type(error).__name__}") from error


def build_notifiers(settings: Settings, logger: logging.Logger) -> list[Notifier]:
    """The log, and every channel the settings name."""
    notifiers: list[Notifier] = [LogNotifier(logger)]
    if settings.notify_webhook_url is not None:
        notifiers.append(WebhookNotifier(settings.notify_webhook_url.get_secret_value()))
    if settings.notify_smtp_host is not None:
        user, password = settings.notify_smtp_user, settings.notify_smtp_password
        notifiers.append(
            EmailNotifier(
                settings.notify_smtp_host,
                settings.notify_smtp_port,
                settings.notify_smtp_from,
                tls=ssl.create_default_context() if settings.notify_smtp_starttls else None,
                login=(user, password) if user is not None and password is not None else None,
            )
        )
    return notifiers
