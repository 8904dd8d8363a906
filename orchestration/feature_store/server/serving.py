"""Starting the server: where it listens, in how many processes, and how it stops.

What belongs here: uvicorn, sockets, TLS. What does not: requests.
"""

import ipaddress
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from orchestration.feature_store.server.at_once import AtOnceProtocol
from orchestration.settings import Settings

_BACKLOG = 2048


class ServingFault(ValueError):
    """Settings under which the server does not start."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(settings: Settings) -> None:
    """Raise if others could reach a server that asks nobody for a key.

    Raises:
        ServingFault: The address is not loopback, and there is no keys file.
    """
    if not is_loopback(settings.server_host) and settings.server_keys_file is None:
        raise ServingFault(
            f"GROUNDWORK_SERVER_HOST: found {settings.server_host} and no keys: whoever reaches it could "
            "read every feature and push rows. Expected 127.0.0.1, or a keys file named by "
            "GROUNDWORK_SERVER_KEYS_FILE (groundwork keys new <name> makes a key)"
        )


def serve(settings: Settings, make_app: Callable[[], Any]) -> None:
    """Serve until told to stop (SIGTERM or Ctrl-C); requests under way are answered first.

    Args:
        settings: The platform's settings.
        make_app: Makes the ASGI application in each worker; picklable if there are several.

    Raises:
        ServingFault: The address is open to others and there is no keys file.
        OSError: The address is taken.
    """
    check_exposure(settings)
    config = uvicorn.Config(
        make_app,
        factory=True,
        host=settings.server_host,
        port=settings.server_port,
        workers=settings.server_workers,
        loop="uvloop",
        http=AtOnceProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        log_level=logging.INFO,
        backlog=_BACKLOG,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=settings.server_shutdown_seconds,
        ssl_certfile=settings.server_tls_certificate,
        ssl_keyfile=settings.server_tls_key,
    )
    if settings.server_workers == 1:
        # Once it has stopped, uvicorn raises the signal again: that it was told to stop is no failure.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()
        return
    socket = config.bind_socket()
    try:
        Multiprocess(config, [socket]).run()
    finally:
        socket.close()
