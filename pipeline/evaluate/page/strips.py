"""Strips of frames and flow: the input of the networks while they were wrong."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.arrays import FlowField, Frame, QuantisedFlow, picture_size
from pipeline.clock import NS_PER_S
from pipeline.config import CameraConfig
from pipeline.evaluate.page.flow_colour import flow_colours
from pipeline.flow import create
from pipeline.flow.base import dequantise
from pipeline.model.pack import Contract
from pipeline.pictures import small_bgr
from pipeline.sources import Grab
from pipeline.steps.follow import CameraFollower, TimedFrame
from pipeline.steps.polygons import Polygon
from pipeline.steps.sampling import Steps

CELLS = 8
CELL_AREA = 160 * 120
"""Pixels of a frame in a strip, for any aspect ratio."""

FILM_KEPT = 16 * CELLS
"""Pictures of a file that are kept at most, to choose a film's from."""

_LINE = 140
"""Gray of the lines between cells, visible on a light and on a dark page."""
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 80)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file or stream, in nanoseconds of its media time."""

    start_ns: int
    end_ns: int

    def centres_ns(self) -> list[int]:
        """The times of the strip's cells: the middles of :data:`CELLS` equal parts."""
        length = self.end_ns - self.start_ns
        return [self.start_ns + length * (2 * i + 1) // (2 * CELLS) for i in range(CELLS)]


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of frames above a row of their flow, as a JPEG; the cells divide a span evenly."""

    uri: str
    width: int
    height: int
    full_colour: float
    """The speed of full colour, in pixels per step at the size of the motion network's input."""


@dataclass(slots=True)
class _Cell:
    pts_ns: int
    frame: Frame
    field: QuantisedFlow | None


def cut(
    frames: Iterable[TimedFrame],
    spans: Sequence[Span],
    contract: Contract,
    ignore: Sequence[Polygon] = (),
) -> list[Strip | None]:
    """Cut the strip of each span from one camera's ``frames``; None where a span has no step.

    Flow is computed as in the pipeline, and drawn as the motion network gets it.
    """
    steps = Steps("strips", contract.step_hz, CameraConfig().gap_s)
    follower = CameraFollower(steps, contract, create(contract.temporal.method), ignore)
    found: list[list[_Cell]] = [[] for _ in spans]
    last_ns = max((span.end_ns for span in spans), default=-1)
    before_ns = round(2 * NS_PER_S / contract.step_hz)  # flow needs the step before
    for timed in frames:
        if timed.pts_ns > last_ns:
            break
        grab = Grab(timed.pts_ns, timed.pts_ns, timed.discontinuity)
        due = follower.due(grab, timed.pts_ns)
        if due is None:
            continue
        # For every step: a pause holds the last frame retrieved.
        frame = follower.seen(timed.retrieve())
        moment = follower.number(due, frame)
        # Outside the spans, and the steps just before them, no flow is computed.
        near = [i for i, s in enumerate(spans) if -before_ns <= timed.pts_ns - s.start_ns]
        near = [i for i in near if timed.pts_ns < spans[i].end_ns]
        if not near:
            follower.skip(moment)
            continue
        _, field, _ = follower.motion(moment, frame)
        small = _thumbnail(frame)
        for i in near:
            if timed.pts_ns >= spans[i].start_ns:
                found[i].append(_Cell(timed.pts_ns, small, field))
    return [
        _strip(_nearest(cells, span), contract) if cells else None
        for cells, span in zip(found, spans, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Film:
    """A row of pictures from the first to the last of a file, as a JPEG; all cells are equal."""

    uri: str
    width: int
    height: int
    times_ns: tuple[int, ...]


def film(frames: Iterable[TimedFrame], longest_ns: int) -> Film | None:
    """:data:`CELLS` pictures of a file, or of its first ``longest_ns``; None without a frame.

    How long a file is shows only at its end. So every frame is kept until there are
    :data:`FILM_KEPT`; then each second one goes, and from there on each second one is left out.
    """
    kept: list[tuple[int, Frame]] = []
    apart = 1
    for number, timed in enumerate(frames):
        if timed.pts_ns > longest_ns:
            break
        if number % apart:
            continue
        kept.append((timed.pts_ns, _thumbnail(timed.retrieve())))
        if len(kept) == FILM_KEPT:
            kept, apart = kept[::2], 2 * apart
    if not kept:
        return None
    chosen = [kept[round(place)] for place in np.linspace(0, len(kept) - 1, CELLS)]
    height, width = chosen[0][1].shape[:2]
    cells = [_lined(np.asarray(cv2.resize(one, (width, height)), np.uint8)) for _, one in chosen]
    picture = np.hstack(cells)
    times = tuple(time_ns for time_ns, _ in chosen)
    return Film(jpeg_uri(picture), picture.shape[1], picture.shape[0], times)


def _nearest(cells: Sequence[_Cell], span: Span) -> list[_Cell]:
    return [min(cells, key=lambda cell: abs(cell.pts_ns - at)) for at in span.centres_ns()]


def _thumbnail(frame: Frame) -> Frame:
    height, width = picture_size(frame.shape)
    scale = (CELL_AREA / (height * width)) ** 0.5
    return small_bgr(frame, (max(1, round(height * scale)), max(1, round(width * scale))))


def _strip(cells: Sequence[_Cell], contract: Contract) -> Strip:
    # If the camera changed its size, all cells get the size of the first.
    height, width = cells[0].frame.shape[:2]
    frames = [np.asarray(cv2.resize(c.frame, (width, height)), np.uint8) for c in cells]
    fields = [
        None if c.field is None else dequantise(c.field, contract.temporal.bound) for c in cells
    ]
    radius = _radius(fields)
    flows = [_flow_cell(field, (width, height), radius) for field in fields]
    rows = [np.hstack([_lined(cell) for cell in row]) for row in (frames, flows)]
    picture = np.vstack(rows)
    return Strip(jpeg_uri(picture), picture.shape[1], picture.shape[0], round(radius, 1))


def _radius(fields: Sequence[FlowField | None]) -> float:
    """The speed of full colour: few pixels exceed it in most cells.

    Not in all, because a cell at a cut between clips has random flow. It is at least one pixel per
    step, so that noise in a still scene stays pale.
    """
    fastest = [
        float(np.percentile(np.hypot(field[..., 0], field[..., 1]), 99))
        for field in fields
        if field is not None
    ]
    return max(1.0, float(np.percentile(fastest, 75))) if fastest else 1.0


def _flow_cell(field: FlowField | None, size: tuple[int, int], radius: float) -> Frame:
    if field is None:  # the first step has no flow
        return np.full((size[1], size[0], 3), _LINE, np.uint8)
    large = np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR), np.float32)
    return flow_colours(large, radius)


def _lined(cell: Frame) -> Frame:
    lined = cell.copy()
    lined[-1:] = _LINE
    lined[:, -1:] = _LINE
    return lined


def jpeg_uri(picture: Frame) -> str:
    """``picture`` (H, W, 3) uint8 BGR as a ``data:`` address."""
    _, encoded = cv2.imencode(".jpg", picture, _JPEG)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
