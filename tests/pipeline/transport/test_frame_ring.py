"""The ring: no torn frame, nothing lost where nothing may be, nothing left behind."""

import contextlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ring import is_whole, stress
from pipeline.errors import RingError
from pipeline.transport.frame_ring import (
    MAX_READERS,
    MAX_RING_BYTES,
    FrameOverwritten,
    RingOwner,
    RingReader,
    RingReaders,
    RingWriter,
    remove_stale,
    segment_names,
)
from pipeline.transport.run_identity import RunIdentity

SHAPE = (4, 6, 3)
SLOTS = 4
KEY = ("door", "frame")
PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run() -> Iterator[RunIdentity]:
    """A run of its own, which must leave no shared memory."""
    identity = RunIdentity.new()
    yield identity
    assert segment_names(identity.prefix) == []


@pytest.fixture
def owner(run: RunIdentity) -> Iterator[RingOwner]:
    made = RingOwner(run)
    yield made
    made.close()


def put(writer: RingWriter, value: int) -> int:
    writer.reserve()[:] = value % 256
    return writer.commit()


def close(*ends: RingWriter | RingReader) -> None:
    for end in ends:
        end.close()


def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Another Python, with a resource tracker of its own, as the stages are."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def finish(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def await_no_segments(prefix: str, seconds: float = 10.0) -> list[str]:
    deadline = time.monotonic() + seconds
    while (left := segment_names(prefix)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def test_what_is_written_is_read(run: RunIdentity, owner: RingOwner) -> None:
    name = owner.create(KEY, SHAPE, SLOTS, 0)
    writer, reader = RingWriter(name, run), RingReader(name, run)
    assert (writer.shape, reader.shape, reader.name) == (SHAPE, SHAPE, name)
    for value in range(10):
        assert put(writer, value) == value
        assert reader.head == value + 1
        assert (reader.read(value) == value).all()
    writer.close()
    reader.close()


def test_two_rings_of_a_run_do_not_meet(run: RunIdentity, owner: RingOwner) -> None:
    names = [owner.create((camera, "frame"), SHAPE, SLOTS, 0) for camera in ("door", "door2")]
    writers = [RingWriter(name, run) for name in names]
    readers = [RingReader(name, run) for name in names]
    for writer, value in zip(writers, (1, 2), strict=True):
        put(writer, value)
    assert [int(reader.read(0)[0, 0, 0]) for reader in readers] == [1, 2]
    close(*writers, *readers)


@settings(max_examples=60, deadline=None)
@given(
    slots=st.integers(1, 5),
    written=st.integers(0, 20),
    reserved=st.booleans(),
    asked=st.integers(0, 25),
)
def test_exactly_the_newest_images_can_be_read(
    slots: int, written: int, reserved: bool, asked: int
) -> None:
    run = RunIdentity.new()
    owner = RingOwner(run)
    name = owner.create(KEY, SHAPE, slots, 0)
    writer, reader = RingWriter(name, run), RingReader(name, run)
    for value in range(written):
        put(writer, value)
    if reserved:
        writer.reserve()
    there = written - slots + reserved <= asked < written
    try:
        image = reader.read(asked)
    except FrameOverwritten:
        assert not there
    else:
        assert there
        assert (image == asked).all()
    finally:
        writer.close()
        reader.close()
        owner.close()


def test_an_overwritten_image_is_told_on_entry(run: RunIdentity, owner: RingOwner) -> None:
    name = owner.create(KEY, SHAPE, SLOTS, 0)
    writer, reader = RingWriter(name, run), RingReader(name, run)
    for value in range(SLOTS + 1):
        put(writer, value)
    entered = False
    with pytest.raises(FrameOverwritten, match=f"image 0 of ring {name}"), reader.view(0):
        entered = True
    assert not entered
    writer.close()
    reader.close()


@pytest.mark.parametrize("committed", [True, False], ids=["whole round", "reserved only"])
def test_an_image_overwritten_in_use_is_told_on_exit(
    run: RunIdentity, owner: RingOwner, committed: bool
) -> None:
    name = owner.create(KEY, SHAPE, SLOTS, 0)
    writer, reader = RingWriter(name, run), RingReader(name, run)
    for value in range(SLOTS):
        put(writer, value)
    overwrite = partial(put, writer, SLOTS) if committed else writer.reserve
    entered = reader.view(0)
    entered.__enter__()
    overwrite()
    with pytest.raises(FrameOverwritten, match="image 0"):
        entered.__exit__(None, None, None)
    assert (reader.read(1) == 1).all()
    writer.close()
    reader.close()


def test_reserving_again_gives_the_same_slot(run: RunIdentity, owner: RingOwner) -> None:
    name = owner.create(KEY, SHAPE, SLOTS, 0)
    writer, reader = RingWriter(name, run), RingReader(name, run)
    writer.reserve()[:] = 1
    writer.reserve()[:] = 2
    assert writer.commit() == 0
    assert (reader.read(0) == 2).all()
    writer.close()
    reader.close()


class _Full(Exception):
    """The writer would have waited."""


def test_cursors_hold_the_writer_back(run: RunIdentity, owner: RingOwner) -> None:
    def refuse() -> None:
        raise _Full

    name = owner.create(KEY, SHAPE, SLOTS, 2)
    writer = RingWriter(name, run, wait=refuse)
    readers = [RingReader(name, run, place) for place in range(2)]
    for value in range(SLOTS):
        put(writer, value)
    assert not writer.drained()
    with pytest.raises(_Full):
        writer.reserve()
    readers[0].done(0)
    with pytest.raises(_Full):
        writer.reserve()
    readers[1].done(1)
    assert put(writer, SLOTS) == SLOTS
    with pytest.raises(_Full):
        writer.reserve()
    for reader in readers:
        reader.done(SLOTS)
    assert writer.drained()
    close(writer, *readers)


def test_live_writers_wait_for_nobody(run: RunIdentity, owner: RingOwner) -> None:
    name = owner.create(KEY, SHAPE, SLOTS, 2)
    writer = RingWriter(name, run)
    readers = [RingReader(name, run, place) for place in range(2)]
    for value in range(3 * SLOTS):
        put(writer, value)
    assert (readers[1].read(3 * SLOTS - 1) == 3 * SLOTS - 1).all()
    readers[1].done(3 * SLOTS - 1)
    close(writer, *readers)


LOSSLESS_READER = """
import sys, time
from pipeline.transport.frame_ring import RingReader
from pipeline.transport.run_identity import RunIdentity
name, run, place, count = sys.argv[1:]
reader = RingReader(name, RunIdentity(run), int(place))
print("ready", flush=True)
total = 0
for number in range(int(count)):
    while reader.head <= number:
        time.sleep(0)
    if int(place) and number % 50 == 0:
        time.sleep(0.002)
    image = reader.read(number)
    assert (image == number % 256).all(), number
    total += int(image[0, 0, 0])
    reader.done(number)
print(total, flush=True)
"""


@pytest.mark.slow
def test_lossless_processes_lose_nothing(run: RunIdentity, owner: RingOwner) -> None:
    count = 3000
    name = owner.create(KEY, SHAPE, SLOTS, 2)
    readers = [start(LOSSLESS_READER, name, run.hex, str(place), str(count)) for place in range(2)]
    try:
        assert [said(reader) for reader in readers] == ["ready", "ready"]
        writer = RingWriter(name, run, wait=lambda: time.sleep(0.0001))
        for value in range(count):
            put(writer, value)
        expected = str(sum(value % 256 for value in range(count)))
        assert [said(reader) for reader in readers] == [expected, expected]
        assert writer.drained()
        writer.close()
    finally:
        for reader in readers:
            finish(reader)


@pytest.mark.slow
def test_no_torn_frame_comes_back_at_full_speed() -> None:
    result = stress(seconds=2.5)
    assert result.torn == 0
    assert result.reads > 10_000
    assert result.overwritten > 0
    assert result.reads_of_slow_reader > 0


@pytest.mark.slow
def test_the_stress_would_notice_torn_frames() -> None:
    """Without the sequence words the same readers get torn frames, and report them."""
    deadline = time.monotonic() + 20.0
    torn = 0
    while not torn and time.monotonic() < deadline:
        torn = stress(seconds=1.0, checked=False).torn
    assert torn > 0


def test_the_check_of_a_frame_sees_one_wrong_word() -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    image.reshape(-1).view(np.uint64)[:] = (1 << 60) + 7
    assert is_whole(image)
    for word in range(8):
        image.reshape(-1).view(np.uint64)[word] += np.uint64(8)
        assert not is_whole(image)
        image.reshape(-1).view(np.uint64)[word] -= np.uint64(8)


def test_another_size_is_another_ring(run: RunIdentity, owner: RingOwner) -> None:
    first = owner.create(KEY, SHAPE, SLOTS, 0)
    writer, old = RingWriter(first, run), RingReader(first, run)
    put(writer, 9)
    second = owner.create(KEY, (8, 10, 3), SLOTS, 0)
    assert second != first
    assert segment_names(run.prefix) == [second]
    # A process that has mapped the old ring keeps it; another gets the error that it is gone.
    assert (old.read(0) == 9).all()
    with pytest.raises(RingError, match=f"{first} is gone"):
        RingReader(first, run)
    bigger = RingReader(second, run)
    assert bigger.shape == (8, 10, 3)
    close(writer, old, bigger)


def test_readers_follow_a_camera_to_its_new_ring(run: RunIdentity, owner: RingOwner) -> None:
    rings = RingReaders(run, reader=1)
    first = owner.create(KEY, SHAPE, SLOTS, 2)
    ring = rings.get("door", first)
    assert rings.get("door", first) is ring
    second = owner.create(KEY, (8, 10, 3), SLOTS, 2)
    assert rings.get("door", second).shape == (8, 10, 3)
    with pytest.raises(FrameOverwritten, match="is gone"):
        rings.get("door", first)
    assert rings.get("door", second).name == second
    rings.close()


READER = """
import sys
from pipeline.transport.frame_ring import RingReader
from pipeline.transport.run_identity import RunIdentity
reader = RingReader(sys.argv[1], RunIdentity(sys.argv[2]))
print(int(reader.read(0)[0, 0, 0]), flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["exit", "kill -9"])
def test_a_reader_that_ends_leaves_the_segment(
    run: RunIdentity, owner: RingOwner, ending: str
) -> None:
    """Before Python 3.13 the resource tracker of the process that attached unlinks it."""
    name = owner.create(KEY, SHAPE, SLOTS, 0)
    writer = RingWriter(name, run)
    put(writer, 7)
    process = start(READER, name, run.hex)
    assert said(process) == "7"
    if ending == "exit":
        process.communicate("\n", timeout=20)
        assert process.returncode == 0
    else:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
    time.sleep(0.3)  # a resource tracker acts after its process has gone
    assert segment_names(run.prefix) == [name]
    late = RingReader(name, run)
    assert (late.read(0) == 7).all()
    late.close()
    writer.close()


OWNER = """
import sys
from pipeline.transport.frame_ring import RingOwner
from pipeline.transport.run_identity import RunIdentity
owner = RingOwner(RunIdentity(sys.argv[1]))
for camera in ("door", "yard"):
    owner.create((camera, "frame"), (48, 64, 3), 4, 0)
print("made", flush=True)
sys.stdin.readline()
owner.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["close", "kill -9"])
def test_an_owner_that_ends_leaves_nothing(run: RunIdentity, ending: str) -> None:
    process = start(OWNER, run.hex)
    assert said(process) == "made"
    assert len(segment_names(run.prefix)) == 2
    if ending == "close":
        process.communicate("\n", timeout=20)
        assert segment_names(run.prefix) == []
    else:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
        assert await_no_segments(run.prefix) == []


