"""Responses that leave in one piece.

What belongs here: how bytes go from uvicorn to a connection. What does not: HTTP, and what the bytes say.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class _Together:
    """A transport that sends what is written to it in one turn of the event loop with one call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._held = transport, list[bytes]()
        self._call_soon = asyncio.get_running_loop().call_soon
        self.is_closing = transport.is_closing  # asked at each response

    def write(self, data: bytes) -> None:
        if not self._held:
            self._call_soon(self._flush)
        self._held.append(data)

    def _flush(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.write(b"".join(self._held))
        self._held = []

    def write_now(self, data: bytes) -> None:
        """Send at once, after what is held."""
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
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
        super().connection_made(cast(asyncio.Transport, _Together(cast(asyncio.Transport, transport))))
