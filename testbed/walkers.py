"""Rendered people, who are boards with a pattern, and a detector that knows where they are."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Frame, is_planar, planes
from pipeline.clock import NS_PER_S
from pipeline.people.tracks import Detections
from pipeline.steps.follow import TimedFrame

HEIGHT, WIDTH = 240, 320
HIGH, WIDE = 120, 48
TOP = 80
STEP_NS = NS_PER_S // 10


class Walkers:
    """``people`` are (x, pixels a step to the right) of each; frames come ten a second."""

    def __init__(self, people: Sequence[tuple[int, int]], planar: bool = False) -> None:
        self._people, self._planar = people, planar
        self._step = 0
        self._wall = _pattern(0, HEIGHT, WIDTH, 60)
        self._boards = [_pattern(number + 1, HIGH, WIDE, 200) for number in range(len(people))]

    def frame(self, step: int) -> Frame:
        """The picture of a step; :meth:`detect` then knows where they are."""
        self._step = step
        picture = self._wall.copy()
        for (x, speed), board in zip(self._people, self._boards, strict=True):
            left = x + speed * step
            picture[TOP : TOP + HIGH, left : left + WIDE] = board
        if self._planar:
            return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8)[:, :, None]
        return picture

    def frames(self, steps: int) -> Iterator[TimedFrame]:
        for step in range(steps):
            yield TimedFrame(step * STEP_NS, partial(self.frame, step))

    def detect(self, frame: Frame) -> Detections:
        """A detector's answer for the newest frame."""
        boxes = [
            (left / WIDTH, TOP / HEIGHT, (left + WIDE) / WIDTH, (TOP + HIGH) / HEIGHT, 0.9)
            for left in (x + speed * self._step for x, speed in self._people)
        ]
        return np.array(boxes, np.float32).reshape(-1, 5)


def _pattern(seed: int, height: int, width: int, mean: int) -> Frame:
    coarse = np.random.default_rng(seed).normal(mean, 30, (height // 8, width // 8, 3))
    large = cv2.resize(coarse.clip(0, 255).astype(np.uint8), (width, height))
    return np.asarray(large, np.uint8)


def write(path: Path, walkers: Walkers, steps: int) -> Path:
    """A video of ``walkers``, ten frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for step in range(steps):
        writer.write(walkers.frame(step))
    writer.release()
    return path


def bright_boards(frame: Frame) -> Detections:
    """A detector for videos of walkers: their boards are bright, and the wall is dark."""
    gray = planes(frame)[0] if is_planar(frame) else frame[:, :, 1]
    small = cv2.resize(gray, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA)
    bright = (cv2.GaussianBlur(small, (5, 5), 0) > 130).astype(np.uint8)
    _, _, found, _ = cv2.connectedComponentsWithStats(bright)
    boxes = [
        (4 * x / WIDTH, 4 * y / HEIGHT, 4 * (x + wide) / WIDTH, 4 * (y + high) / HEIGHT, 0.9)
        for x, y, wide, high, area in found[1:].tolist()
        if area > 60
    ]
    return np.array(boxes, np.float32).reshape(-1, 5)
