"""Responses that leave in one piece.

What belongs here: how bytes go from uvicorn to a connection. What does not: HTTP, and what the bytes say.
"""

import asyncio
from typing import Any, cast
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class _Outbox:
    """What one event loop is to send at its next turn, all connections together.

    A client that is asleep is woken up by the first response, which takes longer than anything else; while
    it is awake, the other responses cost a fraction of that.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon, self._waiting = loop.call_soon, list[_Together]()

    def add(self, transport: "_Together") -> None:
        """Let a transport send what it holds."""
        if not self._waiting:
            self._call_soon(self._send)
        self._waiting.append(transport)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            transport.flush()


_outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Outbox] = WeakKeyDictionary()


def _outbox() -> _Outbox:
    loop = asyncio.get_running_loop()
    found = _outboxes.get(loop)
    if found is None:
        found = _outboxes[loop] = _Outbox(loop)
    return found


class _Together:
    """A transport that sends what is written to it in one turn of the event loop with one call."""

    def __init__(self, transport: asyncio.Transport, outbox: _Outbox) -> None:
        self._transport, self._outbox, self._held = transport, outbox, list[bytes]()
        self.is_closing = transport.is_closing  # asked at each response

    def write(self, data: bytes) -> None:
        if not self._held:
            self._outbox.add(self)
        self._held.append(data)

    def flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but head and body of a response are sent together.

    It writes one after the other, and uvloop sends each at once: a call of the system more, and a client
    that is woken up for a head without a body. Together these cost more than reading the features.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called with a new connection."""
        together = _Together(cast(asyncio.Transport, transport), _outbox())
        super().connection_made(cast(asyncio.Transport, together))
