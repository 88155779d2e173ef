"""A small HTTP server that many or slow clients can't harm."""

import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from pipeline.clock import NS_PER_S, Clock
from pipeline.errors import StartupError

MOST_CLIENTS = 16
LONGEST_S = 5.0
"""A client that has its answer no sooner than this is cut off."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Pages = Mapping[str, Callable[[str], Page]]
"""What makes the page at a path, given the request's ``Accept`` header."""


class MonitorServer:
    """Serves ``pages`` at ``host:port`` in threads of its own until it is closed.

    Raises :class:`StartupError` when the port can't be had, which names the ``key`` of the address.
    """

    def __init__(
        self, address: str, pages: Pages, clock: Clock, *, key: str = "supervisor.metrics"
    ) -> None:
        host, _, port = address.rpartition(":")
        try:
            family, _, _, _, place = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._server = _Server(family, place, pages, clock)
        except OSError as error:
            raise StartupError(
                f"{key}: can't serve at {address}: {error.strerror}; "
                "choose another port, or stop what uses it"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Holds at most :data:`MOST_CLIENTS`, each for at most :data:`LONGEST_S`.

    A new client is never refused: the oldest makes room for it.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_port = False  # two runs must not share a port unawares
    request_queue_size = 64

    def __init__(
        self, family: socket.AddressFamily, place: tuple[Any, ...], pages: Pages, clock: Clock
    ) -> None:
        self.address_family = family
        self.pages = pages
        self._clock = clock
        self._clients: dict[socket.socket, int] = {}
        super().__init__((place[0], place[1]), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would ask the name service for this machine's name, which can take long.
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            # Of file descriptors there may be none left; what waits stays ready meanwhile.
            self._clock.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        for oldest in list(self._clients)[: len(self._clients) - MOST_CLIENTS + 1]:
            self._cut(oldest)
        self._clients[request] = self._clock.monotonic_ns()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._clients.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called twice a second and after each new client."""
        now_ns = self._clock.monotonic_ns()
        for client, since_ns in list(self._clients.items()):
            if now_ns - since_ns > LONGEST_S * NS_PER_S:
                self._cut(client)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError | ValueError):  # it has left, or was cut off
            log.debug("metrics: a client was lost: %s", error)
        else:
            log.error("metrics: a request failed: %s: %s", type(error).__name__, error)

    def _cut(self, client: socket.socket) -> None:
        """Wake the client's thread, which then closes the socket."""
        self._clients.pop(client, None)
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("metrics: a client had left before it was cut off")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "two-stream"
    sys_version = ""
    timeout = LONGEST_S
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    _allowed: ClassVar = {"Allow": "GET, HEAD"}

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _refuse(self) -> None:
        body = b"only GET and HEAD\n"
        self._send(Page(body, status=HTTPStatus.METHOD_NOT_ALLOWED), self._allowed)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def _answer(self) -> None:
        make = self.server.pages.get(self.path.partition("?")[0])
        if make is None:
            known = ", ".join(self.server.pages)
            page = Page(f"not found; there are {known}\n".encode(), status=HTTPStatus.NOT_FOUND)
        else:
            page = make(self.headers.get("Accept", ""))
        self._send(page)

    def _send(self, page: Page, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(page.status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("metrics: %s: %s", self.address_string(), format % args)
