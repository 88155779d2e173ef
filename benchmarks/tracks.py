"""Identity switches and fragments of the tracks, on hand-labelled pieces of OpenCV's vtest.avi.

Three pieces of ten seconds are labelled twice a second (tests/people/vtest_tracks.json): boxes and
who is who, by eye. The detector begins three seconds before a piece. Detections are the shipped
detector's, or the labels themselves made worse: trembling, some missing, hidden people gone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich import box as lines
from rich.console import Console
from rich.table import Table

from benchmarks.track_figures import TrackFigures, TrackScore, part_inside
from pipeline.arrays import Frame
from pipeline.errors import EvaluationError
from pipeline.people.detector import PersonDetector
from pipeline.people.regions import Seen, create
from pipeline.people.tracks import Detections, Track, Tracker, TrackRules
from pipeline.transport.messages import Box

PROJECT = Path(__file__).resolve().parents[1]
LABELS = PROJECT / "tests" / "people" / "vtest_tracks.json"
VIDEO = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
RATES_HZ = (2, 5, 10)
BEFORE_S = 3
NOISE, MISSING, HIDDEN = 0.04, 0.15, 0.65
"""Of worsened labels: standard deviation of a side in heights of the box; the share of boxes that
are missing by chance; the part that others cover from which a box is missing."""
BEGIN_NS = 10**12

Find = Callable[[int], Detections]
"""Frame number → detections in it."""


class Piece(msgspec.Struct):
    """A labelled piece: frame number → person → box in pixels."""

    name: str
    what: str
    frames: dict[str, dict[str, tuple[int, int, int, int]]]

    @property
    def span(self) -> tuple[int, int]:
        numbers = [int(number) for number in self.frames]
        return min(numbers), max(numbers)


class Labels(msgspec.Struct):
    """All pieces of a video."""

    video: str
    size: tuple[int, int]
    fps: int
    pieces: list[Piece]

    @property
    def aspect(self) -> float:
        return self.size[0] / self.size[1]

    def people(self, piece: Piece, number: int) -> dict[str, Box]:
        """Person → box in 0..1 at a frame, in a straight line between the labelled ones."""
        first, last = piece.span
        number = min(max(number, first), last)
        known = sorted(int(one) for one in piece.frames)
        before = max(one for one in known if one <= number)
        after = min(one for one in known if one >= number)
        share = 0.0 if before == after else (number - before) / (after - before)
        low, high = piece.frames[str(before)], piece.frames[str(after)]
        size = np.array([*self.size, *self.size])
        found = {}
        for person in sorted(low.keys() & high.keys()):
            place = (1 - share) * np.array(low[person]) + share * np.array(high[person])
            x0, y0, x1, y1 = (float(side) for side in place / size)
            found[person] = (x0, y0, x1, y1)
        return found


@dataclass(frozen=True, kw_only=True)
class TracksResult:
    """Figures by detections a second and by piece."""

    benchmark: str = "tracks"
    about: dict[str, Any]
    rates: dict[str, dict[str, TrackFigures]]
    """The names of the last are the pieces', and ``all``."""
    shown: dict[str, list[float]]
    """By detections a second: the share of a person's box that the region of the track shows; the
    mean, the lowest percentile and the least."""


def read_labels() -> Labels:
    return msgspec.json.decode(LABELS.read_bytes(), type=Labels)


def read_frames(path: Path, wanted: Sequence[int]) -> dict[int, Frame]:
    """Frames of a video by number; raises EvaluationError when it has fewer."""
    video = cv2.VideoCapture(str(path))
    kept, wanted = {}, sorted(wanted)
    for number in range(wanted[-1] + 1):
        ok, frame = video.read()
        if not ok:
            raise EvaluationError(
                f"{path}: frame {number} can't be read; the video is in Debian's opencv-doc"
            )
        if number in set(wanted):
            kept[number] = np.asarray(frame, np.uint8)
    return kept


def detector(frames: dict[int, Frame], side: int | None) -> Find:
    """The shipped detector on these frames; each is looked at once."""
    look = PersonDetector(score=TrackRules().faint, side=side)
    known: dict[int, Detections] = {}

    def find(number: int) -> Detections:
        if number not in known:
            known[number] = look(frames[number])
        return known[number]

    return find


def worsened(labels: Labels, piece: Piece, seed: int) -> Find:
    """The labels as a bad detector might find them; the same for the same seed and frame."""

    def find(number: int) -> Detections:
        rng = np.random.default_rng((seed, number))
        people = labels.people(piece, number)
        found = []
        for person, box in people.items():
            others = [one for name, one in people.items() if name != person and one[3] > box[3]]
            chance, score, noise = rng.random(), rng.uniform(0.3, 0.95), rng.normal(0, NOISE, 4)
            if chance < MISSING or any(part_inside(box, other) > HIDDEN for other in others):
                continue
            high = box[3] - box[1]
            sides = np.array([high / labels.aspect * 0.6, high] * 2)
            found.append([*(np.array(box) + noise * sides), score])
        return np.array(found, np.float32).reshape(-1, 5)

    return find


def tracked(
    labels: Labels, piece: Piece, find: Find, rate_hz: int
) -> Iterator[tuple[int, list[Track]]]:
    """Frame number and tracks, for each frame of a piece and of the seconds before it."""
    tracker = Tracker(aspect=labels.aspect)
    first, last = piece.span
    apart = labels.fps // rate_hz
    for number in range(max(0, first - BEFORE_S * labels.fps), last + 1):
        time_ns = _time_ns(labels, number)
        if (number - first) % apart == 0:
            yield number, tracker.update(find(number), time_ns)
        else:
            yield number, tracker.predict(time_ns)