def test_what_a_dead_run_left_is_removed_and_nothing_else(run: RunIdentity) -> None:
    other = RunIdentity.new()
    living = RingOwner(other)
    kept = living.create(KEY, SHAPE, SLOTS, 0)
    left = Path("/dev/shm") / f"{run.prefix}-1"
    left.write_bytes(b"\0" * 4096)
    assert remove_stale(run.prefix) == [left.name]
    assert segment_names(other.prefix) == [kept]
    living.close()


def test_a_ring_of_another_run_is_refused(run: RunIdentity, owner: RingOwner) -> None:
    name = owner.create(KEY, SHAPE, SLOTS, 0)
    for kind in (RingReader, RingWriter):
        with pytest.raises(RingError, match=f"{name} belongs to another run"):
            kind(name, RunIdentity.new())


@pytest.mark.parametrize("size", [16, 4096, 8192])
def test_memory_that_is_no_ring_is_refused(run: RunIdentity, size: int) -> None:
    memory = shared_memory.SharedMemory(name=f"{run.prefix}-9", create=True, size=size)
    try:
        with pytest.raises(RingError, match="is no ring"):
            RingReader(memory.name, run)
    finally:
        memory.close()
        memory.unlink()


def test_a_name_that_is_not_there_is_refused(run: RunIdentity) -> None:
    with pytest.raises(RingError, match=f"{run.prefix}-1 is gone"):
        RingReader(f"{run.prefix}-1", run)


