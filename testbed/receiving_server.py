"""A real HTTP server that keeps what is posted to it, and answers as a test wants."""

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Posted:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What the server says. ``delay_s`` is before the status."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    hang_up: bool = False
    """Close the connection instead of answering."""


@dataclass
class ReceivingServer:
    """``answer`` says what comes back for each request; ``taken`` are those answered with 2xx."""

    answer: Callable[[Posted], Answer] = lambda _posted: Answer()
    port: int = 0
    posted: list[Posted] = field(default_factory=list)
    taken: list[Posted] = field(default_factory=list)
    _reserved: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()
        if self._reserved is not None:
            self._reserved.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Also again after :meth:`stop`, on the same port."""
        if self._reserved is None:
            # Nobody else gets the port while the server is stopped. Bound alone, it takes nothing.
            self._reserved = socket.socket()
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind(("127.0.0.1", self.port))
            self.port = self._reserved.getsockname()[1]
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.owner = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: ReceivingServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_POST(self) -> None:
        owner = self.server.owner
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            return  # who sent it was killed, or the line was cut: no server takes half a request
        posted = Posted(self.path, dict(self.headers), body)
        owner.posted.append(posted)
        answer = owner.answer(posted)
        time.sleep(answer.delay_s)
        if answer.hang_up:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if 200 <= answer.status < 300:
            owner.taken.append(posted)
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass
