"""The feature server as an ASGI application.

What belongs here: routes, who may pass, the limits of a request, and what is written down about it. What does
not: Feast's JSON (``wire``), reading features (``online``), and starting processes (``serving``).

No framework: a table of ten routes needs no router, and Starlette's costs as much as the read itself.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import orjson

from orchestration.feature_store.discovery import Facts
from orchestration.feature_store.online.encoding import SchemaMismatchError
from orchestration.feature_store.online.keys import EntityTypeError
from orchestration.feature_store.online.reading import (
    FeatureNameError,
    RequestValueError,
    UnservedViewError,
)
from orchestration.feature_store.online.store import NotMaterializedError
from orchestration.feature_store.server.access import Access, Caller
from orchestration.feature_store.server.access_log import AccessLog
from orchestration.feature_store.server.metrics import CONTENT_TYPE, Metrics
from orchestration.feature_store.server.openapi import describe
from orchestration.feature_store.server.pages import Page, Pages
from orchestration.feature_store.server.predicting import (
    Predictor,
    Unavailable,
    check_model,
    encode_predictions,
    parse_prediction,
    prediction_columns,
)
from orchestration.feature_store.server.refusal import Header, Refusal
from orchestration.feature_store.server.wire import (
    ON_DEMAND,
    Answer,
    Plan,
    Plans,
    Request,
    check_columns,
    encode,
    load_object,
    parse_request,
)
from orchestration.feature_store.views import Catalog
from orchestration.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Columns = Mapping[str, list[Any]]

OTHER = "other"
"""Under which route requests to no route are counted."""
MINE = frozenset({"127.0.0.1", "localhost", "[::1]"})
_BODY_SECONDS = 15
_JSON = b"application/json"
_PUSH_TARGETS = ("online", "offline", "online_and_offline")

_log = logging.getLogger("groundwork.server")


class Reader(Protocol):
    """What reads the online store."""

    is_immediate: bool
    """Whether a read waits for nothing but memory."""

    def get_online_features(
        self,
        features: Sequence[str] | str,
        entity_rows: Mapping[str, Sequence[Any]],
        *,
        full_feature_names: bool = False,
    ) -> Answer:
        """See ``OnlineReader.get_online_features``."""

    async def get_online_features_async(
        self,
        features: Sequence[str] | str,
        entity_rows: Mapping[str, Sequence[Any]],
        *,
        full_feature_names: bool = False,
    ) -> Answer:
        """See ``OnlineReader.get_online_features_async``."""


class PushFault(Exception):
    """Rows that cannot be taken; the message has found and expected."""


@dataclass(frozen=True)
class Parts:
    """What a server is made of.

    Attributes:
        settings: The platform's settings.
        catalog: Views and services.
        reader: Reads the online store.
        unready: Why the online store cannot serve, a line each; nothing if it can. Runs in a thread.
        push: Puts the rows of a source into its landing folder; raises ``PushFault``. Runs in a thread.
        sources: Names of the sources that take pushes.
        access: Who may do what.
        metrics: What is counted.
        access_log: Where requests are written down.
        facts: What the catalog tells now; the same object until that changes. Runs in a thread.
        close: Gives up what the parts hold.
        predictor: Predicts; None where no model is declared.
    """

    settings: Settings
    catalog: Catalog
    reader: Reader
    unready: Callable[[], Sequence[str]]
    push: Callable[[str, Columns], str]
    sources: frozenset[str]
    access: Access
    metrics: Metrics
    access_log: AccessLog
    facts: Callable[[], Facts]
    close: Callable[[], None]
    predictor: Predictor | None = None


@dataclass(slots=True)
class Reply:
    """An answer, with what the access log says of it."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    headers: Sequence[Header] = ()
    rows: int = 0
    features: int = 0


@dataclass(slots=True)
class Call:
    """One request."""

    caller: Caller
    body: bytes
    headers: Mapping[bytes, bytes]


Headers = Sequence[tuple[bytes, bytes]]
Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """One path."""

    method: str
    handler: Handler
    is_open: bool = False
    """Whether it asks for no key."""
    at_once: Callable[[Call], Reply] | None = None
    """What the handler does, where it needs to wait for nothing."""


