"""The client against the real publish stage: every event, in order, once."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import msgspec
import pytest
import zmq

from pipeline.client import EventClient
from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import Config, validate
from pipeline.public.records import MAX_REPLAY, Event
from pipeline.stages.base import Context
from pipeline.stages.link import SupervisorLink
from pipeline.stages.outbox import Outbox
from pipeline.stages.publish import Publish
from pipeline.topology import StageSpec
from pipeline.transport import topics
from pipeline.transport.bus import Bus
from pipeline.transport.messages import CameraStatus, Transition
from pipeline.transport.run_identity import RunIdentity
from testbed import tiny_pack
from testbed.samples import event as an_event
from testbed.samples import transition

SPEC = StageSpec("publish", "", ("door", "yard"))


class Server:
    """A publish stage in a thread, fed over real sockets by an outbox of fusion's."""

    def __init__(self, root: Path, log: str, events: str = "events") -> None:
        self.root = root
        self.config = config(root, log, events)
        self._stop, self._ready = Flag(), Flag()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20)
        self.bus = Bus(root, lossless=False)
        dealer = self.bus.dealer(topics.TRANSITION, "fusion")
        self.bus.watch(dealer)
        self._outbox = Outbox(dealer, SYSTEM_CLOCK)
        self._status = self.bus.push(topics.STATUS)
        self._settle()

    def _run(self) -> None:
        bus = Bus(self.root, lossless=False)
        context = Context(
            spec=SPEC,
            config=self.config,
            run=RunIdentity.new(),
            run_dir=self.root,
            bus=bus,
            link=SupervisorLink(bus, SPEC.name, SYSTEM_CLOCK, 1000.0),
            clock=SYSTEM_CLOCK,
            origin_ns=0,
            first_number=0,
            counters=Counter(),
        )
        stage = Publish(context)
        self._ready.set()
        while not self._stop.is_set():
            stage.work()
            bus.poll(0.01)
        stage.close()
        bus.close()

    def emit(self, *transitions: Transition) -> None:
        """Returns when all are in the log and on the wire."""
        for one in transitions:
            self._outbox.send(one)
        self._settle()

    def starts(self, count: int, label: str = "left") -> None:
        first = time.monotonic_ns()
        self.emit(*(transition(number=first + n, label=label) for n in range(count)))

    def say(self, status: CameraStatus) -> None:
        self._status.send(status)

    def _settle(self) -> None:
        deadline = time.monotonic() + 20
        while not self._outbox.empty:
            assert time.monotonic() < deadline, "publish did not accept"
            self._outbox.work()
            self.bus.poll(0.02)

    def stop(self) -> None:
        self.bus.close()
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def config(root: Path, log: str, events: str) -> Config:
    return validate(
        {
            "cameras": {camera: {} for camera in SPEC.cameras},
            "model": str(root / "tiny"),
            "events": {"log": str(root / log)},
            "publish": {"events": f"ipc://{root}/{events}", "replay": f"ipc://{root}/replay"},
        }
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_pack.make(tmp_path / "tiny")
    return tmp_path


@pytest.fixture
def servers(root: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(log: str = "log", events: str = "events") -> Server:
        made.append(Server(root, log, events))
        return made[-1]

    yield make
    for server in made:
        if not server._stop.is_set():
            server.stop()


def connect(root: Path, since: int | None = None, **more: Any) -> EventClient:
    return EventClient(f"ipc://{root}/events", f"ipc://{root}/replay", since=since, **more)


def listening(root: Path, server: Server) -> EventClient:
    """A client that receives; then each condition for that is removed."""
    client = connect(root)
    deadline = time.monotonic() + 10
    while client.receive(0.05) is None:
        assert time.monotonic() < deadline
        server.starts(1)
    while client.receive(0.3) is not None:
        pass
    return client


def take(client: EventClient, count: int, timeout_s: float = 15.0) -> list[Event]:
    deadline = time.monotonic() + timeout_s
    found: list[Event] = []
    while len(found) < count and (left := deadline - time.monotonic()) > 0:
        event = client.receive(left)
        if event is not None:
            found.append(event)
    return found


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


def test_events_arrive_as_they_happen(root: Path, servers: Callable[..., Server]) -> None:
    server = servers()
    with listening(root, server) as client:
        last = client.last_seq
        assert last is not None
        server.emit(transition(), transition("update"), transition("end"))
        found = take(client, 3)
    assert seqs(found) == [last + 1, last + 2, last + 3]
    assert [e.type for e in found] == ["start", "update", "end"]
    assert len({e.id for e in found}) == 1
    assert found[0].model.name == "tiny"
    assert found[0].start_time.endswith("Z")
    assert set(found[0].latency_ms) == {"capture", "flow", "publish", "total"}


def test_a_late_client_gets_all_since(root: Path, servers: Callable[..., Server]) -> None:
    server = servers()
    server.starts(5)
    with connect(root, since=0) as client:
        assert seqs(take(client, 5)) == [1, 2, 3, 4, 5]
    with connect(root, since=3) as client:
        assert seqs(take(client, 2)) == [4, 5]
        server.starts(1)
        assert seqs(take(client, 1)) == [6]


@pytest.mark.slow
def test_who_met_somebody_else_behind_the_address_connects_anew(
    root: Path, servers: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZeroMQ abandons a connection for good when its other end uses another protocol."""
    monkeypatch.setattr("pipeline.client._DEAF_S", 1.0)
    with zmq.Context() as context, context.socket(zmq.PUB) as stranger:
        stranger.bind(f"ipc://{root}/replay")
        client = connect(root, since=0)
        assert client.receive(0.5) is None
    server = servers()
    server.starts(3)
    with client:
        assert seqs(take(client, 3)) == [1, 2, 3]


@pytest.mark.slow
def test_more_than_one_answer_can_hold(root: Path, servers: Callable[..., Server]) -> None:
    server = servers()
    count = MAX_REPLAY + 20
    for _ in range(count // 51 + 1):
        server.starts(51)
    with connect(root, since=0) as client:
        assert seqs(take(client, count)) == list(range(1, count + 1))


@pytest.mark.slow
def test_a_client_without_since_begins_with_what_comes_next(
    root: Path, servers: Callable[..., Server]
) -> None:
    server = servers()
    server.starts(5)
    with connect(root) as client:
        assert client.receive(0.5) is None
        assert client.last_seq == 5
        server.starts(2)
        assert seqs(take(client, 2)) == [6, 7]


def test_receive_with_no_time_takes_what_is_there(
    root: Path, servers: Callable[..., Server]
) -> None:
    server = servers()
    with listening(root, server) as client:
        server.starts(1)
        deadline = time.monotonic() + 5
        while (event := client.receive(0)) is None:
            assert time.monotonic() < deadline
        assert event.type == "start"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("camera", "label", "expected"),
    [
        ("door", None, [("door", "left"), ("door", "right")]),
        (None, "left", [("door", "left"), ("yard", "left")]),
        ("yard", "right", [("yard", "right")]),
        ("doo", None, []),
    ],
)
def test_filters_are_exact(
    root: Path,
    servers: Callable[..., Server],
    camera: str | None,
    label: str | None,
    expected: list[tuple[str, str]],
) -> None:
    server = servers()
    server.emit(
        *(
            transition(number=number, camera=camera, label=label)
            for camera in SPEC.cameras
            for number, label in enumerate(("left", "right"))
        )
    )
    with connect(root, since=0, camera=camera, label=label) as client:
        found = take(client, len(expected) + 1, timeout_s=0.7)
        assert client.last_seq == 4
    assert [(e.camera, e.label) for e in found] == expected


@pytest.mark.slow
def test_a_hole_is_filled_by_replay_in_order(root: Path, servers: Callable[..., Server]) -> None:
    server = servers()
    with listening(root, server) as client:
        last = client.last_seq
        assert last is not None
        server.stop()
        # The same log continues where the client can't receive it.
        deaf = servers(events="elsewhere")
        deaf.starts(3)
        deaf.stop()
        again = servers()
        time.sleep(0.7)  # the longest pause before ZeroMQ connects again
        again.starts(2)
        found = take(client, 10, timeout_s=3.0)
        ended = [e for e in found if e.type == "end"]
        assert seqs(found) == list(range(last + 1, last + 1 + len(found)))
        assert len(found) - len(ended) == 5
        assert {e.reason for e in ended} == {"interrupted"}


@pytest.mark.slow
def test_a_fresh_log_is_noticed_and_read_from_its_first(
    root: Path, servers: Callable[..., Server]
) -> None:
    server = servers(log="first")
    with listening(root, server) as client:
        server.starts(3)
        assert len(take(client, 3)) == 3
        server.stop()
        again = servers(log="second")
        again.starts(2)
        assert seqs(take(client, 2)) == [1, 2]
        again.starts(1)
        assert seqs(take(client, 1)) == [3]
        assert client.receive(2.5) is None


@pytest.mark.slow
def test_a_fresh_log_that_is_already_longer_is_noticed_too(
    root: Path, servers: Callable[..., Server]
) -> None:
    server = servers(log="first")
    server.starts(1)
    with connect(root, since=0) as client:
        assert seqs(take(client, 1)) == [1]
        server.stop()
        deaf = servers(log="second", events="elsewhere")
        deaf.starts(4)
        assert seqs(take(client, 4)) == [1, 2, 3, 4]
        assert client.receive(2.5) is None


@pytest.mark.slow
def test_a_fresh_log_that_is_just_as_long_is_noticed_by_its_name(
    root: Path, servers: Callable[..., Server]
) -> None:
    """Its next event has the very number that the client waits for."""
    first = servers()
    with connect(root, since=0) as client:
        first.starts(3)
        assert seqs(take(client, 3)) == [1, 2, 3]
        while client._log is None:
            client.receive(0.1)
        first.stop()
        # After the other side has reconnected: these events arrive by subscription, not by replay.
        second = servers(log="other")
        client.snapshot()
        time.sleep(0.3)
        second.starts(4, label="right")
        heard = take(client, 4, 10.0)
        assert [(e.seq, e.label) for e in heard] == [(n, "right") for n in (1, 2, 3, 4)]
        assert client.receive(0.5) is None


def test_what_the_log_has_forgotten_is_counted(root: Path, servers: Callable[..., Server]) -> None:
    server = servers()
    server.starts(5)
    log = sqlite3.connect(root / "log")
    with log:
        log.execute("DELETE FROM events WHERE seq IN (1, 2, 4)")
    log.close()
    with connect(root, since=0) as client:
        assert seqs(take(client, 2)) == [3, 5]
        assert client.forgotten == 3
        server.starts(1)
        assert seqs(take(client, 1)) == [6]


def test_a_since_of_another_log_begins_anew(root: Path, servers: Callable[..., Server]) -> None:
    servers().starts(2)
    with connect(root, since=41) as client:
        assert seqs(take(client, 2)) == [1, 2]


def test_a_since_that_names_its_log_is_taken_in_that_log_alone(
    root: Path, servers: Callable[..., Server]
) -> None:
    server = servers()
    server.starts(5)
    with connect(root, since=3, log="another") as client:
        assert seqs(take(client, 5)) == [1, 2, 3, 4, 5]
        identity = client.log
        assert identity not in (None, "another")
        assert client.newest_seq == 5
    with connect(root, since=3, log=identity) as client:
        assert seqs(take(client, 2)) == [4, 5]
    # It goes on where it was in a log that it has read before.
    known = {"another": 9, str(identity): 4}
    with connect(root, since=9, log="another", known=known) as client:
        assert seqs(take(client, 1)) == [5]


def test_a_log_that_is_an_older_copy_of_itself_uses_its_numbers_again(
    root: Path, servers: Callable[..., Server]
) -> None:
    server = servers()
    server.starts(3)
    with connect(root, since=0) as client:
        take(client, 3)
        while client.log is None:
            client.receive(0.1)
        identity = client.log
    with connect(root, since=41, log=identity) as client:
        while client.last_seq == 41:
            client.receive(0.05)
        server.starts(2)
        assert seqs(take(client, 2)) == [4, 5]


@pytest.mark.slow
def test_who_only_attends_keeps_a_bounded_number_and_misses_nothing(
    root: Path, servers: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.client._MOST_READY", 10)
    server = servers()
    heard: list[str] = []
    with connect(root, since=0, on_status=lambda status: heard.append(status.camera)) as client:
        deadline = time.monotonic() + 20
        while not heard or client.newest_seq < 40:
            assert time.monotonic() < deadline
            if client.newest_seq < 40:
                server.starts(5)
            server.say(
                CameraStatus(
                    camera="door", state="online", reason=None, at_ns=time.monotonic_ns(),
                    segment=0, size=None,
                )
            )  # fmt: skip
            client.attend(0.1)
            # One answer may hold more; nothing is asked for after it.
            assert len(client._ready) <= MAX_REPLAY
        count = client.newest_seq
        server.starts(1)
        assert seqs(take(client, count + 1)) == list(range(1, count + 2))
    assert set(heard) == {"door"}


@pytest.mark.slow
def test_an_answer_older_than_what_was_heard_is_no_new_log(root: Path) -> None:
    """The server is ours here, to send what a race sends: an event before an older answer."""
    bus = Bus(root, lossless=False)
    wire = bus.public_publisher(f"ipc://{root}/events")
    router = bus.public_router(f"ipc://{root}/replay")
    stale = msgspec.json.encode({"schema": 1, "log": "one", "seq": 5, "events": []})
    asked: list[bytes] = []

    def answer(body: bytes) -> bytes:
        asked.append(body)
        return stale

    client = connect(root, since=5)
    deadline = time.monotonic() + 10
    found: list[Event] = []
    while not found:
        assert time.monotonic() < deadline
        wire.send("action/door/left/", msgspec.json.encode(an_event(6)))
        found += [e for e in [client.receive(0.05)] if e is not None]
    while client.receive(0.05) is None and len(asked) < 2:
        assert time.monotonic() < deadline
        router.serve(answer)
    assert client.last_seq == 6
    assert all(msgspec.json.decode(body)["since"] >= 5 for body in asked)
    client.close()
    bus.close()


def test_a_burst_behind_a_hole_is_asked_for_once_not_each(root: Path) -> None:
    bus = Bus(root, lossless=False)
    wire = bus.public_publisher(f"ipc://{root}/events")
    router = bus.public_router(f"ipc://{root}/replay")
    asked: list[int] = []

    def answer(body: bytes) -> bytes:
        since = msgspec.json.decode(body)["since"]
        asked.append(since)
        events = [an_event(seq) for seq in range(since + 1, 201)]
        return msgspec.json.encode({"schema": 1, "log": "one", "seq": 200, "events": events})

    with connect(root, since=0) as client:
        deadline = time.monotonic() + 10
        while client._heard < 200:
            assert time.monotonic() < deadline
            for seq in range(100, 201):
                wire.send("action/door/left/", msgspec.json.encode(an_event(seq)))
            assert client.receive(0.05) is None
        found: list[Event] = []
        while len(found) < 200 and time.monotonic() < deadline:
            router.serve(answer)
            found += [e for e in [client.receive(0.01)] if e is not None]
        assert seqs(found) == list(range(1, 201))
        assert len(asked) <= 3
    bus.close()


def test_a_snapshot_says_what_goes_on(root: Path, servers: Callable[..., Server]) -> None:
    server = servers()
    server.emit(
        transition(),
        transition(number=2, label="right"),
        transition("end", 2, label="right"),
    )
    server.say(CameraStatus(camera="door", state="online", reason=None, at_ns=1, size=(48, 64)))
    with connect(root) as client:
        deadline = time.monotonic() + 5
        while not (snapshot := client.snapshot())["cameras"]:
            assert time.monotonic() < deadline
    assert snapshot["seq"] == 3
    assert [(e["label"], e["type"]) for e in snapshot["active"]] == [("left", "start")]
    assert snapshot["cameras"]["door"]["state"] == "online"
    assert snapshot["cameras"]["door"]["size"] == [48, 64]


def test_a_snapshot_of_nobody_times_out(root: Path) -> None:
    with connect(root) as client, pytest.raises(TimeoutError, match=r"no snapshot within 0\.2 s"):
        client.snapshot(timeout_s=0.2)


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b'{"request":"delete"}',
        b'{"request":"replay","sinc":1}',
        b"\xff",
        b'{"request":"replay","since":"all"}',
    ],
)
def test_a_bad_request_is_answered_with_what_is_wrong(
    root: Path, servers: Callable[..., Server], body: bytes
) -> None:
    server = servers()
    server.starts(1)
    assert "error" in asked_raw(root, body)
    assert asked_raw(root, b'{"request":"replay"}')["seq"] == 1


@pytest.mark.parametrize("since", [1 << 63, 10**30, -(10**30)])
def test_a_strange_since_does_not_hurt_the_server(
    root: Path, servers: Callable[..., Server], since: int
) -> None:
    server = servers()
    server.starts(1)
    answer = asked_raw(root, msgspec.json.encode({"request": "replay", "since": 0}))
    assert len(answer["events"]) == 1
    strange = asked_raw(root, f'{{"request":"replay","since":{since}}}'.encode())
    assert len(strange["events"]) == (1 if since < 0 else 0)


def asked_raw(root: Path, body: bytes) -> dict[str, Any]:
    """What any language's client gets with a REQ socket."""
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    try:
        socket.connect(f"ipc://{root}/replay")
        socket.send(body)
        assert socket.poll(5000), "no answer"
        answer: dict[str, Any] = msgspec.json.decode(socket.recv())
        return answer
    finally:
        context.destroy(linger=0)
