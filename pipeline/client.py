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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import zmq

from pipeline.errors import BusError
from pipeline.public.key_folder import ClientKeys, read_client_keys
from pipeline.public.records import (
    MAX_REPLAY,
    STATUS,
    CameraStatus,
    Event,
    Evidence,
    event_from_json,
)
from pipeline.transport.messages import BadMessage

DEFAULT_EVENTS = "tcp://127.0.0.1:5555"
DEFAULT_REPLAY = "tcp://127.0.0.1:5556"
_CATCH_UP_S = 2.0
_SOON_S = 0.05
_DEAF_S = 10.0
"""After this long without an answer both connections are made again. ZeroMQ reconnects by itself,
but not after it met another program behind the address, as can happen while a program starts."""
_NOTHING = (1 << 63) - 1
_MOST_READY = MAX_REPLAY
"""Events that wait here to be received, at most; what comes after them is asked for later."""


class _Replay(msgspec.Struct):
    """The server's answer to a replay."""

    seq: int
    log: str
    events: list[Event] = []


class _Connection:
    """Both sockets of a client, from one connect to the next."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        events: str,
        replay: str,
        key: ClientKeys | None,
        topics: tuple[bytes, ...],
    ) -> None:
        self._events = context.socket(zmq.SUB)
        for topic in topics:
            self._events.setsockopt(zmq.SUBSCRIBE, topic)
        self._replay = context.socket(zmq.DEALER)
        # Requests are sent again every so often; to a server that is away they need not pile up.
        self._replay.setsockopt(zmq.SNDHWM, 4)
        self._poller = zmq.Poller()
        for socket, endpoint in ((self._events, events), (self._replay, replay)):
            socket.setsockopt(zmq.LINGER, 0)
            _show_key(socket, key)
            _connect(socket, endpoint)
            self._poller.register(socket, zmq.POLLIN)
        self.since = time.monotonic()

    def wait(self, seconds: float) -> Iterator[tuple[bytes | None, bytes]]:
        """(topic, JSON) of one message of each socket that has one within the time.

        An answer has no topic.
        """
        for socket, _ in self._poller.poll(round(seconds * 1000) + 1):
            parts = socket.recv_multipart()
            yield None if socket is self._replay else parts[0], parts[-1]

    def ask(self, request: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            self._replay.send(request, zmq.DONTWAIT)

    def close(self) -> None:
        self._events.close()
        self._replay.close()


def _connect(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise BusError(
            f"can't connect to {endpoint}: {error.strerror}; an endpoint looks like "
            "tcp://127.0.0.1:5555 or ipc:///path, and such a path has at most 107 bytes"
        ) from None


def _show_key(socket: "zmq.Socket[bytes]", key: ClientKeys | None) -> None:
    if key is not None:
        socket.setsockopt(zmq.CURVE_PUBLICKEY, key.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())
        socket.setsockopt(zmq.CURVE_SERVERKEY, key.server.encode())


class _Client:
    """What both clients share: the context of their sockets, which closing them ends."""

    def __init__(self, key: Path | None) -> None:
        self._key = read_client_keys(key) if key is not None else None
        self._context = zmq.Context()
        self._context.setsockopt(zmq.IPV6, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)


class EventClient(_Client):
    """Subscribes to events; fills holes by replay.

    ``since``: deliver everything after that ``seq`` first; None: begin with what comes next.
    ``camera`` and ``label`` filter what is delivered. ``key`` is the file that
    ``two-stream keys new`` made for this client, where the server asks for one; raises
    :class:`pipeline.errors.KeysError` when it can't be used, and
    :class:`pipeline.errors.BusError` for an endpoint that can't be one.

    ``log`` is the identity of the log that ``since`` counts in, :attr:`Event.log`. Give it where
    ``since`` was stored: the program may run with another log by now, which is then read from its
    first event. ``known`` says where to go on instead in each log that was read before.
    ``on_status`` is called with each camera status that arrives, while the client waits.
    """

    def __init__(
        self,
        events: str = DEFAULT_EVENTS,
        replay: str = DEFAULT_REPLAY,
        *,
        since: int | None = None,
        log: str | None = None,
        known: Mapping[str, int] | None = None,
        camera: str | None = None,
        label: str | None = None,
        key: Path | None = None,
        on_status: Callable[[CameraStatus], None] | None = None,
    ) -> None:
        super().__init__(key)
        self._endpoints = events, replay
        # All events, whatever the filter: a hole in seq must be seen to be filled.
        self._topics = (b"action/",) if on_status is None else (b"action/", b"status/")
        self._on_status = on_status
        self._connection = self._connected()
        self._since = self._last = since
        self._known = dict(known or {})
        self._camera = camera
        self._label = label
        self._ready: deque[Event] = deque()
        self._log = log if since is not None else None
        self._heard = self._newest = 0
        self.forgotten = 0
        """Events that were deleted from the log, as old ones are, before this client asked."""
        self._asking = False
        self._asked_at = self._answered_at = float("-inf")

    @property
    def last_seq(self) -> int | None:
        """``seq`` of the newest event received; None before the server's first message."""
        return self._last

    @property
    def log(self) -> str | None:
        """Identity of the event log; None before the server's first answer."""
        return self._log

    @property
    def newest_seq(self) -> int:
        """The greatest ``seq`` of the log that this client has heard of."""
        return max(self._newest, self._heard, self._last or 0)

    @property
    def answered_s(self) -> float:
        """How long ago the server answered last; infinite: never yet."""
        return time.monotonic() - self._answered_at

    def attend(self, seconds: float) -> None:
        """Take in what arrives for so long, and deliver nothing.

        For who can't take events for a while: states go on, and memory stays bounded.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._catch_up()
            self._wait(min(left, _CATCH_UP_S))

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None when none came within ``timeout_s`` (None: wait for ever)."""
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
            _show_key(socket, self._key)
            socket.connect(self._endpoints[1])
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

    def _next_wanted(self) -> Event | None:
        while self._ready:
            event = self._ready.popleft()
            if self._camera in (None, event.camera) and self._label in (None, event.label):
                return event
        return None

    def _wait(self, seconds: float) -> None:
        for topic, body in self._connection.wait(seconds):
            if topic is None:
                self._take_answer(body)
            elif topic.startswith(b"action/"):
                self._take(body)
            else:
                self._take_status(topic, body)

    def _take_status(self, topic: bytes, body: bytes) -> None:
        # status/_log/ and status/_governor/ are the program's own; no camera's name begins so.
        if self._on_status is not None and not topic.startswith(f"{STATUS.name}/_".encode()):
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                self._on_status(msgspec.json.decode(body, type=CameraStatus))

    def _take(self, body: bytes) -> None:
        try:
            event = event_from_json(body)
        except BadMessage:
            return
        same_log = not event.log or self._log in (None, event.log)
        is_next = self._last is None or (event.seq == self._last + 1 and same_log)
        if is_next and len(self._ready) < _MOST_READY:
            self._deliver(event)
            return
        # A hole, or a number that was used before: another log may have begun.
        self._heard = max(self._heard, event.seq)
        if not self._asking and not is_next:
            self._ask()

    def _deliver(self, event: Event) -> None:
        self._last = event.seq
        self._ready.append(event)

    def _catch_up(self) -> None:
        """Ask now and then even when nothing seems missing: the last event may be the lost one."""
        now = time.monotonic()
        if now - max(self._connection.since, self._answered_at) >= _DEAF_S:
            self._connection.close()
            self._connection = self._connected()
        since_ask = now - max(self._asked_at, self._answered_at)
        # What there was no room for is asked for as soon as there is.
        has_room = len(self._ready) < _MOST_READY and not self._asking
        is_behind = self._last is not None and self._last < self._newest and has_room
        if since_ask >= (_SOON_S if is_behind else _CATCH_UP_S):
            self._ask()

    def _connected(self) -> _Connection:
        return _Connection(self._context, *self._endpoints, self._key, self._topics)

    def _ask(self) -> None:
        self._asking, self._asked_at = True, time.monotonic()
        full = len(self._ready) >= _MOST_READY
        since = self._last if self._last is not None and not full else _NOTHING
        request = msgspec.json.encode({"request": "replay", "since": since})
        self._connection.ask(request)

    def _take_answer(self, body: bytes) -> None:
        try:
            answer = msgspec.json.decode(body, type=_Replay)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        is_first = self._answered_at == float("-inf")
        self._asking, self._answered_at = False, time.monotonic()
        known, self._log = self._log, answer.log
        self._newest = answer.seq
        if self._last is None:
            self._last = answer.seq
            return
        # A stale answer is not a new log: only a changed identity, or a seq below `since`, is.
        below = answer.seq < (self._since or 0)
        if answer.log != known if known is not None else below:
            # The program was restarted with another log, mostly with an empty one.
            if known is not None:
                self._known[known] = self._last
            self._go_on_from(min(self._known.get(answer.log, 0), answer.seq))
            return
        if is_first and below:
            # The log is an older copy of itself: its next events use the same numbers again.
            self._go_on_from(answer.seq)
            return
        for event in answer.events:
            if event.seq > self._last:
                # The log has no holes but the old events that it deleted.
                self.forgotten += event.seq - self._last - 1
                self._deliver(event)
        if self._heard > answer.seq or (answer.events and self._last < answer.seq):
            self._ask()

    def _go_on_from(self, seq: int) -> None:
        self._last, self._heard = seq, 0
        self._ask()


