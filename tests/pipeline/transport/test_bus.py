"""The bus, over real sockets: which end receives what, what waits, what is refused."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.errors import BusError
from pipeline.transport import topics
from pipeline.transport.bus import Bus, Subscriber
from pipeline.transport.messages import (
    MAX_BYTES,
    AnyMessage,
    CameraStatus,
    EndOfStream,
    Feature,
    Hello,
    Ready,
    Stop,
    encode,
    encode_all,
)
from pipeline.transport.public_sockets import MAX_REQUEST_BYTES
from pipeline.transport.sockets import MAX_IPC_PATH, check_bind
from testbed.samples import moment


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    made = Bus(tmp_path, lossless=False)
    yield made
    made.close()


def until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "nothing came in time"
        time.sleep(0.005)


def collect(subscriber: Subscriber, count: int) -> list[AnyMessage]:
    found: list[AnyMessage] = []

    def enough() -> bool:
        found.extend(subscriber.drain())
        return len(found) >= count

    until(enough)
    return found


def feature(camera: str, step: int = 0) -> Feature:
    return Feature(moment=moment(step, camera=camera), stream="spatial", vectors={}, trail=())


def test_door_does_not_hear_door2(bus: Bus) -> None:
    publisher = bus.publisher(topics.FRAME, "", ["door", "door2"], readers=1)
    door = bus.subscriber(topics.FRAME, [""], ["door"])
    other = bus.subscriber(topics.FRAME, [""], ["door2"])
    until(publisher.ready)
    publisher.send("door2", EndOfStream(camera="door2"))
    publisher.send("door", EndOfStream(camera="door"))
    assert collect(door, 1) == [EndOfStream(camera="door")]
    assert collect(other, 1) == [EndOfStream(camera="door2")]
    assert door.drain() == other.drain() == []


def test_features_of_several_cameras_travel_together_and_in_order(bus: Bus) -> None:
    publisher = bus.publisher(topics.SPATIAL, "", ["door", "yard"], readers=1)
    reader = bus.subscriber(topics.SPATIAL, [""], ["door", "yard"])
    until(publisher.ready)
    sent = [feature("door", 1), feature("yard", 1), EndOfStream(camera="door")]
    publisher.send("door", *sent[:2])
    publisher.send("door", sent[2])
    assert collect(reader, 3) == sent


def test_one_bad_message_takes_those_that_came_with_it_along(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = bus.publisher(topics.SPATIAL, "", ["door"], readers=1)
    reader = bus.subscriber(topics.SPATIAL, [""], ["door"])
    until(publisher.ready)
    with caplog.at_level(logging.WARNING):
        stray = encode_all([feature("door", 1), Hello(stage="x", pid=1)])
        publisher.socket.send(topics.SPATIAL.of("door") + stray)
        publisher.socket.send(topics.SPATIAL.of("door") + b"\x93nonsense")
        publisher.socket.send(b"feature/spatial/*")
        publisher.send("door", feature("door", 2))
        assert collect(reader, 1) == [feature("door", 2)]
    assert bus.rejected == 2
    assert "a Hello does not belong here" in caplog.text


def test_a_lossless_publisher_is_ready_when_all_its_readers_are_there(tmp_path: Path) -> None:
    bus = Bus(tmp_path, lossless=True)
    publisher = bus.publisher(topics.FRAME, "door", ["door"], readers=2)
    early = bus.subscriber(topics.FRAME, ["door"], ["door"])
    time.sleep(0.2)
    assert not publisher.ready()
    late = bus.subscriber(topics.FRAME, ["door"], ["door"])
    until(publisher.ready)
    publisher.send("door", EndOfStream(camera="door"))
    for reader in (early, late):
        assert collect(reader, 1) == [EndOfStream(camera="door")]
    bus.close()


def test_a_live_publisher_waits_for_nobody(bus: Bus) -> None:
    publisher = bus.publisher(topics.FRAME, "door")
    assert publisher.ready()
    publisher.send("door", EndOfStream(camera="door"))


def test_lossless_queues_keep_all_in_order(tmp_path: Path) -> None:
    count = 5000
    bus = Bus(tmp_path, lossless=True)
    publisher = bus.publisher(topics.SPATIAL, "", ["door"], readers=1)
    subscriber = bus.subscriber(topics.SPATIAL, [""], ["door"])
    until(publisher.ready)
    for step in range(count):
        publisher.send("door", feature("door", step))
    found = collect(subscriber, count)
    assert [m.moment.step_id for m in found if isinstance(m, Feature)] == list(range(count))
    bus.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\xff\x00nonsense", "refused"),
        (b"x" * (MAX_BYTES + 1), f"at most {MAX_BYTES}"),
        (encode(Hello(stage="x", pid=1)), "a Hello does not belong here"),
        (encode(Ready(schema=99)), "schema 99"),
        (b"", "refused"),
    ],
    ids=["garbage", "oversized", "another topic's", "another schema", "empty"],
)
def test_what_is_no_message_is_refused_and_counted(
    bus: Bus, body: bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = bus.pull(topics.STATUS)
    push = bus.push(topics.STATUS)
    good = CameraStatus(camera="door", state="online", reason=None, at_ns=1)
    with caplog.at_level(logging.WARNING):
        push.socket.send(body)
        push.send(good)
        assert collect(subscriber, 1) == [good]
    assert bus.rejected == 1
    assert says in caplog.text
    assert "topic status" in caplog.text


def test_a_router_answers_who_asked(bus: Bus) -> None:
    router = bus.router(topics.CONTROL)
    dealers = {name: bus.dealer(topics.CONTROL, name) for name in ("flow:0", "fusion")}
    for name, dealer in dealers.items():
        dealer.send(Hello(stage=name, pid=1))
    heard: list[tuple[str, AnyMessage]] = []

    def both() -> bool:
        heard.extend(router.drain())
        return len(heard) == 2

    until(both)
    assert {name for name, _ in heard} == set(dealers)
    router.send("fusion", Stop())
    assert collect(dealers["fusion"], 1) == [Stop()]
    assert dealers["flow:0"].drain() == []
    router.send("nobody", Stop())


def test_a_restarted_stage_takes_its_name_over(bus: Bus, tmp_path: Path) -> None:
    router = bus.router(topics.CONTROL)
    first = bus.dealer(topics.CONTROL, "fusion")
    first.send(Hello(stage="fusion", pid=1))
    until(lambda: bool(router.drain()))
    other = Bus(tmp_path, lossless=False)
    second = other.dealer(topics.CONTROL, "fusion")
    second.send(Hello(stage="fusion", pid=2))
    until(lambda: bool(router.drain()))
    router.send("fusion", Stop())
    assert collect(second, 1) == [Stop()]
    other.close()


def test_poll_calls_back_and_tells_whether_there_was_something(bus: Bus) -> None:
    subscriber = bus.pull(topics.STATUS)
    found: list[AnyMessage] = []
    bus.watch(subscriber, lambda: found.extend(subscriber.drain()))
    assert not bus.poll(0.0)
    message = CameraStatus(camera="door", state="online", reason=None, at_ns=1)
    bus.push(topics.STATUS).send(message)
    assert bus.poll(5.0)
    assert found == [message]
    bus.unwatch(subscriber)
    assert not bus.poll(0.05)


def test_poll_sleeps_as_long_as_it_was_told(bus: Bus) -> None:
    bus.watch(bus.pull(topics.STATUS), lambda: None)
    began = time.monotonic()
    assert not bus.poll(0.05)
    assert 0.05 <= time.monotonic() - began < 2.0


def test_a_file_descriptor_can_be_watched(bus: Bus) -> None:
    near, far = socket.socketpair()
    with near, far:
        found: list[bytes] = []
        bus.watch(near.fileno(), lambda: found.append(near.recv(10)))
        far.send(b"x")
        assert bus.poll(5.0)
        assert found == [b"x"]
        bus.unwatch(near.fileno())


def folder_of(root: Path, length: int) -> Path:
    """A folder whose status socket's path is so many bytes long."""
    folder = root
    while (missing := length - len(os.fsencode(folder)) - len("/status.sock") - 1) > 0:
        folder /= "x" * min(missing, 200)
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("length", [MAX_IPC_PATH, MAX_IPC_PATH + 1, 500, 3000])
def test_private_sockets_work_in_a_folder_of_any_length(tmp_path: Path, length: int) -> None:
    folder = folder_of(tmp_path, length)
    one, other = Bus(folder, lossless=False), Bus(folder, lossless=False)
    reader, writer = one.pull(topics.STATUS), other.push(topics.STATUS)
    writer.send(CameraStatus(camera="door", state="online", reason=None, at_ns=1))
    until(lambda: bool(reader.drain()))
    assert (folder / "status.sock").exists()
    one.close()
    other.close()


