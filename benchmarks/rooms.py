"""Footage of rooms, out of the shared clips: one where something goes on, one where little does."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Frame
from testbed.video_files import write_video

FPS, SIZE, NOISE = 10, (240, 320), 1.0
KEY_S = 2
"""A key picture so often, as cameras send them."""
PAUSE_S = {"busy": 2.0, "quiet": 1200.0}
"""Room → how long nothing moves between two clips."""
CLIPS = ("gestures/*/*.mp4", "falls/other/*.mp4")
"""Gestures, and people who go on with their day."""


def clips(data: Path, seed: int) -> list[Path]:
    """The clips of all rooms, in an order by chance; of each kind there are equally many."""
    rng = np.random.default_rng(seed)
    kinds = [rng.permutation([str(path) for path in sorted(data.glob(one))]) for one in CLIPS]
    return [Path(path) for pair in zip(*kinds, strict=False) for path in pair]


def pictures(clip: Path) -> Iterator[Frame]:
    """A clip's pictures in the rooms' size and rate."""
    video = cv2.VideoCapture(str(clip))
    given = 0
    while True:
        there, picture = video.read()
        if not there:
            return
        time_s = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if time_s * FPS < given:
            continue
        given += 1
        small = cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA)
        yield np.asarray(small, np.uint8)


def room(found: Iterable[Path], pause_s: float, seconds: float, seed: int) -> Iterator[Frame]:
    """Clip after clip, and between two the last picture stands still; all with a camera's noise."""
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, NOISE, (32, *SIZE, 1)).astype(np.float32)
    left = round(seconds * FPS)
    for clip in found:
        shown = list(pictures(clip))
        for picture in [*shown, *shown[-1:] * round(pause_s * FPS)]:
            if not left:
                return
            left -= 1
            noisy = picture + grain[rng.integers(len(grain))]
            yield np.clip(noisy, 0, 255).astype(np.uint8)


def write_room(name: str, data: Path, path: Path, seconds: float, seed: int) -> Path:
    """Write the footage of a room; it ends early where the clips do."""
    shown = room(clips(data, seed), PAUSE_S[name], seconds, seed)
    return write_video(path, shown, fps=FPS, options={"preset": "veryfast", "g": str(KEY_S * FPS)})