def _error(status: int, message: str, headers: Sequence[Header] = ()) -> Reply:
    return Reply(status, orjson.dumps({"error": message}), headers=headers)


class _Gone(Exception):
    """The caller has hung up."""


_UNANSWERABLE = (EntityTypeError, RequestValueError, FeatureNameError, UnservedViewError)
_UNAVAILABLE = (NotMaterializedError, SchemaMismatchError)
_READ_FAULTS = (*_UNANSWERABLE, *_UNAVAILABLE)


def _refused(fault: Exception) -> Refusal:
    """How a read that failed is told: 422, no such answer can be; 503, not now."""
    return Refusal(422 if isinstance(fault, _UNANSWERABLE) else 503, str(fault))


def _told(path: str, fault: Exception) -> Reply:
    """The answer to a request that failed; the log says why, if the caller cannot know."""
    if isinstance(fault, Refusal):
        return _error(fault.status, str(fault), fault.headers)
    _log.error("a request to %s failed", path, exc_info=fault)
    return _error(500, "the server failed; its log says why")


class FeatureServer:
    """The application. Answers in the order they are ready; one instance a worker process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._access, self._metrics, self._reader = parts.access, parts.metrics, parts.reader
        self._write_log = parts.access_log.write
        self._plans = Plans(parts.catalog)
        self._max_body = parts.settings.server_max_body_bytes
        self._max_rows = parts.settings.server_max_rows
        models = () if parts.predictor is None else parts.predictor.models
        self._document = orjson.dumps(describe(parts.catalog, parts.sources, parts.settings, models))
        at_once = self._get_online_features_at_once if parts.reader.is_immediate else None
        self._routes: Mapping[str, Route] = {
            "/get-online-features": Route("POST", self._get_online_features, at_once=at_once),
            "/predict": Route("POST", self._predict),
            "/push": Route("POST", self._push),
            "/health": Route("GET", self._health, is_open=True),
            "/ready": Route("GET", self._ready, is_open=True),
            "/metrics": Route("GET", self._get_metrics),
            "/openapi.json": Route("GET", self._openapi),
            "/catalog": Route("GET", self._catalog),
            "/catalog.json": Route("GET", self._catalog_json),
        }
        self._pages = Pages(parts.facts)
        self.immediate = frozenset(
            (route.method.encode(), path.encode()) for path, route in self._routes.items() if route.at_once
        )
        """Method and path of the requests that ``answer_at_once`` takes."""

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or start and stop with the server."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                # What is there now stays: to look through it again and again would stop requests for long.
                gc.freeze()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._parts.close()
                self._parts.access_log.close()
                self._parts.metrics.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        started = time.perf_counter_ns()
        path = scope["path"] if scope["path"] in self._routes else OTHER
        call = Call(_NOBODY, b"", dict(scope["headers"]))
        try:
            reply = await self._reply(scope, receive, call)
        except _Gone:
            return
        except Exception as fault:  # noqa: BLE001 (whatever failed, the caller gets an answer)
            reply = _told(path, fault)
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        self._write_down(call, path, reply, started)

    def answer_at_once(self, path: str, headers: Headers, body: bytes) -> Reply:
        """The answer to one of the ``immediate`` requests that is here to its last byte."""
        started = time.perf_counter_ns()
        call = Call(_NOBODY, body, dict(headers))
        route = self._routes[path]
        assert route.at_once is not None
        try:
            self._admit(route, call)
            self._check_body(call.headers, len(body))
            reply = route.at_once(call)
        except Exception as fault:  # noqa: BLE001 (whatever failed, the caller gets an answer)
            reply = _told(path, fault)
        self._write_down(call, path, reply, started)
        return reply

    def _write_down(self, call: Call, path: str, reply: Reply, started: int) -> None:
        spent = time.perf_counter_ns() - started
        self._metrics.request(path, reply.status, spent)
        self._write_log(call.caller.name, path, reply.status, reply.rows, reply.features, spent)

    async def _reply(self, scope: Mapping[str, Any], receive: Receive, call: Call) -> Reply:
        """The answer to a request; ``call`` is filled in on the way, for whoever writes down what failed."""
        route = self._routes.get(scope["path"])
        if route is None:
            if self._access.is_open:
                _check_host(call.headers)
            raise Refusal(404, f"no such route, expected one of {', '.join(self._routes)}")
        self._admit(route, call, scope["method"])
        if route.method == "POST":
            call.body = await self._body(call.headers, receive)
        return await route.handler(call)

    def _admit(self, route: Route, call: Call, method: str | None = None) -> None:
        """Find out who calls, and refuse who may not."""
        if self._access.is_open:
            _check_host(call.headers)
        if method is not None and route.method != method:
            raise Refusal(405, f"expected {route.method}", [(b"allow", route.method.encode())])
        if not route.is_open:
            call.caller = caller = self._access.caller(call.headers.get(b"authorization"))
            if caller.limit is not None:
                self._check_rate(caller, caller.limit)

    def _check_rate(self, caller: Caller, limit: int) -> None:
        if self._metrics.in_this_second(caller.name, int(time.time())) > limit:
            raise Refusal(
                429, f"more than {limit} requests of {caller.name} in a second", [(b"retry-after", b"1")]
            )

    def _check_body(self, headers: Mapping[bytes, bytes], size: int = 0) -> None:
        """Check what a request says of its body, and how many bytes of it are here.

        Raises:
            Refusal: 413, it is too large; 415, it says it is no JSON.
        """
        # A page in somebody's browser can send any other type here without asking.
        content_type = headers.get(b"content-type", b"")
        if content_type != _JSON and content_type.partition(b";")[0].strip().lower() != _JSON:
            raise Refusal(415, "expected content-type: application/json")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body:
            raise Refusal(413, f"the body has {length.decode()} bytes, expected at most {self._max_body}")
        if size > self._max_body:
            raise Refusal(413, f"the body has {size} bytes, expected at most {self._max_body}")

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The body of a request.

        Raises:
            Refusal: 413, it is too large; 415, it says it is no JSON; 400, it came too slowly.
        """
        self._check_body(headers)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    body = await self._rest(body, receive)
            except TimeoutError:
                raise Refusal(400, f"the body did not come within {_BODY_SECONDS} seconds") from None
        return body

    async def _rest(self, begin: bytes, receive: Receive) -> bytes:
        body, more = bytearray(begin), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise Refusal(413, f"the body has more than {self._max_body} bytes, expected no more")
            more = message.get("more_body", False)
        return bytes(body)

    async def _get_online_features(self, call: Call) -> Reply:
        request, plan, columns = self._asked(call)
        try:
            answer = await self._reader.get_online_features_async(
                plan.features, columns, full_feature_names=request.full_feature_names
            )
        except _READ_FAULTS as fault:
            raise _refused(fault) from fault
        return self._given(request, plan, answer)

    def _get_online_features_at_once(self, call: Call) -> Reply:
        request, plan, columns = self._asked(call)
        try:
            answer = self._reader.get_online_features(
                plan.features, columns, full_feature_names=request.full_feature_names
            )
        except _READ_FAULTS as fault:
            raise _refused(fault) from fault
        return self._given(request, plan, answer)

    def _asked(self, call: Call) -> tuple[Request, Plan, dict[str, list[Any]]]:
        """What a request for features asks for, and of whom."""
        request = parse_request(call.body, self._max_rows)
        plan = self._plans.plan(request, call.caller.views)
        call.caller.check_views(plan.views)
        return request, plan, self._plans.columns(request, plan)

    def _given(self, request: Request, plan: Plan, answer: Answer) -> Reply:
        body, tallies = encode(answer, plan, request.entities)
        self._metrics.rows(request.rows)
        for view, statuses, columns_of_it in tallies:
            self._metrics.values(view, statuses, columns_of_it)
        return Reply(200, body, rows=request.rows, features=plan.count)

    async def _predict(self, call: Call) -> Reply:
        request = parse_prediction(call.body, self._max_rows)
        predictor = check_model(request.model, self._parts.predictor, call.caller.models)
        call.caller.check_model(request.model)
        columns = prediction_columns(request, predictor)
        try:
            made = await predictor.predict(request.model, columns)
        except _READ_FAULTS as fault:
            raise _refused(fault) from fault
        except Unavailable as fault:
            raise Refusal(503, str(fault)) from fault
        self._metrics.rows(request.rows)
        return Reply(200, encode_predictions(request, made), rows=request.rows)

    async def _push(self, call: Call) -> Reply:
        held = load_object(call.body)
        source, to = held.get("push_source_name"), held.get("to", "online")
        if type(source) is not str:
            raise Refusal(422, "push_source_name: expected the name of a source")
        if source not in self._parts.sources:
            known = ", ".join(sorted(self._parts.sources)) or "none"
            raise Refusal(404, f"no source {source!r} takes pushes. Known: {known}")
        call.caller.check_push(source)
        if to not in _PUSH_TARGETS:
            raise Refusal(422, f"to: expected one of {', '.join(_PUSH_TARGETS)}")
        if "df" not in held:
            raise Refusal(422, "df: found nothing, expected an object: a list of values a column")
        rows = check_columns(held["df"], "df", self._max_rows)
        try:
            delivery = await asyncio.to_thread(self._parts.push, source, held["df"])
        except PushFault as fault:
            raise Refusal(422, str(fault)) from fault
        self._metrics.pushed(source, rows)
        return Reply(200, orjson.dumps({"delivery": delivery, "rows": rows}), rows=rows)

    async def _health(self, call: Call) -> Reply:
        return Reply(200, b'{"status":"alive"}')

    async def _ready(self, call: Call) -> Reply:
        reasons = await asyncio.to_thread(self._parts.unready)
        if reasons:
            # They name views; where keys are asked for, who shows none is not told.
            told = {"reasons": list(reasons)} if self._access.is_open else {}
            return Reply(503, orjson.dumps({"status": "not ready", **told}))
        return Reply(200, b'{"status":"ready"}')

    async def _get_metrics(self, call: Call) -> Reply:
        return Reply(200, self._metrics.text().encode(), CONTENT_TYPE.encode())

    async def _openapi(self, call: Call) -> Reply:
        return Reply(200, self._document)

    async def _catalog(self, call: Call) -> Reply:
        return _page(await asyncio.to_thread(self._pages.html, call.caller.views), call)

    async def _catalog_json(self, call: Call) -> Reply:
        return _page(await asyncio.to_thread(self._pages.json, call.caller.views), call)


