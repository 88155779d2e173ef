"""Frames from one process to another: the frame ring against other transports.

A sender prepares each picture where it is sent from: in the ring's slot, or in one array that is
sent repeatedly. So only the transport is timed. The sender writes the time into the picture; the
receiver reads that time and one byte of every page. Throughput is measured at full speed, without
loss, and latency at thirty pictures per second.
"""

import multiprocessing as mp
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypedDict, cast

import numpy as np
import numpy.typing as npt
import typer
import zmq
from rich.console import Console
from rich.table import Table

from pipeline.transport.frame_ring import (
    RingOwner,
    RingReader,
    RingWriter,
    Shape,
)
from pipeline.transport.messages import (
    FrameRef,
    Moment,
    decode,
    encode,
)
from pipeline.transport.run_identity import RunIdentity
from testbed.program import free_port, scratch_folder

Picture = npt.NDArray[np.uint8]
Look = Callable[[Picture], None]
SIZES: tuple[Shape, ...] = ((480, 640, 3), (1080, 1920, 3))
SLOTS = 8
PAGE = 4096
PACED_HZ = 30.0
ROUNDS = 3
_SPAWN = mp.get_context("spawn")
LAST = -1
"""A time that marks the last picture."""


class TransportRow(TypedDict):
    """The figures of one transport at one frame size."""

    transport: str
    size: str
    fps: int
    """At full speed."""
    cpu_ms: float
    """CPU of both processes for a frame, at full speed."""
    latency_ms_p50: float
    """At :data:`PACED_HZ`."""
    latency_ms_p99: float


class RingPath:
    """This project's transport: frames in shared memory, and messages with references to them."""

    name = "ring and reference message"

    def __init__(self, folder: Path, shape: Shape, shared: Any) -> None:
        self._run, self._ring, self._endpoint = (
            shared["run"],
            shared["ring"],
            f"ipc://{folder}/ring",
        )

    @contextmanager
    def sender(self) -> Iterator[Callable[[int], None]]:
        writer = RingWriter(self._ring, self._run, lambda: time.sleep(0.0001))
        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.connect(self._endpoint)

            def send(stamp: int) -> None:
                write_stamp(writer.reserve(), stamp)
                number = writer.commit()
                moment = Moment(
                    camera="camera", segment=0, step_id=number, frame_id=number,
                    captured_ns=stamp, pts_ns=None, elapsed_steps=1.0, skipped=0,
                )  # fmt: skip
                push.send(encode(FrameRef(moment=moment, ring=self._ring, number=number, trail=())))

            yield send
            while not writer.drained():
                time.sleep(0.001)
        writer.close()

    @contextmanager
    def receiver(self, ready: Callable[[], None]) -> Iterator[Callable[[Look], None]]:
        with zmq.Context() as context, context.socket(zmq.PULL) as pull:
            pull.bind(self._endpoint)
            with closing(RingReader(self._ring, self._run)) as reader:

                def receive(look: Look) -> None:
                    ref = decode(pull.recv())
                    assert isinstance(ref, FrameRef)
                    with reader.view(ref.number) as picture:
                        look(picture)
                    reader.done(ref.number)

                ready()
                yield receive


class RawZmqPath:
    """A message that is the whole picture, without a copy in the sender."""

    name = "ZeroMQ, whole frames"

    def __init__(self, folder: Path, shape: Shape, shared: Any) -> None:
        self._endpoint, self._shape = f"ipc://{folder}/raw", shape

    @contextmanager
    def sender(self) -> Iterator[Callable[[int], None]]:
        picture = np.zeros(self._shape, np.uint8)
        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.setsockopt(zmq.SNDHWM, 2)
            push.connect(self._endpoint)

            def send(stamp: int) -> None:
                write_stamp(picture, stamp)
                push.send(cast(Any, picture), copy=False, track=True).wait()

            yield send

    @contextmanager
    def receiver(self, ready: Callable[[], None]) -> Iterator[Callable[[Look], None]]:
        with zmq.Context() as context, context.socket(zmq.PULL) as pull:
            pull.setsockopt(zmq.RCVHWM, 2)
            pull.bind(self._endpoint)

            def receive(look: Look) -> None:
                frame = pull.recv(copy=False)
                look(np.frombuffer(frame.buffer, np.uint8).reshape(self._shape))

            ready()
            yield receive