class _EvidenceReplay(msgspec.Struct):
    """The server's answer to a request for evidence; an error has none."""

    log: str
    number: int = 0
    evidence: list[Evidence] = []
    error: str | None = None


class EvidenceClient(_Client):
    """Delivers the clips and pictures of events, in order, once.

    ``since``: everything after that number; None: begin with what comes next.
    It asks the ROUTER socket for what comes after the last number that it has, whenever the PUB
    socket says that there is something, and every few seconds in case that word was lost.
    ``log`` is the identity of the log that ``since`` counts in; in another, everything is new.
    ``key`` is the client's key file, where the server asks for one. Raises
    :class:`pipeline.errors.KeysError` and :class:`pipeline.errors.BusError`.
    """

    def __init__(
        self,
        events: str = DEFAULT_EVENTS,
        replay: str = DEFAULT_REPLAY,
        *,
        since: int | None = None,
        log: str | None = None,
        key: Path | None = None,
    ) -> None:
        super().__init__(key)
        self._endpoints = events, replay
        self._connection = self._connected()
        self._last, self._log = since, log
        self._ready: deque[Evidence] = deque()
        self._asked_at = self._answered_at = float("-inf")

    @property
    def last_number(self) -> int | None:
        """Number of the newest evidence received; None before the server's first answer."""
        return self._last

    def receive(self, timeout_s: float | None = None) -> Evidence | None:
        """The next evidence; None when none came within ``timeout_s`` (None: wait for ever)."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ready:
            self._ask_when_due()
            left = _CATCH_UP_S if deadline is None else deadline - time.monotonic()
            self._wait(max(0.0, min(left, _CATCH_UP_S)))
            if left <= 0:
                break
        return self._ready.popleft() if self._ready else None

    def __iter__(self) -> Iterator[Evidence]:
        while True:
            evidence = self.receive()
            if evidence is not None:
                yield evidence

    def _connected(self) -> _Connection:
        return _Connection(self._context, *self._endpoints, self._key, (b"evidence/",))

    def _ask_when_due(self) -> None:
        now = time.monotonic()
        if now - max(self._connection.since, self._answered_at) >= _DEAF_S:
            self._connection.close()
            self._connection = self._connected()
        if now - max(self._asked_at, self._answered_at) >= _CATCH_UP_S:
            self._ask()

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        # Without a number, one beyond all says which is the newest.
        since = _NOTHING if self._last is None else self._last
        self._connection.ask(msgspec.json.encode({"request": "evidence", "since": since}))

    def _wait(self, seconds: float) -> None:
        for topic, body in self._connection.wait(seconds):
            if topic is not None:
                self._ask()
                continue
            try:
                answer = msgspec.json.decode(body, type=_EvidenceReplay)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            self._answered_at = time.monotonic()
            if answer.error is None:
                self._take(answer)

    def _take(self, answer: _EvidenceReplay) -> None:
        known, self._log = self._log, answer.log
        if self._last is None:
            self._last = answer.number
            return
        if known not in (None, answer.log):
            # The program was restarted with an empty log.
            self._last = 0
            self._ask()
            return
        for evidence in answer.evidence:
            if evidence.number > self._last:
                self._last = evidence.number
                self._ready.append(evidence)
        if answer.evidence and self._last < answer.number:
            self._ask()
