"""FrameRing: the rolling buffer. One writer, many readers, shared memory, no torn frame.

A segment holds a header and ``slots`` images of one shape. Image number n is in slot
``n % slots``. The slot's own sequence word says what it holds::

    2n + 1   the writer is writing image n
    2n + 2   image n is whole

A reader that wants image n reads the word before it uses the slot, and again afterwards. If it
reads 2n + 2 both times, it used image n, whole (a sequence lock; the frame sockets of openpilot's
VisionIPC check in the same way). Otherwise :class:`FrameOverwritten` is raised, and the reader
must discard its result.

In lossless mode each reader also moves a cursor in the header. The writer waits until the slowest
reader is past the image that it is about to overwrite.

Segments have one owner, the supervisor, which creates and unlinks them. Their names start with the
run's random identity. The identity is in the header too, so a segment of another run is never
mistaken for one of this run. Pixels are uint8; flow fields travel in the same rings, quantised.

An aligned 8-byte load or store through numpy is a single instruction, and x86 keeps stores in
order. On machines with weaker ordering :func:`_fence` supplies the barrier.
"""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.arrays import picture_size
from pipeline.errors import RingError, RingGone, os_reason
from pipeline.transport.run_identity import RunIdentity

Image = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]

MAGIC = np.frombuffer(b"TSRING01", np.int64)[0]
MAX_READERS = 4
MAX_RING_BYTES = 1 << 30
SHM_FOLDER = Path("/dev/shm")
_PAGE = 4096
_LINE = 64

# Header words (int64): magic, two of run identity, slots, readers, height, width, channels, head.
_MAGIC, _RUN, _SLOTS, _READERS, _SHAPE, _HEAD = 0, 1, 3, 4, 5, 8
_CURSORS = 16  # each on a cache line of its own, so that readers do not disturb one another
_CURSOR_STRIDE = _LINE // 8
_SEQUENCES = _CURSORS + MAX_READERS * _CURSOR_STRIDE

log = logging.getLogger(__name__)


class FrameOverwritten(Exception):
    """The image was overwritten before or during its use."""


def _fence() -> None:
    """A full memory barrier on every platform of CPython.

    Acquiring a lock keeps later accesses after it; releasing it keeps earlier accesses before it.
    Done once, both could still move inside and pass each other. Done twice they can't: the second
    acquire never passes the first release.
    """
    lock = _FENCES.lock
    lock.acquire()
    lock.release()
    lock.acquire()
    lock.release()


class _Fences(threading.local):
    def __init__(self) -> None:
        self.lock = threading.Lock()


_FENCES = _Fences()


def _untracked(name: str) -> shared_memory.SharedMemory:
    """Attach without making this process responsible for the segment.

    Before Python 3.13 attaching registers the segment with this process's resource tracker, which
    unlinks it when the process exits: https://github.com/python/cpython/issues/82300.
    """
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name=name, track=False)
    register = resource_tracker.register
    resource_tracker.register = lambda *_: None
    try:
        return shared_memory.SharedMemory(name=name)
    finally:
        resource_tracker.register = register


def _buffer(memory: shared_memory.SharedMemory) -> memoryview:
    assert memory.buf is not None
    return memory.buf


