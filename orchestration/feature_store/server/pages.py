"""The catalog as the server gives it: to each caller what that one may read, made once, packed once.

What belongs here: bytes and headers of pages. What does not: facts, and how they look (``discovery``).
"""

import gzip
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from orchestration.feature_store.discovery import Facts, content_security_policy, render
from orchestration.feature_store.server.refusal import Header

_KEPT = 32


@dataclass(frozen=True)
class Page:
    """A page, as it is and packed with gzip."""

    body: bytes
    packed: bytes
    content_type: bytes
    etag: bytes
    headers: tuple[Header, ...]


def _page(body: bytes, content_type: bytes, *headers: Header) -> Page:
    etag = b'"' + hashlib.sha256(body).hexdigest()[:24].encode() + b'"'
    shared = (
        (b"etag", etag),
        (b"cache-control", b"private, no-cache"),
        (b"vary", b"accept-encoding, authorization"),
        (b"x-content-type-options", b"nosniff"),
    )
    return Page(body, gzip.compress(body, 6, mtime=0), content_type, etag, (*shared, *headers))


def _html(facts: Facts) -> Page:
    policy = (b"content-security-policy", content_security_policy().encode())
    return _page(render(facts).encode(), b"text/html; charset=utf-8", policy)


def _json(facts: Facts) -> Page:
    return _page(orjson.dumps(facts, option=orjson.OPT_UTC_Z), b"application/json")


class Pages:
    """Pages by what their readers may see, until the facts change. Safe in threads."""

    def __init__(self, facts: Callable[[], Facts]) -> None:
        self._facts = facts
        self._lock = threading.Lock()
        self._of: Facts | None = None
        self._made: dict[tuple[Callable[[Facts], Page], frozenset[str]], Page] = {}

    def html(self, views: frozenset[str]) -> Page:
        """The page for a caller who may read these views."""
        return self._get(_html, views)

    def json(self, views: frozenset[str]) -> Page:
        """The same facts as JSON."""
        return self._get(_json, views)

    def _get(self, make: Callable[[Facts], Page], views: frozenset[str]) -> Page:
        facts = self._facts()
        with self._lock:
            if facts is not self._of or len(self._made) >= _KEPT:
                self._of = facts
                self._made.clear()
            page = self._made.get((make, views))
            if page is None:
                page = self._made[make, views] = make(facts.only(views))
            return page
