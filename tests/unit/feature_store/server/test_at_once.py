"""Over a real connection: what is answered at once, what goes the usual way, and that both say the same."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from orchestration.feature_store.online.store import NotMaterializedError
from orchestration.feature_store.server.at_once import AtOnceProtocol
from tests.unit.feature_store.server.counter_of_a_shop import Shelf, Shop, open_shop

ASKED = {"features": ["buyers:orders", "buyers:name"], "entities": {"buyer": [1]}}


def request(
    body: Any = ASKED, *lines: str, path: str = "/get-online-features", version: str = "1.1"
) -> bytes:
    held = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {path} HTTP/{version}", "Host: 127.0.0.1", "Content-Type: application/json", *lines]
    if not any(line.startswith("Transfer-Encoding") for line in lines):
        head.append(f"Content-Length: {len(held)}")
    return "\r\n".join([*head, "", ""]).encode() + held


class Connection:
    """One connection to a server in a thread."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket, self._said = connected, connected.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, dict[str, str], Any]:
        """The next response: status, headers, and what its body holds."""
        status = int(self._said.readline().split()[1])
        headers = {}
        while (line := self._said.readline().decode().strip()) != "":
            name, _, value = line.partition(": ")
            headers[name] = value
        return status, headers, json.loads(self._said.read(int(headers["content-length"])))

    def is_over(self) -> bool:
        return self._said.read(1) == b""


@contextmanager
def running(shop: Shop, **settings: Any) -> Iterator[Any]:
    """The address of a server in a thread."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(
            shop.server, http=AtOnceProtocol, loop="uvloop", lifespan="off", log_config=None,
            server_header=False, date_header=False, proxy_headers=False, **settings,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def connected_to(address: Any) -> Iterator[Connection]:
    with socket.create_connection(address, 10) as connected:
        yield Connection(connected)


@pytest.fixture(scope="module", params=["at once", "as usual"])
def served(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[tuple[Shop, Any]]:
    """A shop over a store that need not be waited for, and one over a store that must be."""
    shelf = Shelf(is_immediate=request.param == "at once")
    shop = open_shop(tmp_path_factory.mktemp("shop"), shelf, server_max_body_bytes=100_000)
    with running(shop) as address:
        yield shop, address


@pytest.fixture
def shop(served: tuple[Shop, Any]) -> Iterator[Shop]:
    shop, _ = served
    yield shop
    shop.shelf.fault, shop.shelf.delay = None, 0
    shop.shelf.asked.clear()


@pytest.fixture
def connection(shop: Shop, served: tuple[Shop, Any]) -> Iterator[Connection]:
    with connected_to(served[1]) as connection:
        yield connection


def test_both_ways_answer_alike_whatever_is_asked(tmp_path: Path) -> None:
    asked = [
        request(),
        request({**ASKED, "entities": {"buyer": [1, 2, 3]}}),
        request({"feature_service": "payments",
                 "entities": {"payer_id": [1], "payee_id": [2], "amount": [3]}}),
        request({"features": ["buyers:nothing"], "entities": {"buyer": [1]}}),
        request(b"no json"),
        request({**ASKED, "entities": {"buyer": ["one"]}}),
        request(b" " * 2000),
        request(ASKED, "Content-Type: text/plain"),
        request(ASKED, "Host: elsewhere.example"),
        request(path="/nowhere"),
        request(path="/get-online-features?x=1"),
    ]  # fmt: skip
    told = {}
    for way in (True, False):
        folder = tmp_path / str(way)
        folder.mkdir()
        shop = open_shop(folder, Shelf(is_immediate=way), server_max_body_bytes=1000)
        assert len(shop.server.immediate) == way
        with running(shop) as address, connected_to(address) as connection:
            answers = []
            for one in asked:
                connection.send(one)
                answers.append(connection.receive())
        lines = [{k: v for k, v in line.items() if k not in ("at", "microseconds")} for line in shop.lines()]
        counted = [line for line in shop.metrics.text().splitlines() if "seconds" not in line]
        told[way] = (answers, lines, counted)
    assert told[True] == told[False]
    statuses = [status for status, _, _ in told[True][0]]
    assert statuses == [200, 200, 200, 404, 400, 422, 413, 415, 421, 404, 200]


def test_a_store_that_cannot_answer_is_told_and_a_fault_of_the_server_too(
    shop: Shop, connection: Connection
) -> None:
    for fault, status in (
        (NotMaterializedError("buyers"), 503),
        (RuntimeError("secret"), 500),
        (None, 200),
    ):
        shop.shelf.fault = fault
        connection.send(request())
        got, _, body = connection.receive()
        assert (got, "secret" in json.dumps(body)) == (status, False)


@pytest.mark.parametrize("pieces", [2, 5, 50])
def test_a_request_may_come_in_pieces(connection: Connection, pieces: int) -> None:
    whole = request({**ASKED, "entities": {"buyer": [1] * 500}})
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for n in range(pieces):
        connection.send(whole[len(whole) * n // pieces : len(whole) * (n + 1) // pieces])
    assert connection.receive()[0] == 200
    connection.send(request())
    assert connection.receive()[2]["results"][1]["values"] == [7]


def test_requests_that_do_not_wait_for_answers_get_them_in_order(shop: Shop, connection: Connection) -> None:
    shop.shelf.delay = 0.01
    many = [request({**ASKED, "entities": {"buyer": [n]}}) for n in range(1, 20)]
    many[7] = b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"  # which waits for a thread
    connection.send(b"".join(many))
    answers = [connection.receive()[2] for _ in many]
    assert [a["status"] if "status" in a else a["results"][0]["values"] for a in answers] == [
        "ready" if n == 8 else [n] for n in range(1, 20)
    ]


def test_a_body_may_be_chunked_and_wait_for_leave_to_come(connection: Connection) -> None:
    body = json.dumps(ASKED).encode()
    chunked = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    connection.send(request(chunked, "Transfer-Encoding: chunked"))
    assert connection.receive()[0] == 200
    whole = request(ASKED, "Expect: 100-continue")
    connection.send(whole[: whole.index(b"{")])
    assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(whole[whole.index(b"{") :])
    assert connection.receive()[0] == 200


@pytest.mark.parametrize("last", [request(ASKED, "Connection: close"), request(version="1.0")])
def test_a_connection_that_is_to_close_closes_after_its_answer(connection: Connection, last: bytes) -> None:
    connection.send(request() + last)
    assert [connection.receive()[0] for _ in range(2)] == [200, 200]
    assert connection.is_over()


def test_what_is_no_http_ends_the_connection_and_nothing_of_it_is_served(
    shop: Shop, connection: Connection
) -> None:
    connection.send(request(b"zz\r\n", "Transfer-Encoding: chunked"))
    assert connection.socket.recv(100).startswith(b"HTTP/1.1 400")
    assert shop.shelf.asked == []


def test_an_idle_connection_is_closed_and_one_in_use_is_not(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, Shelf(is_immediate=True))
    with running(shop, timeout_keep_alive=0.6) as address, connected_to(address) as connection:
        for _ in range(3):
            time.sleep(0.25)
            connection.send(request())
            assert connection.receive()[0] == 200
        began = time.monotonic()
        assert connection.is_over()
        assert 0.4 < time.monotonic() - began < 5
