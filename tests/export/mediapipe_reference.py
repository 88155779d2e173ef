"""The streams' stateless steps once more, in numpy and OpenCV, one picture at a time.

Slow and plain, with angles where the graphs have directions: what the graphs are compared with.
"""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Network = Callable[[Array], Mapping[str, Array]]
"""(1, 3, h, w) float32 to the outputs by name."""

FINGERS = [(1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20)]


def squared(frame: Array, side: int) -> Array:
    """Shrunk by area, in a black square."""
    high, wide = (
        frame.shape[0] * side // max(frame.shape),
        frame.shape[1] * side // max(frame.shape),
    )
    small = cv2.resize(frame.astype(np.float32), (wide, high), interpolation=cv2.INTER_AREA)
    square = np.zeros((side, side, 3), np.float32)
    top, left = (side - high) // 2, (side - wide) // 2
    square[top : top + high, left : left + wide] = small
    return np.asarray(square.transpose(2, 0, 1)[None])


def centres(side: int, layers: list[tuple[int, int]]) -> Array:
    """Anchors of layers (stride, how many a cell), row by row."""
    rows = []
    for stride, count in layers:
        cells = side // stride
        rows += [
            ((x + 0.5) / cells, (y + 0.5) / cells)
            for y in range(cells)
            for x in range(cells)
            for _ in range(count)
        ]
    return np.array(rows)


def iou(a: Array, b: Array) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    areas = [(q[2] - q[0]) * (q[3] - q[1]) for q in (a, b)]
    return float(both / max(1e-9, sum(areas) - both))


def decoded(said: Mapping[str, Array], side: int, anchors: Array, shape: tuple[int, ...]) -> Any:
    """Scores (M,), boxes (M, 4) and points (M, k, 2) in pixels of the frame."""
    high, wide = shape[:2]
    scale = max(high, wide) / side
    margin = np.array([max(high, wide) - wide, max(high, wide) - high]) / 2
    raw = said["boxes"][0].astype(np.float64)
    middle = (raw[:, :2] + anchors * side) * scale - margin
    half = raw[:, 2:4] * scale / 2
    points = (raw[:, 4:].reshape(len(raw), -1, 2) + anchors[:, None] * side) * scale - margin
    scores = 1 / (1 + np.exp(-said["scores"][0][:, 0].astype(np.float64)))
    return scores, np.concatenate([middle - half, middle + half], 1), points


def averaged(best: int, scores: Array, boxes: Array, points: Array, least: float) -> Any:
    """The box and points of ``best``, with those that overlap it; and which do."""
    near = np.array([iou(boxes[best], box) >= 0.3 for box in boxes])
    weight = scores * near * (scores >= least)
    box = (boxes * weight[:, None]).sum(0) / weight.sum()
    return box, (points * weight[:, None, None]).sum(0) / weight.sum(), near


def turn(start: Array, end: Array) -> float:
    """How far start → end is turned clockwise from up."""
    return float(np.arctan2(end[0] - start[0], -(end[1] - start[1])))


def sampled(frame: Array, region: tuple[float, float, float, float], side: int) -> Array:
    """A cut (1, 3, side, side), bilinear, edges continued. Region: x, y, side, angle."""
    x, y, extent, angle = region
    step, c, s = extent / side, np.cos(angle), np.sin(angle)
    # The middle of the cut's pixel (0, 0) is at 0.5, that of the frame's too.
    offset = np.array([x, y]) - 0.5 + step * (0.5 - side / 2) * np.array([c - s, s + c])
    v, u = np.mgrid[0:side, 0:side] * step
    px = np.clip(offset[0] + u * c - v * s, 0, frame.shape[1] - 1)
    py = np.clip(offset[1] + u * s + v * c, 0, frame.shape[0] - 1)
    x0, y0 = np.floor(px).astype(int), np.floor(py).astype(int)
    x1, y1 = np.minimum(x0 + 1, frame.shape[1] - 1), np.minimum(y0 + 1, frame.shape[0] - 1)
    fx, fy = (px - x0)[..., None], (py - y0)[..., None]
    top = frame[y0, x0] * (1 - fx) + frame[y0, x1] * fx
    low = frame[y1, x0] * (1 - fx) + frame[y1, x1] * fx
    cut = top * (1 - fy) + low * fy
    return np.asarray(cut.transpose(2, 0, 1)[None], np.float32)


def placed(points: Array, region: tuple[float, float, float, float], side: int) -> Array:
    x, y, extent, angle = region
    within = (points[:, :2] / side - 0.5) * extent
    c, s = np.cos(angle), np.sin(angle)
    flat = within @ np.array([[c, s], [-s, c]]) + [x, y]
    return np.concatenate([flat, points[:, 2:3] / side * extent], 1)


def palms(frame: Array, palm: Network, count: int, least: float) -> list[Any]:
    """Regions of up to ``count`` palms."""
    anchors = centres(192, [(8, 2), (16, 6)])
    scores, boxes, points = decoded(palm(squared(frame, 192)), 192, anchors, frame.shape)
    regions = []
    for _ in range(count):
        best = int(scores.argmax())
        if scores[best] < least:
            break
        box, keys, near = averaged(best, scores, boxes, points, least)
        scores = np.where(near, 0, scores)
        angle, high = turn(keys[0], keys[2]), box[3] - box[1]
        middle = (box[:2] + box[2:]) / 2 + 0.5 * high * np.array([np.sin(angle), -np.cos(angle)])
        regions.append((*middle, 2.6 * max(box[2] - box[0], high), angle))
    return regions


