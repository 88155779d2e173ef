"""The stream ``hands``: frames to the shapes and places of up to two hands, in one graph.

MediaPipe's palm detector finds palms, its hand network confirms each and finds 21 landmarks.
Where the detector finds nothing, the hand network runs on nothing, and costs nothing.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import spox.opset.ai.onnx.v18 as op
from spox import Var

from export.base import regions
from export.base.detect import Detector, anchored, found, overlap
from export.base.layout import BLOCK, Block, Layout
from export.base.ops import (
    dot,
    floats,
    joined,
    length,
    mean,
    model_of,
    numbers,
    part,
    picked,
    rows_where,
    run,
    scattered,
    shaped,
    step_in,
    total,
    unit,
    widened,
)

SIZE = (432, 576)
"""Height and width of frames: three times the detector's, which makes shrinking cheap."""
SIDE = 224
PALM_SIDE, PALM_STRIDES = 192, (8, 16, 16, 16)

FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
TIPS = tuple(finger[3] for finger in FINGERS)
PALM = (0, 5, 9, 13, 17)
KNUCKLES = (5, 9, 13, 17)
_FIRST, _SECOND = np.triu_indices(5, 1)
INNER = 1152

HAND = Layout.of(
    [
        ("present", 1), ("inner", INNER), ("ext", 5), ("bend", 15), ("dirs", 10), ("apart", 10),
        ("up", 2), ("mirrored", 42), ("picture", 42), ("path", 4), ("size", 1),
    ]
)  # fmt: skip
"""The numbers of one hand; the features are those of the more open hand, then the other's."""
GEOMETRY = ("ext", "bend", "dirs", "apart", "up", "mirrored", "picture")


@dataclass(frozen=True)
class HandOptions:
    """What was chosen by measuring."""

    candidates: int = 2
    """Palms a picture that the hand network looks at."""
    palm_score: float = 0.15
    """Low, since the hand network confirms."""
    hand_score: float = 0.5
    same: float = 0.6
    """Hands whose regions overlap more (IoU) are one."""
    twice: bool = True
    """Look again at the region that the first look's landmarks make: fingers are seen better."""


def hands(palm: onnx.ModelProto, hand: onnx.ModelProto, options: HandOptions) -> onnx.ModelProto:
    """The graph: ``frames`` (N, 432, 576, 3) uint8 B G R to ``features`` (N, 2 × HAND.size)."""
    detector = Detector(palm, PALM_SIDE, PALM_STRIDES, options.palm_score)
    return model_of(SIZE, lambda frames: _features(frames, detector, hand, options))


def _features(
    frames: Var, detector: Detector, network: onnx.ModelProto, options: HandOptions
) -> Var:
    said = anchored(detector, frames, SIZE)
    palms = found(said, detector.least, options.candidates)
    places = op.concat([widened(regions.palm_region(p.box, p.points), 1) for p in palms], axis=1)
    scores = op.concat([p.score for p in palms], axis=1)  # (N, S)
    likely = op.greater_or_equal(scores, numbers(options.palm_score))
    where = op.transpose(op.non_zero(likely), perm=[1, 0])  # (K, 2): picture, slot
    rows = rows_where(where, HAND.size + 4, lambda: _rows(frames, places, where, network, options))
    slots = scattered(rows, where, op.shape(scores), HAND.size + 4)
    return _two(slots, options)


def _rows(
    frames: Var, places: Var, where: Var, network: onnx.ModelProto, options: HandOptions
) -> Var:
    """Of the K palms ``where`` (K, 2): (K, HAND.size + 4)."""
    cuts = op.gather(frames, shaped(part(where, 0, 1), -1), axis=0)
    region = op.gather_nd(places, where)
    if options.twice:
        # Of all cuts, hands or not: in a branch of its own the network would run half as fast.
        region = regions.hand_region(part(_look(cuts, region, network).points, 0, 2))
    return _row(_look(cuts, region, network), options.hand_score)


@dataclass(frozen=True)
class _Look:
    """What the hand network says of K cuts."""

    points: Var
    """(K, 21, 3), in pixels of the frames"""
    score: Var
    """(K, 1)"""
    right: Var
    """(K, 1): 1 for a right hand, 0 for a left"""
    world: Var
    """(K, 21, 3), in metres"""
    inner: Var
    """(K, 1152)"""


def _look(frames: Var, region: Var, network: onnx.ModelProto) -> _Look:
    said = run(network, regions.cut(frames, region, SIZE, SIDE))
    points = regions.put_back(shaped(said["landmarks"], 0, 21, 3), region, SIDE)
    world = shaped(said["world"], 0, 21, 3)
    return _Look(points, said["score"], said["handedness"], world, said["inner"])


def _row(look: _Look, least_score: float) -> Var:
    """(K, HAND.size + 4): a hand's numbers and its region's box; zeros where it isn't a hand."""
    flat = part(look.points, 0, 2)
    region = regions.hand_region(flat)
    parts = {"inner": look.inner, **_shape(look), **_place(look)}
    present = floats(op.greater(look.score, numbers(least_score)))
    parts["present"] = present
    return joined(HAND.place(parts), regions.upright(region)) * present


