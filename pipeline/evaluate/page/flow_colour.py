"""Flow as colour: the direction is the hue, the speed the saturation.

The colour coding of Baker et al., A Database and Evaluation Methodology for Optical Flow (IJCV
2011), as in their ``colorcode.cpp``: no motion is white, and speeds beyond the radius are darker.
"""

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FlowField

Picture = npt.NDArray[np.uint8]

# From hue to hue, in steps of equal visible size: red, yellow, green, cyan, blue, magenta, red.
_ARCS = ((0, 1, 15), (1, 0, 6), (1, 2, 4), (2, 1, 11), (2, 0, 13), (0, 2, 6))
"""(the channel that is full, the one that changes, the number of colours); RGB."""


def wheel() -> npt.NDArray[np.float32]:
    """The 55 colours of the wheel, (55, 3) float32 RGB in 0 to 1; the first is red."""
    colours = []
    for arc, (full, changing, count) in enumerate(_ARCS):
        for step in range(count):
            colour = [0.0, 0.0, 0.0]
            colour[full] = 1.0
            # Every second arc fades the last one's colour out; the others bring a new one in.
            colour[changing] = step / count if arc % 2 == 0 else 1 - step / count
            colours.append(colour)
    return np.array(colours, np.float32)


def flow_colours(flow: FlowField, radius: float) -> Picture:
    """``flow`` (H, W, 2) float32, pixels, x right and y down, as (H, W, 3) uint8 BGR.

    A speed of ``radius`` pixels has full colour. Raises ValueError for a radius that isn't
    positive.
    """
    if not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    colours = wheel()
    speed = np.hypot(flow[..., 0], flow[..., 1])[..., None] / np.float32(radius)  # (H, W, 1)
    angle = np.arctan2(-flow[..., 1], -flow[..., 0]) / np.pi  # (H, W), -1 to 1
    # Interpolate between the two nearest colours of the wheel.
    place = (angle + 1) / 2 * (len(colours) - 1)
    low = place.astype(np.intp)
    share = (place - low)[..., None]
    hue = (1 - share) * colours[low] + share * colours[(low + 1) % len(colours)]  # (H, W, 3) RGB
    shade = np.where(speed <= 1, 1 - speed * (1 - hue), 0.75 * hue)
    return np.ascontiguousarray((255 * shade[..., ::-1]).astype(np.uint8))


def key(side: int) -> Picture:
    """The colour of each direction: a disc (side, side, 3) uint8 BGR, white around it."""
    across = np.linspace(-1, 1, side, dtype=np.float32)
    flow = np.stack(np.meshgrid(across, across), axis=-1)
    picture = flow_colours(flow, 1.0)
    picture[np.hypot(flow[..., 0], flow[..., 1]) > 1] = 255
    return picture
