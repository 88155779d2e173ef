"""The queue of steps: newest wins when live, nothing is skipped when lossless, ends come last."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.stages.step_queue import Gathering, StepQueue
from pipeline.transport import topics
from pipeline.transport.bus import Bus, Publisher
from pipeline.transport.counters import total
from pipeline.transport.messages import EndOfStream, FrameRef
from pipeline.transport.topics import MAX_BACKLOG
from testbed.samples import moment

CAMERAS = ("door", "yard")
MANY = tuple(f"camera{number}" for number in range(6))


class Wire:
    """A queue at the end of real sockets, one publisher for each camera."""

    def __init__(self, folder: Path, lossless: bool, cameras: tuple[str, ...] = CAMERAS) -> None:
        self.bus = Bus(folder, lossless)
        self.publishers: dict[str, Publisher] = {
            camera: self.bus.publisher(topics.FRAME, camera, [camera], readers=1)
            for camera in cameras
        }
        subscriber = self.bus.subscriber(topics.FRAME, cameras, cameras)
        self.counters: Counter[str] = Counter()
        self.now_ns = 100 * NS_PER_S
        self.queue = StepQueue(
            [(subscriber, cameras)],
            topics.FRAME.silence,
            (FrameRef,),
            lossless,
            self.counters,
            NS_PER_S / 10,
        )
        self.bus.watch(subscriber)
        while not all(publisher.ready() for publisher in self.publishers.values()):
            time.sleep(0.005)

    def send(self, camera: str, *steps: int) -> None:
        for step in steps:
            ref = FrameRef(moment=moment(step, camera=camera), ring="r", number=step, trail=())
            self.publishers[camera].send(camera, ref)

    def end(self, camera: str) -> None:
        self.publishers[camera].send(camera, EndOfStream(camera=camera))

    def receive(self) -> None:
        time.sleep(0.1)
        self.queue.receive(self.now_ns)

    def batch(self) -> list[tuple[str, int]]:
        return [(ref.moment.camera, ref.number) for ref in self.queue.next_batch()]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path, lossless=False)
    yield wire
    wire.bus.close()


@pytest.fixture
def lossless(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path, lossless=True)
    yield wire
    wire.bus.close()


def test_live_a_batch_has_a_step_of_each_camera(live: Wire) -> None:
    live.send("door", 1, 2)
    live.send("yard", 7)
    live.receive()
    assert live.batch() == [("door", 1), ("yard", 7)]
    assert live.batch() == [("door", 2)]
    assert live.batch() == []
    assert total(live.counters, "steps_skipped") == 0


def test_live_a_slow_reader_skips_to_the_newest_and_counts(live: Wire) -> None:
    live.send("door", *range(10))
    live.send("yard", 3)
    live.receive()
    assert live.batch() == [("door", 10 - MAX_BACKLOG), ("yard", 3)]
    assert live.counters["steps_skipped/door"] == 10 - MAX_BACKLOG


def test_lossless_nothing_is_skipped_and_batches_are_of_one(lossless: Wire) -> None:
    lossless.send("door", *range(10))
    lossless.send("yard", 3)
    lossless.receive()
    found = [lossless.batch() for _ in range(11)]
    assert all(len(batch) == 1 for batch in found)
    assert [number for batch in found for camera, number in batch if camera == "door"] == [
        *range(10)
    ]
    assert [("yard", 3)] in found
    assert total(lossless.counters, "steps_skipped") == 0


def test_an_end_is_taken_after_the_last_step_and_once(lossless: Wire) -> None:
    lossless.send("door", 1)
    lossless.end("door")
    lossless.receive()
    assert lossless.queue.take_ends() == []
    assert lossless.batch() == [("door", 1)]
    assert not lossless.queue.empty
    assert lossless.queue.take_ends() == ["door"]
    assert lossless.queue.take_ends() == []
    assert not lossless.queue.empty
    lossless.end("yard")
    lossless.receive()
    assert not lossless.queue.empty
    assert lossless.queue.take_ends() == ["yard"]
    assert lossless.queue.empty


def test_a_camera_that_was_started_again_is_open_again(live: Wire) -> None:
    for camera in CAMERAS:
        live.end(camera)
    live.receive()
    assert sorted(live.queue.take_ends()) == ["door", "yard"]
    assert live.queue.empty
    live.send("door", 5)
    live.receive()
    assert not live.queue.empty
    assert live.batch() == [("door", 5)]
    assert not live.queue.empty


def test_a_batch_that_lacks_a_camera_heard_of_late_is_incomplete(live: Wire) -> None:
    assert not live.queue.incomplete(live.now_ns)
    live.send("door", 1)
    live.receive()
    # Nobody waits for a camera that was never there.
    assert not live.queue.incomplete(live.now_ns)
    live.send("yard", 1)
    live.receive()
    assert not live.queue.incomplete(live.now_ns)
    live.batch()
    live.now_ns += NS_PER_S // 10
    live.send("yard", 2)
    live.receive()
    assert live.queue.incomplete(live.now_ns)
    live.send("yard", 3)
    live.receive()
    # Who is late already waits for nobody.
    assert not live.queue.incomplete(live.now_ns)


def test_a_camera_that_is_gone_is_not_waited_for(live: Wire) -> None:
    live.send("door", 1)
    live.send("yard", 1)
    live.receive()
    live.batch()
    live.now_ns += NS_PER_S // 4
    live.send("door", 4)
    live.receive()
    assert live.queue.incomplete(live.now_ns)
    live.now_ns += NS_PER_S // 4
    assert not live.queue.incomplete(live.now_ns)


@pytest.mark.slow
def test_cameras_that_come_apart_are_taken_together_and_wake_nobody_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(tmp_path, lossless=False, cameras=MANY)
    gathering = Gathering(wire.queue, wire.bus, SYSTEM_CLOCK, 0.2)
    polls: list[int] = []
    poll, rounds = wire.bus.poll, 8

    def counted(timeout_s: float | None) -> bool:
        polls[-1] += 1
        return poll(timeout_s)

    monkeypatch.setattr(wire.bus, "poll", counted)

    def cameras() -> None:
        for step in range(rounds):
            for camera in MANY:
                wire.send(camera, step)
                time.sleep(0.02)
            time.sleep(0.1)

    sender = threading.Thread(target=cameras)
    sender.start()
    batches = []
    for _ in range(rounds):
        poll(5.0)
        polls.append(0)
        gathering.gather()
        batches.append(len(wire.batch()))
    sender.join()
    wire.receive()
    while late := len(wire.batch()):
        batches.append(late)
    wire.bus.close()
    assert sum(batches) == len(MANY) * rounds
    assert total(wire.counters, "steps_skipped") == 0
    # The first round waits for no camera, because none has sent anything. Later, on a busy machine,
    # who is late is taken in the next.
    whole = [step for step in range(2, rounds) if batches[step] == len(MANY)]
    assert len(whole) >= rounds // 2
    # Woken one by one, it would be for five.
    assert sum(polls[step] for step in whole[1:]) <= 3 * len(whole[1:])
