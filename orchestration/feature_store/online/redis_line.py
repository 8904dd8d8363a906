"""Questions to Redis by socket and parser alone, for reads: a round trip, and little more.

What belongs here: connecting, sending packed commands, parsing answers. What does not: which commands
(``redis_store``). Only plain TCP with a password, if any; TLS and what else an address can say is for the
client library, by whose hands a read takes four times as long.
"""

import os
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis
import redis.connection

_PLAIN = frozenset({"host", "port", "db", "username", "password"})
_TIMEOUT_SECONDS = 30
_BYTES = 65_536
_pack: Any = hiredis.pack_command  # annotated as if each command were one word
_parse_url: Any = redis.connection.parse_url  # not annotated


class RedisLine:
    """Connections to one server, one a thread, opened on first use and again when they are lost.

    Args:
        url: ``redis://`` address for which ``fits`` says that it is plain.
    """

    def __init__(self, url: str) -> None:
        told = _parse_url(url)
        self._place = told.get("host", "localhost"), int(told.get("port", 6379))
        self._greeting: list[tuple[str, ...]] = []
        if told.get("password") is not None:
            name = [told["username"]] if told.get("username") else []
            self._greeting.append(("AUTH", *name, told["password"]))
        if told.get("db"):
            self._greeting.append(("SELECT", str(told["db"])))
        self._local = threading.local()

    @staticmethod
    def fits(url: str) -> bool:
        """Whether an address is one for this."""
        return urlsplit(url).scheme == "redis" and _PLAIN.issuperset(_parse_url(url))

    def ask(self, packed: bytes, answers: int) -> list[Any]:
        """The answers to commands that may be asked twice.

        Raises:
            redis.ConnectionError: The server cannot be reached.
            redis.ResponseError: It refuses.
        """
        if getattr(self._local, "process", None) == os.getpid():
            # A connection that the server has closed meanwhile is no reason to fail.
            with suppress(OSError, EOFError):
                return self._exchange(packed, answers)
        try:
            self._connect()
            return self._exchange(packed, answers)
        except (OSError, EOFError) as fault:
            raise redis.ConnectionError(f"redis at {self._place[0]}:{self._place[1]}: {fault}") from fault

    def close(self) -> None:
        """Close this thread's connection."""
        self._drop()

    def _connect(self) -> None:
        self._drop()
        found = socket.create_connection(self._place, _TIMEOUT_SECONDS)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._local.process, self._local.socket = os.getpid(), found
        if self._greeting:
            self._exchange(b"".join(map(_pack, self._greeting)), len(self._greeting))

    def _drop(self) -> None:
        held = getattr(self._local, "socket", None)
        self._local.process = self._local.socket = None
        if held is not None:
            held.close()

    def _exchange(self, packed: bytes, answers: int) -> list[Any]:
        connection, parser, found = self._local.socket, hiredis.Reader(), list[Any]()
        try:
            connection.sendall(packed)
            while len(found) < answers:
                answer = parser.gets()
                if answer is False:
                    data = connection.recv(_BYTES)
                    if not data:
                        raise EOFError("the server has closed the connection")  # noqa: TRY301
                    parser.feed(data)
                else:
                    found.append(answer)
        except BaseException:
            self._drop()  # what is left of the answers is nobody's
            raise
        for answer in found:
            if isinstance(answer, hiredis.ReplyError):
                self._drop()
                raise redis.ResponseError(str(answer))
        return found
