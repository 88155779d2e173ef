"""A client for Python users: every event, in order, once.

::

    from pipeline.client import EventClient

    with EventClient() as client:
        for event in client:
            print(event.camera, event.label, event.type, event.score)

It listens to the PUB socket, sees from ``seq`` when it missed something, and asks the ROUTER socket
to replay it. From other languages: ``docs/messages.md``.
"""

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import zmq

from pipeline.keys import read_client_keys
from pipeline.messages import BadMessage, Event, event_from_json

DEFAULT_EVENTS = "tcp://127.0.0.1:5555"
DEFAULT_REPLAY = "tcp://127.0.0.1:5556"
_CATCH_UP_S = 2.0
_DEAF_S = 10.0
"""After so long without an answer both connections are made anew. ZeroMQ connects again by itself,
but not after meeting somebody else behind the address, as may be while a program starts."""
_NOTHING = (1 << 63) - 1


class _Replay(msgspec.Struct):
    """The server's answer to a replay."""

    seq: int
    log: str
    events: list[Event] = []


class EventClient:
    """Subscribes to events; fills holes by replay.

    ``since``: deliver everything after that ``seq`` first; None: begin with what comes next.
    ``camera`` and ``label`` filter what is delivered. ``key`` is the file that
    ``python -m pipeline.keys new`` made for this client, where the server asks for one; raises
    :class:`pipeline.errors.KeysError` when it can't be used.
    """

    def __init__(
        self,
        events: str = DEFAULT_EVENTS,
        replay: str = DEFAULT_REPLAY,
        *,
        since: int | None = None,
        camera: str | None = None,
        label: str | None = None,
        key: Path | None = None,
    ) -> None:
        self._key = read_client_keys(key) if key is not None else None
        self._context = zmq.Context()
        self._context.setsockopt(zmq.IPV6, 1)
        self._events_endpoint, self._replay_endpoint = events, replay
        self._connect()
        self._since = self._last = since
        self._camera = camera
        self._label = label
        self._ready: deque[Event] = deque()
        self._log: str | None = None
        self._heard = 0
        self.forgotten = 0
        """Events that were taken out of the log, as old ones are, before they were asked for."""
        self._asking = False
        self._asked_at = self._answered_at = float("-inf")

    @property
    def last_seq(self) -> int | None:
        """``seq`` of the newest event taken in; None before the first word of the server."""
        return self._last

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None when none came within ``timeout_s`` (None: wait for ever)."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            event = self._next_wanted()
            if event is not None:
                return event
            self._catch_up()
            left = _CATCH_UP_S if deadline is None else deadline - time.monotonic()
            self._wait(max(0.0, min(left, _CATCH_UP_S)))
            if left <= 0:
                return self._next_wanted()

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """``seq``, the state of each camera and the events that go on now.

        Raises TimeoutError when nobody answers.
        """
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            self._show_key(socket)
            socket.connect(self._replay_endpoint)
            socket.send(b'{"request":"snapshot"}')
            if not socket.poll(round(timeout_s * 1000)):
                raise TimeoutError(f"no snapshot within {timeout_s:g} s")
            answer: dict[str, Any] = msgspec.json.decode(socket.recv())
            return answer
        finally:
            socket.close()

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = self.receive()
            if event is not None:
                yield event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _connect(self) -> None:
        self._events = self._context.socket(zmq.SUB)
        self._events.setsockopt(zmq.LINGER, 0)
        # All events, whatever the filter: a hole in seq must be seen to be filled.
        self._events.setsockopt(zmq.SUBSCRIBE, b"action/")
        self._replay = self._context.socket(zmq.DEALER)
        self._replay.setsockopt(zmq.LINGER, 0)
        # Requests to a server that is away are made anew every so often; they need not pile up.
        self._replay.setsockopt(zmq.SNDHWM, 4)
        self._poller = zmq.Poller()
        for socket, endpoint in (
            (self._events, self._events_endpoint),
            (self._replay, self._replay_endpoint),
        ):
            self._show_key(socket)
            socket.connect(endpoint)
            self._poller.register(socket, zmq.POLLIN)
        self._connected_at = time.monotonic()

    def _connect_anew(self) -> None:
        self._events.close()
        self._replay.close()
        self._connect()

    def _show_key(self, socket: "zmq.Socket[bytes]") -> None:
        if self._key is not None:
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._key.public.encode())
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._key.secret.encode())
            socket.setsockopt(zmq.CURVE_SERVERKEY, self._key.server.encode())

    def _next_wanted(self) -> Event | None:
        while self._ready:
            event = self._ready.popleft()
            if self._camera in (None, event.camera) and self._label in (None, event.label):
                return event
        return None

    def _wait(self, seconds: float) -> None:
        for socket, _ in self._poller.poll(round(seconds * 1000) + 1):
            if socket is self._events:
                self._take(self._events.recv_multipart()[-1])
            else:
                self._take_answer(self._replay.recv_multipart()[-1])

    def _take(self, body: bytes) -> None:
        try:
            event = event_from_json(body)
        except BadMessage:
            return
        same_log = not event.log or self._log in (None, event.log)
        if self._last is None or (event.seq == self._last + 1 and same_log):
            self._deliver(event)
            return
        # A hole; or a number that was there before, which another log would give.
        self._heard = max(self._heard, event.seq)
        if not self._asking:
            self._ask()

    def _deliver(self, event: Event) -> None:
        self._last = event.seq
        self._ready.append(event)

    def _catch_up(self) -> None:
        """Ask now and then even when nothing seems missing: the last event may be the lost one."""
        now = time.monotonic()
        if now - max(self._connected_at, self._answered_at) >= _DEAF_S:
            self._connect_anew()
        if now - max(self._asked_at, self._answered_at) >= _CATCH_UP_S:
            self._ask()

    def _ask(self) -> None:
        self._asking, self._asked_at = True, time.monotonic()
        since = self._last if self._last is not None else _NOTHING
        request = msgspec.json.encode({"request": "replay", "since": since})
        with contextlib.suppress(zmq.Again):
            self._replay.send(request, zmq.DONTWAIT)

    def _take_answer(self, body: bytes) -> None:
        try:
            answer = msgspec.json.decode(body, type=_Replay)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._asking, self._answered_at = False, time.monotonic()
        known, self._log = self._log, answer.log
        if self._last is None:
            self._last = answer.seq
            return
        # An answer may be older than what was heard since; only these two tell another log.
        fresh = answer.log != known if known is not None else answer.seq < (self._since or 0)
        if fresh:
            # The program was started anew with an empty log.
            self._last = self._heard = 0
            self._ask()
            return
        for event in answer.events:
            if event.seq > self._last:
                # The log holds no hole but what it was told to forget.
                self.forgotten += event.seq - self._last - 1
                self._deliver(event)
        if self._heard > answer.seq or (answer.events and self._last < answer.seq):
            self._ask()
