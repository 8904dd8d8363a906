"""Who calls, and what that caller may do.

What belongs here: the keys file, and from a request's header to a caller. What does not: reading requests,
and enforcing what is asked for.

A key is ``<name>.<secret>``. The file holds the SHA-256 of the secret: with 256 random bits nobody can guess
a secret from it, however fast the hash is.

    roles:
      scoring: {read: [trips, drivers]}     # feature views; "*" stands for all
      deciding: {predict: [fraud]}          # models, whatever features they read
      arrivals: {push: [trips]}             # sources that take pushes
    keys:
      - {name: checkout, role: scoring, sha256: 5b1c..., requests_per_second: 500}
"""

import binascii
import hashlib
import hmac
import logging
import re
import secrets
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field

from orchestration.declarations import Declared, parse_strict
from orchestration.feature_store.server.refusal import Refusal
from orchestration.settings import Settings

ANYBODY = "anybody"
EVERYTHING = "*"

_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_LOOK_SECONDS = 1.0
_log = logging.getLogger("groundwork.server")
_NOBODYS = "0" * 64


class KeysFault(ValueError):
    """A keys file that cannot be used; one line a fault: file, key, found, expected."""


def _a_name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError("expected small letters, digits, - and _")
    return value


def _a_hash(value: str) -> str:
    if not _SHA256.match(value):
        raise ValueError("expected 64 hex digits, as groundwork keys new prints them")
    return value


class AccessRole(Declared):
    """What the callers of a role may do."""

    read: tuple[str, ...] = ()
    push: tuple[str, ...] = ()
    predict: tuple[str, ...] = ()


class ApiKey(Declared):
    """One caller."""

    name: Annotated[str, AfterValidator(_a_name)]
    role: str
    sha256: Annotated[str, AfterValidator(_a_hash)]
    requests_per_second: Annotated[int, Field(gt=0)] | None = None