@pytest.mark.parametrize("name", ["mit Lücken und ümläuten", "日本" * 15])
def test_private_sockets_work_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    test_private_sockets_work_in_a_folder_of_any_length(tmp_path / name, 300)


def test_a_public_path_that_is_too_long_is_refused_with_both_lengths(tmp_path: Path) -> None:
    path = f"{tmp_path}/".ljust(130, "x")
    for check in (check_bind, Bus(tmp_path, lossless=False).public_publisher):
        with pytest.raises(BusError, match=f"its path has 130 bytes.*at most {MAX_IPC_PATH}"):
            check(f"ipc://{path}")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_public_path_takes_nothing_away_that_is_no_socket(tmp_path: Path, kind: str) -> None:
    """ZeroMQ would unlink it."""
    path = tmp_path / "precious"
    path.mkdir() if kind == "folder" else path.write_text("precious")
    for check in (check_bind, Bus(tmp_path, lossless=False).public_publisher):
        with pytest.raises(BusError, match=f"precious is a {kind}"):
            check(f"ipc://{path}")
    assert path.exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_busy_endpoint_is_named_and_left_alone(bus: Bus, tmp_path: Path, transport: str) -> None:
    path = f"ipc://{tmp_path}/public.sock"
    endpoint = f"tcp://127.0.0.1:{free_port()}" if transport == "tcp" else path
    check_bind(endpoint)
    publisher = bus.public_publisher(endpoint)
    with pytest.raises(BusError, match=f"can't bind {endpoint}: already in use"):
        check_bind(endpoint)
    with pytest.raises(BusError, match="already in use"):
        bus.public_router(endpoint)
    subscriber = bus.public_subscriber(["action"])

    def heard() -> bool:
        publisher.send("action/door/left/", b"{}")
        return bool(subscriber.drain())

    until(heard)