@pytest.mark.parametrize(
    ("shape", "slots", "readers", "says"),
    [
        ((20_000, 20_000, 3), 8, 0, rf"at most {MAX_RING_BYTES >> 20} MiB"),
        ((0, 6, 3), 4, 0, "at least 1"),
        ((4, 6, 3), 0, 0, "at least 1"),
        ((4, 6, 3), 4, MAX_READERS + 1, f"at most {MAX_READERS} readers"),
    ],
)
def test_impossible_rings_are_refused(
    run: RunIdentity,
    owner: RingOwner,
    shape: tuple[int, int, int],
    slots: int,
    readers: int,
    says: str,
) -> None:
    with pytest.raises(RingError, match=says):
        owner.create(KEY, shape, slots, readers)
    assert segment_names(run.prefix) == []


FULL_OWNER = """
import sys
from pipeline.errors import RingError
from pipeline.transport.frame_ring import RingOwner, RingWriter, segment_names
from pipeline.transport.run_identity import RunIdentity
if sys.argv[2] == "file size":
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
run = RunIdentity(sys.argv[1])
owner = RingOwner(run)
try:
    name = owner.create(("door", "frame"), (1000, 1000, 3), 4, 0)
    writer = RingWriter(name, run)
    for _ in range(4):
        writer.reserve()[:] = 1
        writer.commit()
except RingError as error:
    print(error, segment_names(run.prefix), flush=True)
"""
SMALL_SHM = "mount -t tmpfs -o size=4m tmpfs /dev/shm"