def _size(points: Var) -> Var:
    """(K, 1, 1): the mean length of the palm's four bones."""
    bones = picked(points, KNUCKLES, 1) - picked(points, [0], 1)
    return op.max([widened(mean(length(bones), keep=True), 2), numbers(1e-3)])


def _shape(look: _Look) -> dict[str, Var]:
    """How the hand is held: independent of its place and size."""
    flat = (look.points - mean(picked(look.points, PALM, 1), 1, keep=True)) / _size(look.points)
    flat = part(flat, 0, 2)
    up = regions.hand_direction(part(look.points, 0, 2))
    right = joined(-part(up, 1, 2), part(up, 0, 1))
    sign = op.where(op.greater(look.right, numbers(0.5)), numbers(1.0), numbers(-1.0))
    turned = joined(
        widened(dot(flat, widened(right, 1)) * sign, 2), widened(-dot(flat, widened(up, 1)), 2)
    )
    world = look.world / _size(look.world)
    tips = picked(world, TIPS, 1)
    apart = length(picked(tips, _FIRST.tolist(), 1) - picked(tips, _SECOND.tolist(), 1))
    ends = picked(flat, TIPS, 1) - picked(flat, [finger[0] for finger in FINGERS], 1)
    extension, bend = _fingers(world)
    return {
        "ext": extension, "bend": bend, "dirs": shaped(ends, 0, 10), "apart": apart, "up": up,
        "mirrored": shaped(turned, 0, 42), "picture": shaped(flat, 0, 42),
    }  # fmt: skip


def _fingers(world: Var) -> tuple[Var, Var]:
    """How far each finger is stretched (K, 5), 1 when straight, and its joints' cosines (K, 15)."""
    joints = [joint for finger in FINGERS for joint in (0, *finger)]
    chain = shaped(picked(world, joints, 1), 0, 5, 5, 3)  # wrist to tip
    bones = part(chain, 1, 5, 2) - part(chain, 0, 4, 2)
    directions = unit(bones)
    bend = dot(part(directions, 1, 4, 2), part(directions, 0, 3, 2))
    reach = length(shaped(part(chain, 4, 5, 2) - part(chain, 1, 2, 2), 0, 5, 3))
    along = total(length(part(bones, 1, 4, 2)))
    return reach / op.max([along, numbers(1e-6)]), shaped(bend, 0, 15)


def _place(look: _Look) -> dict[str, Var]:
    """Where the hand is, in heights of the frame: its palm, the tip of its index finger."""
    points = part(look.points, 0, 2) * (1 / SIZE[0])
    tip = shaped(picked(points, [8], 1), 0, 2)
    size = shaped(_size(look.points), 0, 1) * (1 / SIZE[0])
    return {"path": joined(mean(picked(points, PALM, 1), 1), tip), "size": size}


def _two(slots: Var, options: HandOptions) -> Var:
    """(N, S, HAND.size + 4) to (N, 2 × HAND.size): no hand twice, the more open hand first."""
    boxes, rows = part(slots, HAND.size, HAND.size + 4), part(slots, 0, HAND.size)
    kept = [_slot(rows, 0)]
    for k in range(1, options.candidates):
        once = numbers(1.0)
        for earlier in range(k):
            shared = overlap(_slot(boxes, earlier), _slot(boxes, k))
            # An earlier hand that isn't there has an empty box, which overlaps nothing.
            once = once * floats(op.less_or_equal(shared, numbers(options.same)))
        kept.append(_slot(rows, k) * widened(once, 1))
    rows = op.concat([widened(row, 1) for row in kept], axis=1)
    openness = total(part(rows, HAND.starts["ext"], HAND.starts["ext"] + 5))  # 0 when absent
    first = op.arg_max(openness, axis=1, keepdims=1)
    others = op.scatter_elements(openness, first, op.mul(floats(first), numbers(0.0)) - 1.0, axis=1)
    second = op.arg_max(others, axis=1, keepdims=1)
    return joined(step_in(rows, first), step_in(rows, second))


def _slot(x: Var, which: int) -> Var:
    """``x[:, which]``."""
    return op.gather(x, op.constant(value=np.int64(which)), axis=1)


def blocks() -> list[Block]:
    """How the head pools the features; shares were found on signs of people left out."""
    every = ("mean", "std", "max", "min", "thirds")
    share = 0.30 / (2 * len(GEOMETRY))
    found_blocks = []
    for order, base in (("first", 0), ("second", HAND.size)):
        found_blocks.append(
            HAND.block("inner", ("std",), 0.65 / 2, name=f"inner_{order}", scaling=BLOCK, base=base)
        )
        found_blocks += [
            HAND.block(part, every, share, name=f"{part}_{order}", scaling=BLOCK, base=base)
            for part in GEOMETRY
        ]
    path = HAND.block("path", ("swing",), 0.04, name="path_first", unit="size")
    turn = HAND.block("up", ("swing",), 0.01, name="turn_first")
    return [*found_blocks, path, turn]
