"""Where a picture lies in the network's input, and how boxes get from one to the other."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

Boxes = npt.NDArray[np.float32]
"""(n, 4) float32: left, top, right and bottom; in pixels, or as shares: 0..1 of the picture."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a picture lies in the network's input, undistorted but for the rounding to pixels."""

    size: tuple[int, int]
    """(height, width) of the input."""
    inside: tuple[int, int]
    """(height, width) of the picture in it."""
    top: int
    left: int

    @classmethod
    def of(cls, picture: tuple[int, int], side: int, multiple: int) -> "Letterbox":
        """A ``picture`` (height, width) with its longer side made ``side`` pixels.

        Each side of the input is the least ``multiple`` that holds the picture, which lies in the
        middle. So a wide picture costs less than a square one.
        """
        height, width = picture
        if height < 1 or width < 1:
            raise ValueError(f"a picture must have pixels, got {height} x {width}")
        scale = side / max(height, width)
        inside = max(1, round(height * scale)), max(1, round(width * scale))
        size = -(-inside[0] // multiple) * multiple, -(-inside[1] // multiple) * multiple
        return cls(size, inside, (size[0] - inside[0]) // 2, (size[1] - inside[1]) // 2)

    def shares(self, boxes: Boxes) -> Boxes:
        """Boxes in pixels of the input as shares of the picture; what lies outside is cut off."""
        return np.clip((boxes - self._offset()) / self._extent(), 0, 1).astype(np.float32)

    def pixels(self, shares: Boxes) -> Boxes:
        """Boxes in shares of the picture as pixels of the input."""
        return (shares * self._extent() + self._offset()).astype(np.float32)

    def _offset(self) -> Floats:
        return np.asarray([self.left, self.top] * 2, np.float32)

    def _extent(self) -> Floats:
        height, width = self.inside
        return np.asarray([width, height] * 2, np.float32)
