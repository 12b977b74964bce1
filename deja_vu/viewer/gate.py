"""Which requests the page answers: none that another page sent, and none under a name that is not this machine's."""

from __future__ import annotations

import contextlib
import http
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

ENTERING = threading.Lock()
"""Held while a server is started: `websockets` has one `serve` for all."""
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob: data:; "
    "connect-src 'self' ws://{host} wss://{host} blob: data:; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'self'"
)
"""Content security policy of the page: it loads, asks and tells nothing elsewhere, and nobody frames it."""


class Gate:
    """Which requests are answered."""

    def __init__(self, host: str) -> None:
        """For a server.

        Args:
            host: address on which it listens.
        """
        name = socket.gethostname().lower()
        self._names = {"localhost", host.lower(), name, f"{name}.local"}

    def refusal(self, host: str | None, origin: str | None, *, talks: bool) -> str | None:
        """Why a request is not answered; None where it is.

        A page elsewhere can send requests here, but the browser then says whose page it is (Origin). A name elsewhere can be made to mean
        this machine (DNS rebinding), but the browser then says that name (Host). Numeric addresses cannot be made to mean another machine.

        Args:
            host: what the request calls this server.
            origin: page that it comes from.
            talks: whether it asks for a web socket, which browsers never do without an origin.
        """
        if host is None or not self._is_own(host):
            return "This viewer does not answer to that name. Open it by the address that was printed when it started."
        if origin is None:
            return "A web socket is opened by the viewer's own page alone." if talks else None
        if origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            return "This viewer answers its own page alone."
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:  # half a bracket
            return False
        if name is None or "@" in host:
            return False
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return name.rstrip(".") in self._names


@contextlib.contextmanager
def guard_servers(gate: Gate) -> Iterator[None]:
    """Let every web socket server that is started meanwhile answer what the gate lets in; viser has no way of its own to say so.

    Args:
        gate: whom to let in.
    """
    from websockets.asyncio import server

    serve = server.serve

    def serve_guarded(*args: object, process_request: Callable[..., Response | None], **options: object) -> object:
        def answer(connection: ServerConnection, request: Request) -> Response | None:
            hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
            host, origin = (", ".join(values) if values else None for values in (hosts, origins))  # two of a kind match nothing
            reason = gate.refusal(host, origin, talks="Upgrade" in request.headers)
            if reason is not None:
                return connection.respond(http.HTTPStatus.FORBIDDEN, f"{reason}\n")
            response = process_request(connection, request)
            if response is not None:
                response.headers["Content-Security-Policy"] = POLICY.format(host=host)
                response.headers["X-Content-Type-Options"] = "nosniff"
                response.headers["Referrer-Policy"] = "no-referrer"
            return response

        return serve(*args, process_request=answer, **options)  # type: ignore[arg-type]

    with ENTERING:
        server.serve = serve_guarded  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            server.serve = serve  # type: ignore[misc]