def hand_square(points: Array) -> tuple[float, float, float, float]:
    """The region of 21 landmarks."""
    flat = points[:, :2]
    angle = turn(flat[0], ((flat[5] + flat[13]) / 2 + flat[9]) / 2)
    outline = flat[[0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]]
    middle = (outline.min(0) + outline.max(0)) / 2
    c, s = np.cos(angle), np.sin(angle)
    turned = (outline - middle) @ np.array([[c, -s], [s, c]])
    low, high = turned.min(0), turned.max(0)
    centre = middle + np.array([[c, -s], [s, c]]) @ ((low + high) / 2)
    x, y = centre + 0.1 * (high - low)[1] * np.array([s, -c])
    return x, y, 2 * float((high - low).max()), angle


def hand_box(points: Array) -> Array:
    """The upright square about the region of 21 landmarks."""
    x, y, side, _ = hand_square(points)
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])


def bones(points: Array) -> float:
    return max(1e-3, float(np.linalg.norm(points[[5, 9, 13, 17]] - points[0], axis=1).mean()))


def unit(vector: Array) -> Array:
    return vector / max(1e-6, float(np.linalg.norm(vector)))


def hand_numbers(points: Array, world: Array, right: float, inner: Array, height: int) -> Array:
    """What export.base.hands.HAND describes."""
    flat = ((points - points[[0, 5, 9, 13, 17]].mean(0)) / bones(points))[:, :2]
    up = unit(((points[5, :2] + points[13, :2]) / 2 + points[9, :2]) / 2 - points[0, :2])
    sign = 1 if right > 0.5 else -1
    mirrored = np.stack([flat @ np.array([-up[1], up[0]]) * sign, -flat @ up], 1)
    shape = world / bones(world)
    extension, bend, ends = [], [], []
    for finger in FINGERS:
        chain = shape[[0, *finger]]
        steps = np.diff(chain, axis=0)
        path = np.linalg.norm(steps[1:], axis=1).sum()
        extension.append(np.linalg.norm(chain[4] - chain[1]) / path)
        bend += [unit(a) @ unit(b) for a, b in zip(steps[1:], steps[:-1], strict=True)]
        ends.append(flat[finger[3]] - flat[finger[0]])
    tips = shape[[4, 8, 12, 16, 20]]
    apart = [np.linalg.norm(tips[i] - tips[j]) for i in range(5) for j in range(i + 1, 5)]
    path = np.concatenate([points[[0, 5, 9, 13, 17], :2].mean(0), points[8, :2]]) / height
    rest = (extension, bend, np.ravel(ends), apart, up, mirrored.ravel(), flat.ravel(), path)
    return np.concatenate([[1.0], inner, *map(np.asarray, rest), [bones(points) / height]])


def hands(frame: Array, palm: Network, hand: Network, size: int, least: float = 0.15) -> Array:
    """The features (2 × size,) of one frame."""
    seen: list[tuple[Array, Array]] = []
    for region in palms(frame, palm, 2, least):
        for _ in range(2):
            said = hand(sampled(frame, region, 224))
            points = placed(said["landmarks"][0].reshape(21, 3).astype(np.float64), region, 224)
            region = hand_square(points)
        if said["score"][0, 0] <= 0.5:
            continue
        if any(iou(hand_box(points), box) > 0.6 for box, _ in seen):
            continue
        world = said["world"][0].reshape(21, 3).astype(np.float64)
        row = hand_numbers(
            points, world, said["handedness"][0, 0], said["inner"][0], frame.shape[0]
        )  # fmt: skip
        seen.append((hand_box(points), row))
    rows = sorted((row for _, row in seen), key=lambda row: -row[1153:1158].sum())
    return np.concatenate([*rows, np.zeros(size), np.zeros(size)])[: 2 * size]


def body_marks(frame: Array, person: Network, pose: Network, least: float = 0.3) -> Any:
    """Score of the detector, landmarks (39, 5) in pixels and world (39, 3); None for nobody."""
    anchors = centres(224, [(8, 2), (16, 2), (32, 6)])
    scores, boxes, points = decoded(person(squared(frame, 224)), 224, anchors, frame.shape)
    radius = np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
    sure = scores >= 0.5
    best = int(np.where(sure, radius, 0).argmax() if sure.any() else scores.argmax())
    if scores[best] < least:
        return None
    _, keys, _ = averaged(best, scores, boxes, points, least)
    extent = 2.5 * float(np.linalg.norm(keys[1] - keys[0]))
    region = (*keys[0], extent, turn(keys[0], keys[1]))
    said = pose(sampled(frame, region, 256))
    if said["score"][0, 0] < 0.5:
        return None
    marks = said["landmarks"][0].reshape(39, 5).astype(np.float64)
    marks[:, :3] = placed(marks[:, :3], region, 256)
    return float(scores[best]), marks, said["world"][0].reshape(39, 3).astype(np.float64)
