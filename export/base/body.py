"""The stream ``body``: frames to the posture and place of the largest person, in one graph.

MediaPipe's pose detector finds a person, its pose network confirms and finds 39 landmarks. Where
nobody is found, the pose network runs on nothing.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import spox.opset.ai.onnx.v18 as op
from spox import Var

from export.base import regions
from export.base.detect import Detector, anchored, found, largest
from export.base.layout import Block, Layout
from export.base.ops import (
    dot,
    floats,
    joined,
    least,
    length,
    mean,
    model_of,
    most,
    numbers,
    part,
    picked,
    rows_where,
    run,
    scattered,
    shaped,
    unit,
    widened,
)

SIZE = (336, 448)
"""Height and width of frames: twice the detector's, which makes shrinking cheap."""
SIDE = 256
PERSON_SIDE, PERSON_STRIDES = 224, (8, 16, 32, 32, 32)
POINTS = 39
BODY_POINTS = 33
CENTRE, RIM = 33, 34
"""Landmarks that say where a body is and how large: between them lies the body's size."""

JOINTS = (0, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
SEEN = (0, 11, 12, 15, 16, 23, 24, 25, 26, 27, 28)
BENDS = (
    (23, 25, 27), (24, 26, 28), (11, 23, 25), (12, 24, 26), (11, 13, 15), (12, 14, 16),
)  # fmt: skip
"""Knees, hips, elbows: the joint stands in the middle."""
HIPS, SHOULDERS, HANDS, KNEES, FEET = (23, 24), (11, 12), (15, 16), (25, 26), (27, 28, 31, 32)

BODY = Layout.of(
    [
        ("present", 1), ("posture", 19), ("places", 12), ("turned", 2 * len(JOINTS)),
        ("seen", len(SEEN)), ("box", 5), ("size", 1),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class BodyOptions:
    """What was chosen by measuring."""

    sure: float = 0.5
    """The largest person with this score is taken, else the one with the best score."""
    person_score: float = 0.3
    pose_score: float = 0.5


def body(person: onnx.ModelProto, pose: onnx.ModelProto, options: BodyOptions) -> onnx.ModelProto:
    """The graph: ``frames`` (N, 336, 448, 3) uint8 B G R to ``features`` (N, BODY.size)."""
    detector = Detector(person, PERSON_SIDE, PERSON_STRIDES, options.person_score)
    return model_of(SIZE, lambda frames: _features(frames, detector, pose, options))


def _features(frames: Var, detector: Detector, pose: onnx.ModelProto, options: BodyOptions) -> Var:
    said = anchored(detector, frames, SIZE)
    radius = length(part(said.rows, 6, 8) - part(said.rows, 4, 6))
    (one,) = found(said, detector.least, 1, largest(radius, said.scores, options.sure))
    score = shaped(one.score, 0, 1)
    likely = op.greater_or_equal(score, numbers(options.person_score))
    where = part(op.transpose(op.non_zero(likely), perm=[1, 0]), 0, 1)  # (K, 1): picture
    places = regions.circle_region(one.points)
    rows = rows_where(
        where, BODY.size, lambda: _rows(frames, places, score, where, pose, options.pose_score)
    )
    return scattered(rows, where, part(op.shape(score), 0, 1), BODY.size)


def _rows(
    frames: Var, places: Var, scores: Var, where: Var, network: onnx.ModelProto, least_score: float
) -> Var:  # fmt: skip
    """Of the people in the K pictures ``where`` (K, 1): (K, BODY.size)."""
    cuts = op.gather(frames, shaped(where, -1), axis=0)
    region, score = op.gather_nd(places, where), op.gather_nd(scores, where)
    return _row(cuts, region, score, network, least_score)


def _row(
    frames: Var, region: Var, score: Var, network: onnx.ModelProto, least_score: float
) -> Var:  # fmt: skip
    """(K, BODY.size): a body's numbers; zeros where the pose network doesn't confirm."""
    said = run(network, regions.cut(frames, region, SIZE, SIDE))
    marks = shaped(said["landmarks"], 0, POINTS, 5)
    flat = part(regions.put_back(part(marks, 0, 3), region, SIDE), 0, 2)
    size = length(_point(flat, RIM) - _point(flat, CENTRE), keep=True)
    size = op.max([size, numbers(4.0)])
    points, world = part(flat, 0, BODY_POINTS, 1), shaped(said["world"], 0, POINTS, 3)
    parts = {
        "present": floats(op.greater_or_equal(said["score"], numbers(least_score))),
        "posture": _posture(points, world, _point(flat, CENTRE), size),
        "places": _places(points),
        "turned": _turned(points, _point(flat, CENTRE), size),
        "seen": shaped(op.sigmoid(part(picked(marks, SEEN, 1), 3, 4)), 0, len(SEEN)),
        "box": _box(points, score),
        "size": size * (1 / SIZE[0]),
    }
    return BODY.place(parts) * parts["present"]


def _posture(points: Var, world: Var, centre: Var, size: Var) -> Var:
    """(K, 19): how the body is held, in body sizes, and where, in heights of the frame."""
    hip, shoulder = _middle(points, HIPS), _middle(points, SHOULDERS)
    head, feet = _point(points, 0), _middle(points, FEET)
    sides = (most(points, 1) - least(points, 1)) / size
    wide, high = part(sides, 0, 1), part(sides, 1, 2)
    shape = op.clip(wide / op.max([high, numbers(0.1)]), numbers(0.0), numbers(5.0))
    first, middle, last = (picked(world, list(which), 1) for which in zip(*BENDS, strict=True))
    bends = dot(unit(first - middle), unit(last - middle))
    upright = unit(_middle(world, SHOULDERS) - _middle(world, HIPS))
    heights = [part(a - b, 1, 2) / size for a, b in ((hip, feet), (head, feet), (head, hip))]
    place = joined(part(centre, 1, 2), size) * (1 / SIZE[0])
    return joined(unit(shoulder - hip), upright, sides, shape, bends, *heights, place)


def _places(points: Var) -> Var:
    """(K, 12): hips, shoulders, head, hands, knees, feet, in heights of the frame."""
    groups = (HIPS, SHOULDERS, (0,), HANDS, KNEES, FEET)
    return joined(*(_middle(points, group) for group in groups)) * (1 / SIZE[0])


def _turned(points: Var, centre: Var, size: Var) -> Var:
    """(K, 26): joints in body sizes about the hips, turned so that the trunk points up."""
    up = unit(_middle(points, SHOULDERS) - _middle(points, HIPS))
    right = joined(-part(up, 1, 2), part(up, 0, 1))
    flat = (picked(points, JOINTS, 1) - widened(centre, 1)) / widened(size, 1)
    x, y = dot(flat, widened(right, 1)), -dot(flat, widened(up, 1))
    return shaped(joined(widened(x, 2), widened(y, 2)), 0, 2 * len(JOINTS))


def _box(points: Var, score: Var) -> Var:
    """(K, 5): log of width by height, width, height, middle's y in heights; detector's score."""
    low, high = least(points, 1) * (1 / SIZE[0]), most(points, 1) * (1 / SIZE[0])
    sides = op.max([high - low, numbers(0.01)])
    aspect = op.log(part(sides, 0, 1) / part(sides, 1, 2))
    return joined(aspect, sides, part(low + high, 1, 2) * 0.5, score)


def _point(points: Var, which: int) -> Var:
    """``points[:, which]``."""
    return op.gather(points, op.constant(value=np.int64(which)), axis=1)


def _middle(points: Var, which: tuple[int, ...]) -> Var:
    """The mean of some points: (K, 2 or 3)."""
    return mean(picked(points, which, 1), 1)


def blocks() -> list[Block]:
    """How the head pools the features."""
    most_pools = ("mean", "std", "max", "min")
    every = (*most_pools, "thirds")
    return [
        BODY.block("posture", every, 0.25),
        BODY.block("places", most_pools, 0.125, name="motion_1", lag=1, unit="size"),
        BODY.block("places", most_pools, 0.125, name="motion_4", lag=4, unit="size"),
        BODY.block("seen", ("mean", "std"), 0.25),
        BODY.block("box", every, 0.25),
    ]