class _Mapping:
    """The header words and the images of a mapped segment."""

    def __init__(self, memory: shared_memory.SharedMemory) -> None:
        self.memory = memory
        self.name = memory.name
        buffer = _buffer(memory)
        words = np.frombuffer(buffer, np.int64, memory.size // 8)
        if memory.size < _PAGE or words[_MAGIC] != MAGIC:
            del words, buffer
            memory.close()
            raise RingError(f"shared memory {self.name} is no ring of this program")
        self.slots = int(words[_SLOTS])
        self.readers = int(words[_READERS])
        self.shape: Shape = (int(words[_SHAPE]), int(words[_SHAPE + 1]), int(words[_SHAPE + 2]))
        self.words = words
        self.sequences = words[_SEQUENCES : _SEQUENCES + self.slots]
        first, stride, _ = _layout(self.shape, self.slots)
        self.images: list[Image] = [
            np.frombuffer(
                buffer, np.uint8, int(np.prod(self.shape)), first + slot * stride
            ).reshape(self.shape)
            for slot in range(self.slots)
        ]

    def cursor_index(self, reader: int) -> int:
        return _CURSORS + reader * _CURSOR_STRIDE

    def close(self) -> None:
        """Unmap. A view that is still in use keeps the pages until it is gone."""
        self.images = []
        del self.words, self.sequences
        try:
            self.memory.close()
        except BufferError:
            log.warning("ring %s: a view of it is still in use at close", self.name)


def _layout(shape: Shape, slots: int) -> tuple[int, int, int]:
    """(offset of the first slot, bytes from slot to slot, bytes in all)."""
    header = (_SEQUENCES + slots) * 8
    first = -(-header // _PAGE) * _PAGE
    stride = -(-int(np.prod(shape)) // _LINE) * _LINE
    return first, stride, first + slots * stride


def _allocated(name: str, size: int) -> shared_memory.SharedMemory:
    """A new segment with all its pages allocated; raises OSError when there is no room.

    Without this, a full ``/dev/shm`` (64 MiB in a container) shows only when the writer touches
    one page too many, and then as a SIGBUS.
    """
    if not SHM_FOLDER.is_dir():
        return shared_memory.SharedMemory(name=name, create=True, size=size)
    path = SHM_FOLDER / name
    # Not by SharedMemory itself: where it fails, Python's resource tracker prints a traceback.
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(number, 0, size)
        return shared_memory.SharedMemory(name=name)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(number)


def _no_room(camera: str, size: int, slots: int, shape: Shape, error: OSError) -> str:
    height, width = picture_size(shape)
    text = (
        f"no shared memory for {slots} images of {width}×{height} of camera {camera} "
        f"({size / 2**20:.1f} MiB): {os_reason(error)}"
    )
    with contextlib.suppress(OSError):
        disk = os.statvfs(SHM_FOLDER)
        free, whole = (n * disk.f_frsize / 2**20 for n in (disk.f_bavail, disk.f_blocks))
        text += f"; {free:.1f} of {whole:.1f} MiB are free in {SHM_FOLDER}"
    return f"{text}; make it larger (docker run --shm-size) or lower runtime.ring_slots"


class RingOwner:
    """Creates and unlinks all segments of a run. The supervisor has it."""

    def __init__(self, run: RunIdentity) -> None:
        self._run = run
        self._made = 0
        self._segments: dict[tuple[str, str], shared_memory.SharedMemory] = {}

    def create(self, key: tuple[str, str], shape: Shape, slots: int, readers: int) -> str:
        """Make the ring for ``key`` (camera, content) and return its name.

        An earlier ring for the same key is unlinked. Its readers keep what they have mapped and
        learn the new name from the next message. Raises :class:`RingError`.
        """
        if min(*shape, slots) < 1 or not 0 <= readers <= MAX_READERS:
            raise RingError(
                f"a ring needs slots and images of at least 1 and at most {MAX_READERS} readers, "
                f"got {slots} of {shape} for {readers}"
            )
        _, _, size = _layout(shape, slots)
        if size > MAX_RING_BYTES:
            raise RingError(
                f"a ring of {slots} images of {shape} would take {size / 2**20:.0f} MiB; "
                f"at most {MAX_RING_BYTES >> 20} MiB are allowed"
            )
        self._made += 1
        name = f"{self._run.prefix}-{self._made}"
        try:
            memory = _allocated(name, size)
        except OSError as error:
            raise RingError(_no_room(key[0], size, slots, shape, error)) from None
        words = np.frombuffer(_buffer(memory), np.int64, _PAGE // 8)
        words[_RUN : _RUN + 2] = self._run.words()
        words[_SLOTS], words[_READERS] = slots, readers
        words[_SHAPE : _SHAPE + 3] = shape
        words[_HEAD] = 0
        words[_MAGIC] = MAGIC
        del words
        self.release(key)
        self._segments[key] = memory
        return name

    def release(self, key: tuple[str, str]) -> None:
        """Unlink the ring of ``key``, if there is one."""
        memory = self._segments.pop(key, None)
        if memory is None:
            return
        memory.close()
        with contextlib.suppress(FileNotFoundError):
            memory.unlink()

    def close(self) -> None:
        for key in list(self._segments):
            self.release(key)


class RingWriter:
    """Writes images into a ring; one writer per ring.

    ``wait`` (lossless mode) is called repeatedly while a reader still needs the slot. It sleeps a
    little, and may raise to give up.
    """

    def __init__(self, name: str, run: RunIdentity, wait: Callable[[], None] | None = None) -> None:
        self._map = _attach(name, run)
        self._wait = wait
        self._number = int(self._map.words[_HEAD])

    @property
    def name(self) -> str:
        return self._map.name

    @property
    def shape(self) -> Shape:
        return self._map.shape

    def reserve(self) -> Image:
        """The next slot, (H, W, C) uint8, to be filled in place and then committed.

        Reserving again without a commit returns the same slot.
        """
        ring, number = self._map, self._number
        if self._wait is not None:
            while number - self._slowest() >= ring.slots:
                self._wait()
        ring.sequences[number % ring.slots] = 2 * number + 1
        _fence()
        return ring.images[number % ring.slots]

    def commit(self) -> int:
        """Publish the reserved slot; returns the image's number."""
        ring, number = self._map, self._number
        _fence()
        ring.sequences[number % ring.slots] = 2 * number + 2
        self._number = number + 1
        ring.words[_HEAD] = self._number
        return number

    def drained(self) -> bool:
        """Whether every reader's cursor is past the last image."""
        return self._slowest() >= self._number

    def _slowest(self) -> int:
        ring = self._map
        return min(
            (int(ring.words[ring.cursor_index(r)]) for r in range(ring.readers)),
            default=self._number,
        )

    def close(self) -> None:
        self._map.close()


class _View(contextlib.AbstractContextManager[Image]):
    """One image of a ring during its use; entered for every step, hence no generator."""

    __slots__ = ("_number", "_ring", "_slot")

    def __init__(self, ring: _Mapping, number: int) -> None:
        self._ring = ring
        self._number = number
        self._slot = number % ring.slots

    def __enter__(self) -> Image:
        self._check()
        _fence()
        return self._ring.images[self._slot]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            _fence()
            self._check()

    def _check(self) -> None:
        if self._ring.sequences[self._slot] != 2 * self._number + 2:
            raise FrameOverwritten(f"image {self._number} of ring {self._ring.name}")


class RingReader:
    """Reads images of a ring by their number."""

    def __init__(self, name: str, run: RunIdentity, reader: int = 0) -> None:
        self._map = _attach(name, run)
        # In a live ring no writer waits for the cursors; its readers keep their numbers.
        readers = self._map.readers or MAX_READERS
        if not 0 <= reader < readers:
            self._map.close()
            raise RingError(f"ring {name} has {readers} readers, no reader {reader}")
        self._cursor = self._map.cursor_index(reader)

    @property
    def name(self) -> str:
        return self._map.name

    @property
    def shape(self) -> Shape:
        return self._map.shape

    def view(self, number: int) -> contextlib.AbstractContextManager[Image]:
        """Image ``number`` in place, (H, W, C) uint8, read-only by agreement; for a ``with`` block.

        Raises :class:`FrameOverwritten` on entry when it is gone, and on exit when it was
        overwritten meanwhile. What was computed from it must then be discarded.
        """
        return _View(self._map, number)

    def read(self, number: int) -> Image:
        """A copy of image ``number``; raises :class:`FrameOverwritten`."""
        with self.view(number) as image:
            copy = image.copy()
        return copy

    @property
    def head(self) -> int:
        """Number of the image that the writer commits next."""
        return int(self._map.words[_HEAD])

    def done(self, number: int) -> None:
        """Move this reader's cursor past image ``number``; only a lossless writer waits for it."""
        if not self._map.readers:
            return
        _fence()
        self._map.words[self._cursor] = number + 1

    def close(self) -> None:
        self._map.close()


def _attach(name: str, run: RunIdentity) -> _Mapping:
    try:
        memory = _untracked(name)
    except (FileNotFoundError, ValueError):
        raise RingGone(f"shared memory {name} is gone") from None
    except OSError as error:
        raise RingError(f"shared memory {name}: {error.strerror or error}") from None
    mapping = _Mapping(memory)
    if not np.array_equal(mapping.words[_RUN : _RUN + 2], run.words()):
        mapping.close()
        raise RingError(f"shared memory {name} belongs to another run")
    return mapping


class RingReaders:
    """The rings that a stage reads. Each is attached when a message first names it."""

    def __init__(self, run: RunIdentity, reader: int) -> None:
        self._run = run
        self._reader = reader
        self._rings: dict[str, RingReader] = {}

    def get(self, whose: str, name: str) -> RingReader:
        """The ring ``name``; raises :class:`FrameOverwritten` when it is gone.

        ``whose`` is the camera, and the kind of flow. It has one ring at a time.
        """
        ring = self._rings.get(whose)
        if ring is not None and ring.name == name:
            return ring
        try:
            fresh = RingReader(name, self._run, self._reader)
        except RingGone as error:
            raise FrameOverwritten(str(error)) from None
        if ring is not None:
            ring.close()
        self._rings[whose] = fresh
        return fresh

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()


def remove_stale(prefix: str) -> list[str]:
    """Unlink the segments of a dead run by their prefix; returns their names (Linux)."""
    removed = []
    for path in sorted(SHM_FOLDER.glob(f"{prefix}-*")) if SHM_FOLDER.is_dir() else []:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            removed.append(path.name)
    return removed


def segment_names(prefix: str = "two-stream-") -> list[str]:
    """Names of the segments that exist now (Linux); for tests."""
    return sorted(p.name for p in SHM_FOLDER.glob(f"{prefix}*")) if SHM_FOLDER.is_dir() else []