class KeysFile(Declared):
    """The whole file."""

    roles: Mapping[str, AccessRole]
    keys: Annotated[tuple[ApiKey, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Caller:
    """Who calls; ``limit`` is requests in a second."""

    name: str
    views: frozenset[str]
    sources: frozenset[str]
    limit: int | None
    models: frozenset[str] = frozenset()

    def check_views(self, wanted: Collection[str]) -> None:
        """Raise unless the caller may read all these views.

        Raises:
            Refusal: 403, naming the views.
        """
        if not self.views.issuperset(wanted):
            closed = ", ".join(sorted(set(wanted) - self.views))
            raise Refusal(403, f"{self.name} may not read {closed}")

    def check_push(self, source: str) -> None:
        """Raise unless the caller may push to a source.

        Raises:
            Refusal: 403.
        """
        if source not in self.sources:
            raise Refusal(403, f"{self.name} may not push to {source}")

    def check_model(self, model: str) -> None:
        """Raise unless the caller may ask a model.

        Raises:
            Refusal: 403.
        """
        if model not in self.models:
            raise Refusal(403, f"{self.name} may not ask model {model}")


def new_key(name: str) -> tuple[str, str]:
    """A key for a caller of that name, and the hash of its secret for the keys file.

    Raises:
        ValueError: No name a caller can have.
    """
    secret = secrets.token_urlsafe(32)
    return f"{_a_name(name)}.{secret}", hashlib.sha256(secret.encode()).hexdigest()


def _granted(names: Collection[str], known: Collection[str], place: str, faults: list[str]) -> frozenset[str]:
    if EVERYTHING in names:
        return frozenset(known)
    faults.extend(
        f"{place}: found {name!r}, expected one of {', '.join(sorted(known)) or 'none'}, or *"
        for name in names
        if name not in known
    )
    return frozenset(names)


def read_callers(
    path: Path,
    views: Collection[str],
    sources: Collection[str],
    default_limit: int | None,
    models: Collection[str] = (),
) -> dict[str, tuple[Caller, str]]:
    """The callers of a keys file with the hashes of their secrets, by name.

    Raises:
        KeysFault: The file is missing or cannot be used; all faults are listed.
    """
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise KeysFault(f"{path}: {error}") from error
    faults: list[str] = []
    file = parse_strict(KeysFile, held, str(path), "keys file", faults)
    if file is None:
        raise KeysFault("\n".join(faults))
    readable = {n: _granted(r.read, views, f"{path}: roles.{n}.read", faults) for n, r in file.roles.items()}
    pushable = {
        n: _granted(r.push, sources, f"{path}: roles.{n}.push", faults) for n, r in file.roles.items()
    }
    askable = {
        n: _granted(r.predict, models, f"{path}: roles.{n}.predict", faults) for n, r in file.roles.items()
    }
    faults.extend(
        f"{path}: keys.{key.name}.role: found {key.role!r}, expected one of {', '.join(file.roles)}"
        for key in file.keys
        if key.role not in file.roles
    )
    doubled = [name for name, n in Counter(key.name for key in file.keys).items() if n > 1]
    faults.extend(f"{path}: keys: found {name} twice, expected each name once" for name in doubled)
    if faults:
        raise KeysFault("\n".join(faults))
    return {
        key.name: (
            Caller(
                key.name,
                readable[key.role],
                pushable[key.role],
                key.requests_per_second or default_limit,
                askable[key.role],
            ),
            key.sha256,
        )
        for key in file.keys
    }


class Access:
    """From a request's headers to its caller.

    A keys file that has changed is read within a second. One that cannot be used changes nothing: the keys
    before it go on to count, and the log says why, once.

    Args:
        settings: The platform's settings; without a keys file, anybody who reaches the server may do all.
        views: Names of all feature views.
        sources: Names of all sources that take pushes.
        models: Names of all models.

    Raises:
        KeysFault: The keys file cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        views: Collection[str],
        sources: Collection[str],
        models: Collection[str] = (),
    ) -> None:
        self._views, self._sources, self._models = frozenset(views), frozenset(sources), frozenset(models)
        self._limit = settings.server_requests_per_second
        self._file = settings.server_keys_file
        self._callers: dict[str, tuple[Caller, str]] = {}
        self._anybody: Caller | None = None
        self._look_again = 0.0
        if self._file is None:
            self._anybody = Caller(ANYBODY, self._views, self._sources, self._limit, self._models)
        else:
            self._seen = _identity(self._file)
            self._callers = self._read(self._file)

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return self._anybody is not None

    def caller(self, authorization: bytes | None) -> Caller:
        """The caller whose key a request bears: ``Bearer <name>.<secret>``, or as a browser asks for it.

        Raises:
            Refusal: 401; the answer does not tell which part was wrong.
        """
        if self._anybody is not None:
            return self._anybody
        self._follow_file()
        name, secret = _credentials(authorization)
        known = self._callers.get(name)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        # An unknown name costs what a known one costs.
        is_right = hmac.compare_digest(digest, known[1] if known else _NOBODYS)
        if known is None or not is_right:
            raise Refusal(
                401,
                "expected a key: Authorization: Bearer <name>.<secret>",
                [(b"www-authenticate", b'Basic realm="groundwork", charset="UTF-8"')],
            )
        return known[0]

    def _read(self, file: Path) -> dict[str, tuple[Caller, str]]:
        return read_callers(file, self._views, self._sources, self._limit, self._models)

    def _follow_file(self) -> None:
        """Take a changed keys file for what it says, or leave everything as it is."""
        now = time.monotonic()
        if self._file is None or now < self._look_again:
            return
        self._look_again = now + _LOOK_SECONDS
        found = _identity(self._file)
        if found == self._seen:
            return
        self._seen = found
        try:
            self._callers = self._read(self._file)
        except KeysFault as fault:
            _log.error("the keys file cannot be used, the keys before it go on to count: %s", fault)
        else:
            _log.info("%s: %d keys", self._file, len(self._callers))


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What is another when a file has been written or replaced; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _credentials(authorization: bytes | None) -> tuple[str, str]:
    try:
        scheme, _, rest = (authorization or b"").decode().strip().partition(" ")
        if scheme.lower() == "bearer":
            name, _, secret = rest.strip().partition(".")
            return name, secret
        if scheme.lower() == "basic":
            name, _, secret = b64decode(rest, validate=True).decode().partition(":")
            return name, secret.removeprefix(f"{name}.")
    except (UnicodeDecodeError, binascii.Error):
        pass
    return "", ""
