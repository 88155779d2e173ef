"""Frames whose people were labelled by hand, and how well a detector finds these people."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import Frame
from pipeline.errors import EvaluationError
from pipeline.people.decoding import People
from pipeline.people.geometry import overlaps

Floats = npt.NDArray[np.float32]

SAME = 0.5
"""The overlap (IoU) from which a found box is the labelled one."""
INSIDE = 0.5
"""The share of a found box that lies in an ignored region, from which it doesn't count."""
DEBIANS = Path("/usr/share/doc/opencv-doc/examples/data")
"""Where Debian's package opencv-doc has vtest.avi, which isn't among the shared clips."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labels of one frame; boxes are x0 y0 x1 y1 in 0..1 of the picture."""

    clip: str
    """Path of the clip, relative to the data folder."""
    frame: int
    """Number of the frame in the clip, from 0."""
    boxes: Floats
    """(n, 4): people who can be told apart."""
    ignore: Floats
    """(m, 4): crowds, and people too small, dark or hidden to be boxed; nothing there counts."""

    @property
    def set(self) -> str:
        """The first folder of the clip's path, or its name."""
        return self.clip.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Figures:
    """How well people were found on some frames."""

    frames: int
    people: int
    found: int
    false: int

    @property
    def recall(self) -> float:
        return self.found / self.people if self.people else float("nan")

    @property
    def false_per_frame(self) -> float:
        return self.false / self.frames if self.frames else float("nan")

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.frames + other.frames, self.people + other.people,
            self.found + other.found, self.false + other.false,
        )  # fmt: skip


def read_labels(path: Path) -> list[Labelled]:
    """The labels in a JSON file; raises :class:`EvaluationError` with the file and the reason."""
    try:
        rows = json.loads(path.read_bytes())
        return [
            Labelled(row["clip"], int(row["frame"]), _boxes(row["boxes"]), _boxes(row["ignore"]))
            for row in rows
        ]
    except OSError as error:
        raise EvaluationError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path}: isn't a list of labelled frames: {error!r}") from None


def _boxes(rows: Sequence[Sequence[float]]) -> Floats:
    boxes = np.asarray(rows, np.float32).reshape(-1, 4)
    if not ((boxes >= 0) & (boxes <= 1)).all() or not (boxes[:, :2] < boxes[:, 2:]).all():
        raise ValueError(f"a box must be x0 y0 x1 y1 in 0..1, got {rows}")
    return boxes


def frame_of(path: Path, number: int) -> Frame:
    """One frame of a clip, (H, W, 3) BGR; raises :class:`EvaluationError`.

    All frames before it are decoded: a jump would miss the frame in some files.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        for _ in range(number):
            if not capture.grab():
                break
        done, frame = capture.read()
    finally:
        capture.release()
    if not done:
        raise EvaluationError(f"{path}: has no frame {number}, or can't be read")
    return np.asarray(frame, np.uint8)


def pictures(
    labels: Iterable[Labelled], data: Path, elsewhere: Path = DEBIANS
) -> Iterator[tuple[Labelled, Frame]]:
    """Each labelled frame with its picture; raises :class:`EvaluationError` if a clip is missing.

    A clip that isn't in ``data`` is looked for in ``elsewhere``.
    """
    for label in labels:
        places = [folder / label.clip for folder in (data, elsewhere)]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise EvaluationError(f"{label.clip} isn't in {data}, nor in {elsewhere}")
        yield label, frame_of(path, label.frame)


def judged(people: People, label: Labelled) -> Figures:
    """Compare what was found in a frame with its labels.

    The best box takes the labelled one that it overlaps most, if by :data:`SAME`; then the next
    best takes one of the rest. A box that takes none is false, unless it lies in an ignored region.
    """
    same = overlaps(people[:, :4], label.boxes)
    hidden = covered(people[:, :4], label.ignore)
    free = np.ones(len(label.boxes), bool)
    found = false = 0
    for number in np.argsort(-people[:, 4], kind="stable"):
        candidates = np.where(free, same[number], -1)
        if candidates.size and candidates.max() >= SAME:
            free[int(candidates.argmax())] = False
            found += 1
        elif hidden[number] < INSIDE:
            false += 1
    return Figures(1, len(label.boxes), found, false)


def covered(boxes: Floats, regions: Floats) -> Floats:
    """(n,): the largest share of each box's area that lies in one of ``regions``."""
    if not len(regions):
        return np.zeros(len(boxes), np.float32)
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2).max(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(shared / np.maximum(areas, np.float32(1e-12)), np.float32)


def figures_by_set(
    detector: Callable[[Frame], People], frames: Iterable[tuple[Labelled, Frame]]
) -> dict[str, Figures]:
    """Figures of each set of clips, and of all together under ``all``."""
    nothing = Figures(0, 0, 0, 0)
    found: dict[str, Figures] = {}
    for label, frame in frames:
        found[label.set] = found.get(label.set, nothing) + judged(detector(frame), label)
    return {**found, "all": sum(found.values(), nothing)}