_NOBODY = Caller("-", frozenset(), frozenset(), None)
"""Who has shown no key, or no right one."""

ROUTES = (
    "/get-online-features",
    "/predict",
    "/push",
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/catalog",
    "/catalog.json",
    OTHER,
)
"""Under which names requests are counted."""


def counted_views(catalog: Catalog) -> list[str]:
    """Under which names values are counted."""
    return [*catalog.views, ON_DEMAND]


def _page(page: Page, call: Call) -> Reply:
    """A page, packed if the caller unpacks, or word that the caller has it."""
    headers = list(page.headers)
    if call.headers.get(b"if-none-match") == page.etag:
        return Reply(304, b"", page.content_type, headers)
    if b"gzip" in call.headers.get(b"accept-encoding", b""):
        return Reply(200, page.packed, page.content_type, [*headers, (b"content-encoding", b"gzip")])
    return Reply(200, page.body, page.content_type, headers)


def _check_host(headers: Mapping[bytes, bytes]) -> None:
    """Without keys, answer nobody who came here by another name: a page in a browser could have sent it."""
    if not _is_mine(headers.get(b"host", b"")):
        raise Refusal(421, "expected a host name of this machine: 127.0.0.1, localhost or [::1]")


@lru_cache(maxsize=256)
def _is_mine(host: bytes) -> bool:
    text = host.decode("latin-1")
    name = text if text.endswith("]") else text.rpartition(":")[0] or text
    return name.lower() in MINE
