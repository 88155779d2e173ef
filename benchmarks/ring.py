"""The frame ring under load: one writer at full speed and four readers, one of them slow.

Every image is filled with its own number, so one sum over a copy shows whether the copy is whole.
When the writer overtakes a reader, the copy mixes two numbers and the sum is wrong. Most images are
small, for many reads; some are large, because long copies are the ones that tear.

A second run proves that the check works: its readers ignore the ring's sequence words, and the
check must find torn images.
"""

import contextlib
import multiprocessing as mp
import time
from collections.abc import Callable, Iterator
from ctypes import c_int64
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from pipeline.transport.frame_ring import (
    FrameOverwritten,
    Image,
    RingOwner,
    RingReader,
    RingWriter,
    Shape,
)
from pipeline.transport.run_identity import RunIdentity

SLOTS = 8
READERS = 4
SMALL: Shape = (8, 16, 4)
LARGE: Shape = (480, 640, 4)
LARGE_EVERY = 2000
SLOW_S = 0.002
"""Time that the slow reader holds an image; the writer fills all slots many times meanwhile."""
BATCH = 256
UNCHECKED_S = 5.0
_SPAWN = mp.get_context("spawn")
_FIELDS = 4
"""Shared counters of each reader: whole, overwritten, torn, ready."""

Words = npt.NDArray[np.uint64]
ReaderType = type[RingReader]


@dataclass(frozen=True)
class Stress:
    """Counts of one run. A ``torn`` image was returned although it was not whole."""

    seconds: float
    written: int
    reads: int
    reads_per_s: float
    overwritten: int
    torn: int
    reads_of_slow_reader: int


@dataclass(frozen=True, kw_only=True)
class RingResult:
    """The run that counts, and the run that proves that the check works."""

    benchmark: str = "ring"
    slots: int = SLOTS
    readers: int = READERS
    checked: Stress
    sequence_check_off: Stress

    @property
    def failed(self) -> bool:
        """Whether an image was torn, or the check found none where there must be some."""
        return bool(self.checked.torn) or not self.sequence_check_off.torn


class UncheckedReader(RingReader):
    """A reader that ignores the sequence words, as if the ring had none."""

    @contextlib.contextmanager
    def view(self, number: int) -> Iterator[Image]:
        yield self._map.images[number % self._map.slots]


def words_of(image: Image) -> Words:
    """The image's bytes as uint64, (H·W·C / 8,). The image must be contiguous."""
    return image.reshape(-1).view(np.uint64)


def is_whole(image: Image) -> bool:
    """Whether one number fills the whole image."""
    words = words_of(image)
    first, total = int(words[0]), int(np.add.reduce(words))
    return first == int(words[-1]) and total == (first * len(words)) % (1 << 64)


def write(names: tuple[str, str], run: RunIdentity, written: Any, stop: Any) -> None:
    """The writer's process: fill images at full speed until ``stop``."""
    small, large = (RingWriter(name, run) for name in names)
    rounds = 0
    while not stop.value:
        for number in range(rounds * LARGE_EVERY, (rounds + 1) * LARGE_EVERY):
            _write_one(small, number)
        _write_one(large, rounds)
        rounds += 1
        written.value = rounds * (LARGE_EVERY + 1)
    small.close()
    large.close()


def _write_one(ring: RingWriter, number: int) -> None:
    words_of(ring.reserve())[:] = number
    ring.commit()


def read(
    names: tuple[str, str], run: RunIdentity, place: int, counts: Any, stop: Any, checked: bool
) -> None:
    """A reader's process; ``counts`` holds the counters of all readers (:data:`_FIELDS`).

    Reader 0 is the slow one. The others read images of every age, from the newest to the oldest.
    """
    kind: ReaderType = RingReader if checked else UncheckedReader
    small, large = (kind(name, run) for name in names)
    take = _take_slowly if place == 0 else _take
    tallies, turn = [0, 0, 0], 0
    counts[place * _FIELDS + 3] = 1
    while not stop.value:
        # The slow reader reads few images: with as many large ones as the others it would read
        # hardly any small ones. It also updates its counters after fewer reads.
        for _ in range(BATCH if place else 8):
            turn += 1
            ring = large if turn % LARGE_EVERY == 0 or (place and turn % 97 == 0) else small
            number = ring.head - 1 - turn % SLOTS
            if number >= 0:
                tallies[take(ring, number, checked)] += 1
        for field, tally in enumerate(tallies):
            counts[place * _FIELDS + field] = tally
    small.close()
    large.close()


