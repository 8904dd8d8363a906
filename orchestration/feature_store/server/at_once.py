"""Requests that are answered as soon as their last byte is here.

What belongs here: which requests these are, and their responses' bytes. What does not: what they ask for
(``app``), and all other requests, which uvicorn hands to the application as ASGI has it.
"""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from orchestration.feature_store.server.app import FeatureServer, Reply
from orchestration.feature_store.server.one_write import OneWriteProtocol


def _response(reply: Reply) -> bytes:
    """A whole HTTP response."""
    more = b"".join(b"%b: %b\r\n" % header for header in reply.headers)
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        STATUS_LINE[reply.status],
        reply.content_type,
        len(reply.body),
        more,
        reply.body,
    )


class AtOnceProtocol(OneWriteProtocol):
    """uvicorn's protocol, but where nothing has to be waited for, there is no task and no ASGI message.

    These cost more than reading the features. A request goes the usual way if it comes in several pieces, if
    one before it is not answered yet, if the client is slow to read, or if it wants anything unusual of HTTP.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(self.app, FeatureServer)
        self._answer_at_once, self._immediate = self.app.answer_at_once, self.app.immediate
        self._body: bytearray | None = None
        """What is here of the body of a request that may be answered at once; None for no such request."""
        self._idle_since: float | None = None

    def data_received(self, data: bytes) -> None:
        """Called with what a client has sent."""
        super().data_received(data)
        if self._body is not None:
            self._hand_over()

    def on_message_begin(self) -> None:
        """Called when a request begins."""
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Called when a request's headers are here."""
        if self._is_immediate():
            self._body = bytearray()
        else:
            self._start()

    def _is_immediate(self) -> bool:
        parser, cycle = self.parser, self.cycle
        return (
            (parser.get_method(), self.url) in self._immediate
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and not self.transport.is_closing()
            and not self.expect_100_continue
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
        )

    def _start(self) -> None:
        """Begin to answer the request as uvicorn does."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the list that the scope has
        super().on_headers_complete()

    def _hand_over(self) -> None:
        """The rest of the request has to be waited for."""
        body, self._body = self._body, None
        if not self.transport.is_closing():
            self._start()
            if body:
                super().on_body(bytes(body))

    def on_body(self, body: bytes) -> None:
        """Called with a piece of a request's body."""
        if self._body is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Called when a request is here."""
        if self._body is None:
            super().on_message_complete()
            return
        body, self._body = bytes(self._body), None
        reply = self._answer_at_once(self.url.decode(), self.headers, body)
        self.transport.write(_response(reply))
        self.server_state.total_requests += 1
        self._rest()

    def on_response_complete(self) -> None:
        """Called when the application has answered: as uvicorn has it, but for the timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is over."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _rest(self) -> None:
        """Wait for the next request, but not for ever.

        A timer started and stopped for each request costs as much as reading features, so one goes on.
        """
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wake_in(self.timeout_keep_alive)

    def _wake_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Called when the connection may have been idle for too long."""
        self.timeout_keep_alive_task = None
        if self._idle_since is not None:
            left = self._idle_since + self.timeout_keep_alive - self.loop.time()
            if left > 0:
                self._wake_in(left)
            else:
                super().timeout_keep_alive_handler()