class QueuePath:
    """``multiprocessing.Queue``, which pickles pictures into a pipe."""

    name = "multiprocessing.Queue"

    def __init__(self, folder: Path, shape: Shape, shared: Any) -> None:
        self._queue, self._shape = shared["queue"], shape

    @contextmanager
    def sender(self) -> Iterator[Callable[[int], None]]:
        def send(stamp: int) -> None:
            # The queue pickles later in its own thread, so each picture needs its own array.
            picture = np.empty(self._shape, np.uint8)
            write_stamp(picture, stamp)
            self._queue.put(picture)

        yield send
        self._queue.close()
        self._queue.join_thread()

    @contextmanager
    def receiver(self, ready: Callable[[], None]) -> Iterator[Callable[[Look], None]]:
        ready()
        yield lambda look: look(self._queue.get())


class ImageZmqPath:
    """imageZMQ's hub and sender with request and reply, the first example of its documentation."""

    name = "imageZMQ"

    def __init__(self, folder: Path, shape: Shape, shared: Any) -> None:
        self._endpoint, self._shape = f"tcp://127.0.0.1:{shared['port']}", shape

    @contextmanager
    def sender(self) -> Iterator[Callable[[int], None]]:
        import imagezmq

        picture = np.zeros(self._shape, np.uint8)
        with imagezmq.ImageSender(connect_to=self._endpoint) as hub:

            def send(stamp: int) -> None:
                write_stamp(picture, stamp)
                hub.send_image("camera", picture)

            yield send

    @contextmanager
    def receiver(self, ready: Callable[[], None]) -> Iterator[Callable[[Look], None]]:
        import imagezmq

        with imagezmq.ImageHub(open_port=self._endpoint) as hub:

            def receive(look: Look) -> None:
                _, picture = hub.recv_image()
                look(picture)
                hub.send_reply(b"OK")

            ready()
            yield receive


class NetGearPath:
    """VidGear's NetGear with its defaults, except for JPEG: the other transports send pixels."""

    name = "VidGear NetGear"

    def __init__(self, folder: Path, shape: Shape, shared: Any) -> None:
        self._shape = shape
        self._settings: dict[str, Any] = {
            "address": "127.0.0.1",
            "port": str(shared["port"]),
            "protocol": "tcp",
            "pattern": 0,
            "jpeg_compression": False,
        }

    @contextmanager
    def sender(self) -> Iterator[Callable[[int], None]]:
        from vidgear.gears import NetGear

        picture = np.zeros(self._shape, np.uint8)
        gear = NetGear(**self._settings)

        def send(stamp: int) -> None:
            write_stamp(picture, stamp)
            gear.send(picture)

        yield send
        time.sleep(0.5)  # closing discards pictures that are not sent yet
        gear.close()

    @contextmanager
    def receiver(self, ready: Callable[[], None]) -> Iterator[Callable[[Look], None]]:
        from vidgear.gears import NetGear

        gear = NetGear(**self._settings, receive_mode=True)

        def receive(look: Look) -> None:
            picture = gear.recv()
            if picture is not None:
                look(picture)

        ready()
        yield receive
        gear.close()


PATHS = (RingPath, RawZmqPath, QueuePath, ImageZmqPath, NetGearPath)


def write_stamp(picture: Picture, stamp: int) -> None:
    picture.reshape(-1)[:8].view(np.int64)[0] = stamp


def read_stamp(picture: Picture) -> int:
    return int(picture.reshape(-1)[:8].view(np.int64)[0])


