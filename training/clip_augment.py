"""What is done to one clip before it becomes part of a training sequence.

:mod:`training.sequences` picks clips and calls these functions; each returns a new clip. Next:
:mod:`training.model`, the networks.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.arrays import STILL
from training.data import Clip, Stroke

LONGEST_PART = 0.5
Rng = np.random.Generator


def _negated(fields: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    # 128 means no motion and 0 never occurs, so 256 - q stays within 1 to 255.
    return (256 - fields.astype(np.int16)).astype(np.uint8)


def mirrored(clip: Clip, swaps: dict[int, int]) -> Clip:
    """The clip mirrored left to right; ``swaps`` maps each label to that of its mirror image.

    The backbone's grid is flipped too, which is nearly its output for a flipped picture.
    """
    fields = clip.fields[:, :, ::-1].copy()
    fields[..., 0] = _negated(fields[..., 0])
    return replace(
        clip, fields=fields, grid=clip.grid[..., ::-1], first=clip.first[:, ::-1],
        last=clip.last[:, ::-1], label=swaps[clip.label],
        strokes=tuple(s._replace(label=swaps[s.label]) for s in clip.strokes),
    )  # fmt: skip


def reversed_clip(clip: Clip, swaps: dict[int, int]) -> Clip:
    """The clip played backwards; ``swaps`` maps each label to that of the reversed clip.

    Motion is negated, and the field that ended at a step now begins there.
    """
    steps = len(clip)
    fields = np.full_like(clip.fields, STILL)
    fields[1:] = _negated(clip.fields[:0:-1])
    moving = np.zeros_like(clip.moving)
    moving[1:] = clip.moving[:0:-1]
    strokes = tuple(
        Stroke(swaps[s.label], steps - s.past, steps - s.first) for s in reversed(clip.strokes)
    )
    return replace(
        clip, fields=fields, moving=moving, grid=clip.grid[::-1], seen=clip.seen[::-1],
        first=clip.last, last=clip.first, label=swaps[clip.label], strokes=strokes,
    )  # fmt: skip


def stretched(clip: Clip, speed: float) -> Clip:
    """The clip played ``speed`` times as fast: fewer steps, each with more motion."""
    steps = max(2, round(len(clip) / speed))
    index = np.minimum((np.arange(steps) + 0.5) * len(clip) / steps, len(clip) - 1).astype(int)
    index[0] = 0
    actual = len(clip) / steps
    motion = (clip.fields[index].astype(np.float32) - STILL) * actual
    fields = (np.clip(np.rint(motion), -127, 127) + STILL).astype(np.uint8)
    strokes = tuple(
        Stroke(s.label, round(s.first / actual), max(1, round(s.past / actual)))
        for s in clip.strokes
    )
    return replace(
        clip, fields=fields, moving=clip.moving[index], grid=clip.grid[index],
        seen=clip.seen[index], strokes=strokes,
    )  # fmt: skip


def cropped(clip: Clip, first: int, past: int) -> Clip:
    """Steps ``first`` up to ``past``; drops the strokes that end later."""
    part = slice(first, past)
    return replace(
        clip, fields=clip.fields[part], moving=clip.moving[part], grid=clip.grid[part],
        seen=clip.seen[part],
        strokes=tuple(
            Stroke(s.label, s.first - first, s.past - first) for s in clip.strokes if s.past <= past
        ),
    )  # fmt: skip


def scribble(clip: Clip, steps: int, rng: Rng) -> Clip:
    """``steps`` steps of a clip played to and fro, at most half of it in one direction.

    Its gesture is never completed: it moves like a gesture but is none, and has no stroke.
    """
    longest = max(2, round(LONGEST_PART * len(clip)))
    place, way, left = int(rng.integers(len(clip))), 1, 0
    places, ways = [place], [1]
    while len(places) < steps:
        if left == 0:
            way, left = -way, int(rng.integers(2, longest + 1))
        if not 0 <= place + way < len(clip):
            way = -way
        place, left = place + way, left - 1
        places.append(place)
        ways.append(way)
    now, back = np.array(places), np.array(ways) < 0
    # A step back undoes the motion that ended where it begins, so it uses that field, negated.
    source = now + back
    fields = clip.fields[source]
    fields[back] = _negated(fields[back])
    fields[0] = STILL
    return replace(
        clip, fields=fields, moving=clip.moving[source], grid=clip.grid[now],
        seen=clip.seen[now], strokes=(),
    )  # fmt: skip


def still_after(clip: Clip, steps: int, rng: Rng) -> Clip:
    """``steps`` steps in which the clip's last picture stays unchanged, apart from noise."""
    noise = rng.integers(-1, 2, (steps, *clip.fields.shape[1:]))
    return replace(
        clip, fields=(STILL + noise).astype(np.uint8), moving=np.ones(steps, np.bool_),
        grid=np.repeat(clip.grid[-1:], steps, 0), seen=np.ones(steps, np.bool_),
        first=clip.last, strokes=(),
    )  # fmt: skip
