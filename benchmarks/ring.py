"""The rolling buffer under load: one writer at full speed, four readers, one of them slow.

Every image is filled with its own number, so that one sum over the copy tells whether it is whole:
what a writer that overtakes leaves behind sums to something else. Small images make for many reads,
and now and then a large one makes for long copies, which are what tears.

That the checker would notice is shown by a second run whose readers don't look at the sequence
words: it must find torn frames.
"""

import contextlib
import json
import multiprocessing as mp
import time
from collections.abc import Callable, Iterator
from ctypes import c_int64
from dataclasses import asdict, dataclass
from typing import Any

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
"""How long the slow reader holds an image: many times what the writer needs for a whole round."""
BATCH = 256
UNCHECKED_S = 5.0
_SPAWN = mp.get_context("spawn")
_FIELDS = 4

Words = npt.NDArray[np.uint64]
ReaderType = type[RingReader]


@dataclass(frozen=True)
class Result:
    """What the readers saw. ``torn`` images were returned although they were not whole."""

    seconds: float
    written: int
    reads: int
    reads_per_s: float
    overwritten: int
    torn: int
    reads_of_slow_reader: int


class UncheckedReader(RingReader):
    """A reader that never looks at the sequence words: what the ring would be without them."""

    @contextlib.contextmanager
    def view(self, number: int) -> Iterator[Image]:
        yield self._map.images[number % self._map.slots]


def words_of(image: Image) -> Words:
    """The image's bytes as uint64, (H·W·C / 8,); the image must be contiguous."""
    return image.reshape(-1).view(np.uint64)


def is_whole(image: Image) -> bool:
    """Whether one number fills the image from its first word to its last."""
    words = words_of(image)
    first, total = int(words[0]), int(np.add.reduce(words))
    return first == int(words[-1]) and total == (first * len(words)) % (1 << 64)


def write(names: tuple[str, str], run: RunIdentity, written: Any, stop: Any) -> None:
    """The writer's process: images as fast as they can be filled until ``stop``."""
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
    """A reader's process; ``counts`` are (reads, overwritten, torn, ready) of each reader.

    Reader 0 is the slow one. The others ask for the newest image, the oldest, and all in between.
    """
    kind: ReaderType = RingReader if checked else UncheckedReader
    small, large = (kind(name, run) for name in names)
    take = _take_slowly if place == 0 else _take
    tallies, turn = [0, 0, 0], 0
    counts[place * _FIELDS + 3] = 1
    while not stop.value:
        # The slow one looks at few images; all large ones would show it little else.
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


def stress(seconds: float, reads: int | None = None, checked: bool = True) -> Result:
    """Run writer and readers for ``seconds``, or until ``reads`` whole images were read."""
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
    return Result(
        seconds=round(lasted, 2),
        written=written.value,
        reads=whole,
        reads_per_s=round(whole / lasted),
        overwritten=sum(counts[1::_FIELDS]),
        torn=sum(counts[2::_FIELDS]),
        reads_of_slow_reader=counts[0],
    )


def _await(done: Callable[[], bool], seconds: float, processes: list[Any]) -> None:
    """Until ``done`` or the time is up; raises RuntimeError when a process has died."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        if any(process.exitcode is not None for process in processes):
            raise RuntimeError("a process of the benchmark died; its error is above")
        time.sleep(0.05)


def ring(seconds: float, reads: int, json_output: bool) -> None:
    """Run both, print both; exit 1 when a frame was torn, or when the checker proved blind."""
    checked = stress(seconds, reads)
    unchecked = stress(min(seconds, UNCHECKED_S), None, checked=False)
    if json_output:
        found = {"checked": asdict(checked), "sequence_check_off": asdict(unchecked)}
        typer.echo(json.dumps({"benchmark": "ring", "slots": SLOTS, "readers": READERS, **found}))
    else:
        typer.echo(
            f"{checked.reads:,} reads in {checked.seconds:.1f} s ({checked.reads_per_s:,} per "
            f"second, {checked.reads_of_slow_reader:,} by the slow reader) of {checked.written:,} "
            f"images written; {checked.overwritten:,} told as overwritten, {checked.torn} torn.\n"
            f"Without the sequence check: {unchecked.torn:,} torn in {unchecked.reads:,} reads."
        )
    if checked.torn or not unchecked.torn:
        raise typer.Exit(1)