def send_for(path: Any, seconds: float, paced: bool, ready: Any, used: Any) -> None:
    """The sender's process: send pictures for ``seconds``, then the last one."""
    ready.wait()
    with path.sender() as send:
        send(time.monotonic_ns())  # connects before the time counts
        over, sent, cpu_s = time.monotonic() + seconds, 0, time.process_time()
        began = time.monotonic()
        while time.monotonic() < over:
            if paced:
                time.sleep(max(0.0, began + sent / PACED_HZ - time.monotonic()))
            send(time.monotonic_ns())
            sent += 1
        send(LAST)
        used.value = time.process_time() - cpu_s


def run_once(kind: Any, shape: Shape, seconds: float, paced: bool) -> dict[str, float]:
    """Frames per second, latency and CPU of one transport."""
    run = RunIdentity.new()
    ready, used = _SPAWN.Event(), _SPAWN.Value("d", 0.0)
    with scratch_folder() as folder:
        owner = RingOwner(run)
        ring = owner.create(("camera", "frame"), shape, SLOTS, 1)
        shared = {"run": run, "ring": ring, "queue": _SPAWN.Queue(2), "port": free_port()}
        path = kind(folder, shape, shared)
        sender = _SPAWN.Process(target=send_for, args=(path, seconds, paced, ready, used))
        sender.start()
        late_ms: list[float] = []
        began_ns, first = [0], [0]
        over = [False]

        def look(picture: Picture) -> None:
            stamp = read_stamp(picture)
            int(picture.reshape(-1)[::PAGE].sum())
            if stamp == LAST:
                over[0] = True
                return
            first[0] += 1
            if first[0] <= SLOTS:  # the first read of each page costs a page fault
                began_ns[0] = time.monotonic_ns()
                return
            late_ms.append((time.monotonic_ns() - stamp) / 1e6)

        cpu_s = 0.0
        with path.receiver(ready.set) as receive:
            while not over[0]:
                receive(look)
                if len(late_ms) <= 1:
                    cpu_s = time.process_time()
            elapsed_s = (time.monotonic_ns() - began_ns[0]) / 1e9
            cpu_s = time.process_time() - cpu_s
        sender.join()
        owner.close()
    count = max(1, len(late_ms))
    return {
        "fps": count / elapsed_s,
        "latency_ms_p50": float(np.percentile(late_ms, 50)),
        "latency_ms_p99": float(np.percentile(late_ms, 99)),
        "cpu_ms": 1000 * (cpu_s + used.value) / count,
    }


def available() -> list[Any]:
    """The transports that are installed; reports the others on standard error."""
    found = []
    for kind in PATHS:
        module = {"imageZMQ": "imagezmq", "VidGear NetGear": "vidgear.gears"}.get(kind.name)
        try:
            if module is not None:
                __import__(module)
        except ImportError:
            Console(stderr=True).print(f"{kind.name}: not installed (pip install {module})")
            continue
        found.append(kind)
    return found


def measure(
    seconds: Annotated[float, typer.Option(min=1, help="seconds for each measurement")] = 3.0,
) -> list[TransportRow]:
    """Measure all transports in turn, several rounds; returns medians."""
    kinds, rows = available(), []
    for shape in SIZES:
        taken: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {}
        for _ in range(ROUNDS):
            for kind in kinds:
                fast = run_once(kind, shape, seconds, paced=False)
                paced = run_once(kind, shape, seconds, paced=True)
                taken.setdefault(kind.name, []).append((fast, paced))
        for name, pairs in taken.items():
            row: TransportRow = {
                "transport": name,
                "size": f"{shape[1]}×{shape[0]}",
                "fps": round(median(fast["fps"] for fast, _ in pairs)),
                "cpu_ms": round(median(fast["cpu_ms"] for fast, _ in pairs), 3),
                "latency_ms_p50": round(median(p["latency_ms_p50"] for _, p in pairs), 3),
                "latency_ms_p99": round(median(p["latency_ms_p99"] for _, p in pairs), 3),
            }
            rows.append(row)
    return rows


def show(rows: list[TransportRow]) -> None:
    table = Table(title=f"one process to another, medians of {ROUNDS} rounds")
    for column in ("transport", "size", "frames/s", "CPU ms a frame", "latency p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "transport" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