def a_small_shm() -> list[str]:
    """How to run a command with a /dev/shm of 4 MiB of its own; empty where that can't be had."""
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        with contextlib.suppress(FileNotFoundError):
            trial = subprocess.run([*unshare, "sh", "-c", SMALL_SHM], capture_output=True)
            if trial.returncode == 0:
                return [*unshare, "sh", "-c", SMALL_SHM + ' && exec "$@"', "sh"]
    return []


@pytest.mark.slow
def test_a_ring_there_is_no_room_for_is_refused_not_found_out_by_sigbus(run: RunIdentity) -> None:
    """As in a container with little shared memory; elsewhere a limit of file sizes replaces it."""
    small = a_small_shm()
    process = subprocess.run(
        [*small, sys.executable, "-c", FULL_OWNER, run.hex, "" if small else "file size"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0
    reason = "No space left on device" if small else "File too large"
    assert process.stdout.startswith(
        f"no shared memory for 4 images of 1000×1000 of camera door (11.4 MiB): {reason}"
    )
    assert "MiB are free in /dev/shm" in process.stdout
    assert process.stdout.endswith("lower runtime.ring_slots []\n")


@pytest.mark.parametrize("readers", [1, 2])
def test_a_reader_that_has_no_cursor_is_refused(
    run: RunIdentity, owner: RingOwner, readers: int
) -> None:
    name = owner.create(KEY, SHAPE, SLOTS, readers)
    with pytest.raises(RingError, match=f"has {readers} readers, no reader {readers}"):
        RingReader(name, run, readers)


def test_a_view_in_use_outlives_the_close(
    run: RunIdentity, owner: RingOwner, caplog: pytest.LogCaptureFixture
) -> None:
    name = owner.create(KEY, SHAPE, SLOTS, 0)
    writer, reader = RingWriter(name, run), RingReader(name, run)
    put(writer, 5)
    with contextlib.ExitStack() as stack:
        image = stack.enter_context(reader.view(0))
        stack.pop_all()
    reader.close()
    assert "still in use" in caplog.text
    assert (image == 5).all()
    del image
    writer.close()
