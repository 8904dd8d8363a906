"""Over a real connection, a response comes whole."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from orchestration.feature_store.server.one_write import OneWriteProtocol

REQUEST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n"


async def answer(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(answer, http=OneWriteProtocol, loop="uvloop", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            with socket.create_connection(listening.getsockname(), 10) as connection:
                yield connection
        finally:
            server.should_exit = True
            thread.join()


def test_head_and_body_come_together_each_time(client: socket.socket) -> None:
    for _ in range(20):
        client.sendall(REQUEST + b"\r\nhi")
        got = client.recv(1000)
        assert (got[:15], got[-2:]) == (b"HTTP/1.1 200 OK", b"hi")


def test_a_client_that_waits_for_leave_to_go_on_gets_it(client: socket.socket) -> None:
    client.sendall(REQUEST + b"expect: 100-continue\r\n\r\n")
    assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"hi")
    assert client.recv(1000).endswith(b"\r\n\r\nhi")


def test_a_connection_that_is_to_close_closes_after_the_whole_response(client: socket.socket) -> None:
    client.sendall(REQUEST + b"connection: close\r\n\r\nhi")
    with client.makefile("rb") as said:
        assert said.read().endswith(b"\r\n\r\nhi")