def _time_ns(labels: Labels, number: int) -> int:
    return BEGIN_NS + number * 10**9 // labels.fps


def score(labels: Labels, piece: Piece, find: Find, rate_hz: int, into: TrackScore) -> list[float]:
    """Count the labelled frames of a piece; what share of each person found the region shows."""
    finder, shown = create("person", labels.aspect), []
    for number, tracks in tracked(labels, piece, find, rate_hz):
        # Names of two pieces mustn't be one name's.
        named = [replace(track, name=f"{piece.name} {track.name}") for track in tracks]
        regions = finder.find(Seen(_time_ns(labels, number), tracks=named))
        if str(number) in piece.frames:
            people = labels.people(piece, number)
            pairs = into.frame(people, {track.name: track.box for track in named})
            shown += [part_inside(people[person], regions[name]) for person, name in pairs.items()]
    return shown


def measure(
    detections: Annotated[
        Literal["detector", "labels"],
        typer.Option(help="the shipped detector's, or the labels made worse"),
    ] = "detector",
    side: Annotated[
        int | None, typer.Option(help="longer side of the detector's input; by default its own")
    ] = None,
    video: Annotated[Path, typer.Option(help="vtest.avi, from Debian's opencv-doc")] = VIDEO,
    drawing: Annotated[
        Path | None, typer.Option(help="PNG of the tracks of one piece, drawn over a frame")
    ] = None,
) -> TracksResult:
    """Track every piece at every rate, and count."""
    labels = read_labels()
    frames: dict[int, Frame] = {}
    if detections == "detector" or drawing is not None:
        if not video.exists():
            raise EvaluationError(f"{video}: no such file; it is in Debian's opencv-doc")
        frames = read_frames(video, list(_numbers(labels)))
    seen = detector(frames, side) if detections == "detector" else None
    rates: dict[str, dict[str, TrackFigures]] = {}
    shown: dict[str, list[float]] = {}
    for rate_hz in RATES_HZ:
        whole, row, parts = TrackScore(), {}, list[float]()
        for piece in labels.pieces:
            alone, find = TrackScore(), seen or worsened(labels, piece, 0)
            score(labels, piece, find, rate_hz, alone)
            parts += score(labels, piece, find, rate_hz, whole)
            row[piece.name] = alone.figures()
        rates[str(rate_hz)] = {**row, "all": whole.figures()}
        shown[str(rate_hz)] = [float(np.mean(parts)), float(np.quantile(parts, 0.01)), min(parts)]
    if drawing is not None:
        piece = labels.pieces[0]
        draw(labels, piece, frames, seen or worsened(labels, piece, 0), drawing)
    return TracksResult(
        about={"detections": detections, "side": side, "video": labels.video},
        rates=rates,
        shown=shown,
    )


def _numbers(labels: Labels) -> Iterator[int]:
    for piece in labels.pieces:
        first, last = piece.span
        yield from range(max(0, first - BEFORE_S * labels.fps), last + 1)


def draw(labels: Labels, piece: Piece, frames: dict[int, Frame], find: Find, path: Path) -> None:
    """Draw the last frame of a piece with the boxes in it, and the way that everybody went."""
    steps = list(tracked(labels, piece, find, 5))
    names = sorted(
        {track.name for _, tracks in steps for track in tracks}, key=lambda n: int(n[1:])
    )
    hues = np.linspace(0, 180, len(names), endpoint=False)
    colours = {name: _colour(hue) for name, hue in zip(names, hues, strict=True)}
    number, last = steps[-1]
    # In gray the colours of the tracks are easier to tell, and the file is smaller.
    picture = np.repeat(cv2.cvtColor(frames[number], cv2.COLOR_BGR2GRAY)[:, :, None], 3, axis=2)
    size = np.array(labels.size)
    for name in names:
        feet = [
            np.array([(t.box[0] + t.box[2]) / 2, t.box[3]]) * size
            for _, tracks in steps
            for t in tracks
            if t.name == name
        ]
        way = np.rint(feet).astype(np.int32)
        cv2.polylines(picture, [way], False, colours[name], 2, cv2.LINE_AA)
    for track in last:
        corners = np.rint(np.array(track.box) * np.tile(size, 2)).astype(int)
        x0, y0, x1, y1 = (int(side) for side in corners)
        cv2.rectangle(picture, (x0, y0), (x1, y1), colours[track.name], 2, cv2.LINE_AA)
        cv2.putText(picture, track.name, (x0, y0 - 4), 0, 0.6, colours[track.name], 2, cv2.LINE_AA)
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise EvaluationError(f"{path}: can't be written")


def _colour(hue: float) -> tuple[int, int, int]:
    pixel: npt.NDArray[np.uint8] = np.array([[[round(hue), 255, 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)


def show(result: TracksResult) -> None:
    table = Table(
        title=f"Tracks on pieces of {result.about['video']}; {result.about['detections']}",
        box=lines.SIMPLE_HEAD,
        padding=0,
    )
    for heading in ("detections/s", "piece"):
        table.add_column(heading)
    for heading in (
        "people", "boxes", "missed", "extra", "switches", "fragments", "names", "MOTA", "AssA",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for rate, row in result.rates.items():
        for piece, one in row.items():
            counts = (
                one.people, one.boxes, one.missed, one.extra, one.switches, one.fragments,
            )  # fmt: skip
            shares = (one.names, one.accuracy, one.association)
            table.add_row(rate, piece, *map(str, counts), *(f"{share:.2f}" for share in shares))
    Console().print(table)
    for rate, (mean, low, least) in result.shown.items():
        Console().print(
            f"{rate} detections/s: regions show {mean:.1%} of a person's box in the mean, "
            f"{low:.0%} at the lowest percentile, {least:.0%} at least"
        )
