"""A camera's own background: from its memory, from files, or from the camera while one waits."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.errors import SourceError
from pipeline.evaluate.clip_list import shown
from pipeline.model.pack import ModelPack
from pipeline.sources import Source, create, redact
from pipeline.steps.follow import TimedFrame
from teach.bar import Tick
from teach.corrections import Times, times_of
from teach.features import ClipFeatures, Extractor
from teach.lesson_file import KeptLesson
from teach.pack import TeachError
from teach.place import Place

LEAST_S = 30.0
"""Less footage says nothing."""
LEAST_WINDOWS = 2
MARGIN_NS = 3 * NS_PER_S
"""So long around an action nothing counts as background."""


@dataclass(frozen=True)
class CalibrateOrder:
    """Which pack, and whose background: a camera's memory, files, or what a camera sees now."""

    pack: Path
    config: Path | None = None
    camera: str = ""
    hours: float = 1.0
    files: tuple[Path, ...] = ()
    source: str = ""
    out: Path | None = None
    switch: bool = False
    false_a_day: float | None = None
    tick: Tick = lambda _what, _done, _all: None


@dataclass(frozen=True)
class Background:
    """Footage, from when to when in hours, where it is from, and what to say of it."""

    pieces: list[ClipFeatures]
    hours: float
    where: str
    warnings: list[str]


def background_of(order: CalibrateOrder, kept: KeptLesson, pack: ModelPack) -> Background:
    """The footage that the order names.

    Raises :class:`TeachError` if it is too little, :class:`SourceError` if it can't be read, and
    :class:`pipeline.errors.FeatureMemoryError`.
    """
    if bool(order.files) + bool(order.source) + (order.config is not None) != 1:
        raise TeachError(
            "calibrate: name one of these: a memory with --config and --camera, files with "
            "--background, or a camera with --source"
        )
    if order.source:
        got = _of_source(order, kept)
    else:
        got = _of_files(order, kept) if order.files else _of_memory(order, kept, pack)
    _check_enough(got, kept)
    return got


def _check_enough(got: Background, kept: KeptLesson) -> None:
    if not kept.labels.rest:
        raise TeachError("the pack has no background label, so it can't learn any background")
    least_s = max(LEAST_S, LEAST_WINDOWS * kept.window / kept.labels.step_hz)
    there_s = sum(one.steps for one in got.pieces) / kept.labels.step_hz
    if there_s < least_s:
        raise TeachError(
            f"{got.where}: has {there_s:.0f} seconds of background in which something moves; "
            f"{least_s:.0f} are needed"
        )


def _of_files(order: CalibrateOrder, kept: KeptLesson) -> Background:
    """The footage of video files, by the pack's own networks."""
    streams = (kept.looks.appearance, kept.looks.motion)
    extractor = Extractor(kept.base, streams, kept.labels.step_hz)
    pieces = []
    for number, path in enumerate(order.files):
        pieces.append(extractor.clip(path))
        order.tick("looking at files", number + 1, len(order.files))
    hours = sum(one.steps for one in pieces) / kept.labels.step_hz / 3600
    names = ", ".join(shown(path.name) for path in order.files)
    return Background(pieces, hours, order.camera or names, [])


def _of_source(order: CalibrateOrder, kept: KeptLesson) -> Background:
    """What a camera sees from now on. Ctrl-C, or a camera that breaks, ends it earlier."""
    where = order.camera or redact(order.source)
    extractor = Extractor(
        kept.base, (kept.looks.appearance, kept.looks.motion), kept.labels.step_hz
    )
    source = create(order.source, camera=order.camera or "calibrate", clock=SYSTEM_CLOCK)
    with closing(source):
        source.open()
        watched = _Watched(source, order.hours * 3600, order.tick)
        with _ending(watched):
            # One step a call: who computes for long loses packets.
            clip = extractor.of_frames(Path(where), watched.frames(), at_once=1)
    return Background([clip], watched.seconds / 3600, where, watched.problems)


class _Watched:
    """The frames of a source, for some seconds of its own time."""

    def __init__(self, source: Source, seconds: float, tick: Tick) -> None:
        self._source, self._limit, self._tick = source, seconds, tick
        self.stopped = False
        self.seconds = 0.0
        self.problems: list[str] = []

    def frames(self) -> Iterator[TimedFrame]:
        first_ns = None
        while not self.stopped:
            try:
                grab = self._source.grab()
            except SourceError as error:
                self.problems.append(f"the camera broke after {self.seconds:.0f} seconds: {error}")
                return
            if grab is None:
                return
            time_ns = grab.step_ns(self._source.ends)
            first_ns = time_ns if first_ns is None else first_ns
            self.seconds = (time_ns - first_ns) / NS_PER_S
            if self.seconds >= self._limit:
                return
            self._tick("watching, seconds", round(self.seconds), round(self._limit))
            yield TimedFrame(time_ns, self._source.retrieve, grab.discontinuity)


@contextmanager
def _ending(watched: _Watched) -> Iterator[None]:
    """The first Ctrl-C ends the watching, and what was seen counts; the next ends the program."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        watched.stopped = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _of_memory(order: CalibrateOrder, kept: KeptLesson, pack: ModelPack) -> Background:
    """What a camera's memory has of its last hours, without the actions in it."""
    if order.config is None or not order.camera:
        raise TeachError("calibrate: name the camera of the memory: --camera")
    place = Place(order.config)
    recall = place.recall(order.camera, pack, kept.looks)
    span = place.memory.kept(order.camera)
    assert span is not None  # the recall has looked
    first_ns = max(span.first_ns, span.last_ns - round(order.hours * 3600 * NS_PER_S))
    around_ns = round(kept.window * NS_PER_S / kept.labels.step_hz) + MARGIN_NS
    actions, warnings = _actions(place, order.camera, pack, (first_ns, span.last_ns))
    pieces = [
        piece
        for first, last in _between(actions, around_ns, first_ns, span.last_ns)
        for _, piece in recall.pieces(first, last)
    ]
    warnings += place.overruled(pack.contract.actions)
    hours = (span.last_ns - first_ns) / NS_PER_S / 3600
    return Background(pieces, hours, order.camera, warnings)


def _actions(
    place: Place, camera: str, pack: ModelPack, span_ns: tuple[int, int]
) -> tuple[list[Times], list[str]]:
    """When people say that something happened; and a warning of events that nobody has reviewed,
    which count as background."""
    log = [one for one in place.log() if one.camera == camera]
    known = {one.id: one.at for one in log}
    reviews = [one for one in place.reviews(needed=False) if one.camera == camera]
    actions = [times_of(one, known) for one in reviews if one.verdict != "wrong"]
    judged = {one.event for one in reviews}
    open_ = [
        one
        for one in log
        if one.id not in judged
        and one.label in pack.contract.actions
        and span_ns[0] <= one.at.end_ns
        and one.at.start_ns <= span_ns[1]
    ]
    if not open_:
        return actions, []
    return actions, [
        f"{len(open_)} events in this time aren't reviewed, and are taught as background; if some "
        "are right, say so first: two-stream review ask"
    ]


def _between(
    actions: Sequence[Times], around_ns: int, first_ns: int, last_ns: int
) -> list[tuple[int, int]]:
    """The time from ``first_ns`` to ``last_ns`` without the actions and what is around them."""
    spans, at = [], first_ns
    for one in sorted(actions, key=lambda times: times.start_ns):
        if at < min(one.start_ns - around_ns, last_ns):
            spans.append((at, min(one.start_ns - around_ns, last_ns)))
        at = max(at, one.end_ns + around_ns)
    if at < last_ns:
        spans.append((at, last_ns))
    return spans