_WHOLE, _OVERWRITTEN, _TORN = range(3)


def _take(ring: RingReader, number: int, checked: bool) -> int:
    try:
        image = ring.read(number)
    except FrameOverwritten:
        return _OVERWRITTEN
    return _verdict(image, number, checked)


def _take_slowly(ring: RingReader, number: int, checked: bool) -> int:
    try:
        with ring.view(number) as image:
            copy = np.empty_like(image)
            half = len(image) // 2
            copy[:half] = image[:half]
            time.sleep(SLOW_S if number % 2 else 0.0)
            copy[half:] = image[half:]
    except FrameOverwritten:
        return _OVERWRITTEN
    return _verdict(copy, number, checked)


def _verdict(image: Image, number: int, checked: bool) -> int:
    right = int(words_of(image)[0]) == number or not checked
    return _WHOLE if right and is_whole(image) else _TORN


def stress(seconds: float, reads: int | None = None, checked: bool = True) -> Stress:
    """Run the writer and the readers for ``seconds`` or until ``reads`` whole images are read."""
    run = RunIdentity.new()
    owner = RingOwner(run)
    names = (
        owner.create(("stress", "small"), SMALL, SLOTS, 0),
        owner.create(("stress", "large"), LARGE, SLOTS, 0),
    )
    stop, written = _SPAWN.RawValue(c_int64, 0), _SPAWN.RawValue(c_int64, 0)
    counts = _SPAWN.RawArray(c_int64, READERS * _FIELDS)
    processes = [
        _SPAWN.Process(target=write, args=(names, run, written, stop), daemon=True),
        *(
            _SPAWN.Process(
                target=read, args=(names, run, place, counts, stop, checked), daemon=True
            )
            for place in range(READERS)
        ),
    ]
    try:
        for process in processes:
            process.start()
        _await(lambda: sum(counts[3::_FIELDS]) == READERS and written.value > 0, 60.0, processes)
        began = time.monotonic()
        _await(
            lambda: reads is not None and sum(counts[::_FIELDS]) >= reads,
            seconds,
            processes,
        )
        lasted = time.monotonic() - began
    finally:
        stop.value = 1
        for process in processes:
            process.join(10.0)
            process.kill()
        owner.close()
    whole = sum(counts[::_FIELDS])
    return Stress(
        seconds=round(lasted, 2),
        written=written.value,
        reads=whole,
        reads_per_s=round(whole / lasted),
        overwritten=sum(counts[1::_FIELDS]),
        torn=sum(counts[2::_FIELDS]),
        reads_of_slow_reader=counts[0],
    )


def _await(done: Callable[[], bool], seconds: float, processes: list[Any]) -> None:
    """Wait until ``done`` or for ``seconds``; raises RuntimeError when a process has died."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        if any(process.exitcode is not None for process in processes):
            raise RuntimeError("a process of the benchmark died; its error is above")
        time.sleep(0.05)


def measure(
    seconds: Annotated[float, typer.Option(min=1, help="most seconds to read")] = 120.0,
    reads: Annotated[int, typer.Option(min=1, help="number of images to read")] = 10_000_000,
) -> RingResult:
    """Run with the sequence check, then for some seconds without it."""
    return RingResult(
        checked=stress(seconds, reads),
        sequence_check_off=stress(min(seconds, UNCHECKED_S), None, checked=False),
    )


def show(result: RingResult) -> None:
    checked, unchecked = result.checked, result.sequence_check_off
    typer.echo(
        f"{checked.reads:,} reads in {checked.seconds:.1f} s ({checked.reads_per_s:,} per "
        f"second, {checked.reads_of_slow_reader:,} by the slow reader) of {checked.written:,} "
        f"images written; {checked.overwritten:,} reported as overwritten, {checked.torn} torn.\n"
        f"Without the sequence check: {unchecked.torn:,} torn in {unchecked.reads:,} reads."
    )
