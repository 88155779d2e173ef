"""The motion stream ``flow``: how much moves in a flow field, where, whither and how. No weights.

``flow`` (N, 1, 96, 128, 2) uint8, quantised → ``features`` (N, 172) float32: 28 numbers of the
field as a whole (:data:`MASS`), then, for each cell of 6 × 8, the mean of the flow to the right,
of the flow downwards, and of its length, in pixels.

The picture's median motion is taken off first, for a camera that shakes. Lengths of ``mass`` are in
heights of the picture, times are in steps.
"""

from typing import NamedTuple

import numpy as np
import onnx

from export.base.graph import Graph, Value

SIZE, FLOW_SIZE, BOUND = (96, 128), (240, 320), 6.0
CELLS = SIZE[0] * SIZE[1]
ROWS, COLUMNS = 6, 8
LEAST_PX = 0.35
"""Flow that is longer moves; only the part above counts, so that noise has no weight."""
LEAST_WEIGHT = 3.0
"""Where all motion together is less, there is nothing to describe."""
EVERY = 4
"""The median is taken of each fourth row and column: a sixteenth of the work."""
DIRECTIONS = 8
"""Right first, then towards down, as angles of pictures go."""
MASS = (
    "log_weight", "area", "x", "y", "width", "height", "slant",
    "velocity_x", "velocity_y", "own_velocity_x", "own_velocity_y", "own_speed",
    "size", "spreading", "turning", "path", "own_path",
    *(f"direction_{i}" for i in range(DIRECTIONS)),
    "inner_motion", "down", "tallness",
)  # fmt: skip
"""What is measured of the whole field. "own" is in sizes of what moves instead of heights."""
FEATURE_SIZE = len(MASS) + ROWS * COLUMNS * 3


class _Motion(NamedTuple):
    """What moves in a field."""

    flow: Value
    """(N, 2, cells): x and y."""
    x: Value
    """(N, cells): flow to the right, pixels of FLOW_SIZE."""
    y: Value
    length: Value
    weight: Value
    """(N, cells): its sum over the cells is 1 where anything moves, else 0."""
    total: Value
    """(N, 1): the sum before that."""
    present: Value
    """(N, 1): 1 where there is enough to describe, else 0."""


def flow_graph() -> onnx.ModelProto:
    """``flow.onnx``."""
    graph = Graph("flow")
    field = graph.input("flow", ["N", 1, *SIZE, 2])
    flow = (field.float() - 128.0) * (BOUND / 127.0)
    flow = flow.reshape(0, CELLS, 2).transpose(0, 2, 1)  # (N, 2, cells)
    flow = flow - _median(flow)
    x, y = (line.reshape(0, CELLS) for line in flow.split(axis=1, parts=2))
    length = (x * x + y * y).sqrt()
    weight = (length - LEAST_PX).at_least(0.0)
    total = weight.sum(CELLS)
    share = weight / total.at_least(1e-6)
    motion = _Motion(flow, x, y, length, share, total, (total >= LEAST_WEIGHT).float())
    features = graph.concat([_mass(motion), _grid(motion)])
    return graph.model({"features": (features, ["N", FEATURE_SIZE])})


def _median(flow: Value) -> Value:
    """(N, 2, cells) → (N, 2, 1)."""
    some = flow.reshape(0, 2, *SIZE).every(EVERY, 2, 3)
    count = CELLS // EVERY**2
    upper = count // 2 + 1  # an even number of cells has its median between two
    sizes = flow.graph.constant([upper], np.int64)
    largest = flow.graph.nodes("TopK", 2, some.reshape(0, 2, count), sizes)[0]
    middle = np.zeros((upper, 1))
    middle[-2:] = 0.5
    return largest.matmul(middle)


def _mass(motion: _Motion) -> Value:
    """(N, 28): :data:`MASS`."""
    graph, w = motion.x.graph, motion.weight
    across, down = _places()
    x, y = (w * across).sum(CELLS), (w * down).sum(CELLS)
    dx, dy = graph.constant(across) - x, graph.constant(down) - y
    wdx, wdy = w * dx, w * dy
    xx, yy = (wdx * dx).sum(CELLS), (wdy * dy).sum(CELLS)
    width, height = xx.sqrt(), yy.sqrt()
    slant = (wdx * dy).sum(CELLS) / (width * height).at_least(1e-6)
    spread = xx + yy
    size = (spread.sqrt() * 2.0).at_least(0.03)
    vx, vy = (w * motion.x).sum(CELLS) / FLOW_SIZE[0], (w * motion.y).sum(CELLS) / FLOW_SIZE[0]
    speed = (vx * vx + vy * vy).sqrt()
    own_x, own_y = motion.x / FLOW_SIZE[0] - vx, motion.y / FLOW_SIZE[0] - vy
    spreading = (wdx * own_x + wdy * own_y).sum(CELLS) / (spread + 1e-6)
    turning = (wdx * own_y - wdy * own_x).sum(CELLS) / (spread + 1e-6)
    path = (w * motion.length).sum(CELLS)
    inner = (w * (own_x * own_x + own_y * own_y)).sum(CELLS).sqrt()
    area = (motion.length > LEAST_PX).float().sum(CELLS) / CELLS
    described = graph.concat([
        area, x, y, width, height, slant,
        vx * 10.0, vy * 10.0, vx / size, vy / size, speed / size,
        size, spreading, turning, path * (10.0 / FLOW_SIZE[0]), path / FLOW_SIZE[0] / size,
        _directions(motion),
        inner / size, (w * motion.y).sum(CELLS) / path.at_least(1e-6),
        height / width.at_least(1e-3),
    ])  # fmt: skip
    return graph.concat([(motion.total + 1.0).log(), described * motion.present])


def _places() -> tuple[np.ndarray, np.ndarray]:
    """Across and down of each cell, in heights of the picture, (1, cells) each."""
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width]
    across = (x + 0.5) / width * (FLOW_SIZE[1] / FLOW_SIZE[0])
    down = (y + 0.5) / height
    return across.reshape(1, -1), down.reshape(1, -1)


def _directions(motion: _Motion) -> Value:
    """The weight of each direction, (N, 8): a cell has the direction that it fits best."""
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    graph = motion.flow.graph
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1)[..., None]
    fits = graph.node("Conv", motion.flow, graph.constant(units))  # (N, 8, cells)
    best = graph.node("Max", *fits.split(axis=1, parts=DIRECTIONS))
    chosen = (fits >= best).float()
    shares = chosen * motion.weight.reshape(0, 1, CELLS)
    return shares.sum(CELLS).reshape(0, DIRECTIONS)


def _grid(motion: _Motion) -> Value:
    """(N, 6 * 8 * 3), cell by cell."""
    planes = motion.flow.graph.concat([motion.flow, motion.length.reshape(0, 1, CELLS)], axis=1)
    cells = planes.reshape(0, 3, *SIZE).cell_means(SIZE[0] // ROWS, SIZE[1] // COLUMNS)
    return cells.transpose(0, 2, 3, 1).reshape(0, ROWS * COLUMNS * 3)