def test_the_socket_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "public.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    check_bind(f"ipc://{path}")


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_nobody_can_connect_while_an_endpoint_is_checked(tmp_path: Path, transport: str) -> None:
    path = f"ipc://{tmp_path}/public.sock"
    endpoint = f"tcp://127.0.0.1:{free_port()}" if transport == "tcp" else path
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.setsockopt(zmq.LINGER, 0)
        client.setsockopt(zmq.RECONNECT_IVL, 1)
        monitor = client.get_monitor_socket(zmq.EVENT_CONNECTED)
        client.connect(endpoint)
        over = time.monotonic() + 1.0
        while time.monotonic() < over:
            check_bind(endpoint)
        assert not monitor.poll(0)
        client.disable_monitor()


def test_an_address_that_is_not_this_machine_is_named() -> None:
    with pytest.raises(BusError, match=r"can't bind tcp://192.0.2.1:5555: Cannot assign"):
        check_bind("tcp://192.0.2.1:5555")


def test_an_endpoint_in_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"can't bind .*/none doesn't exist"):
        check_bind(f"ipc://{tmp_path}/none/x")


def test_public_requests_are_answered_for_req_and_dealer(bus: Bus, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/replay"
    router = bus.public_router(endpoint)
    bus.watch(router, lambda: router.serve(lambda body: body.upper()))
    context = zmq.Context()
    try:
        for kind in (zmq.REQ, zmq.DEALER):
            client = context.socket(kind)
            client.connect(endpoint)
            client.send(b"hello")
            until(lambda socket=client: bus.poll(0.01) or bool(socket.poll(0)))  # type: ignore[misc]
            until(lambda socket=client: bool(socket.poll(10)))  # type: ignore[misc]
            assert client.recv() == b"HELLO"
    finally:
        context.destroy(linger=0)


def test_an_oversized_request_costs_its_sender_the_link_and_nobody_else(
    bus: Bus, tmp_path: Path
) -> None:
    endpoint = f"ipc://{tmp_path}/replay"
    router = bus.public_router(endpoint)
    bodies: list[bytes] = []

    def answer(body: bytes) -> bytes:
        bodies.append(body)
        return body

    bus.watch(router, lambda: router.serve(answer))
    context = zmq.Context()
    try:
        rude, polite = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
        for client in (rude, polite):
            client.connect(endpoint)
        rude.send(b"x" * (MAX_REQUEST_BYTES + 1))
        time.sleep(0.1)
        polite.send(b"please")
        until(lambda: bus.poll(0.01) and bool(bodies))
        assert bodies == [b"please"]
    finally:
        context.destroy(linger=0)


def test_a_full_queue_drops_the_newest_and_counts_it(bus: Bus) -> None:
    """Nobody reads: a live queue holds as many messages as the table states, and no more."""
    push = bus.push(topics.STATUS)
    message = CameraStatus(camera="door", state="online", reason=None, at_ns=1)
    for _ in range(topics.STATUS.queue + 10):
        push.send(message)
    assert bus.dropped == 10
    reader = bus.pull(topics.STATUS)
    assert len(collect(reader, topics.STATUS.queue)) == topics.STATUS.queue
    assert reader.drain() == []
