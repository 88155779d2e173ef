"""Dense, pyramidal, iterative Lucas-Kanade, written out from its equation.

One displacement explains the change of brightness around each pixel: the least-squares solution of
``Ix u + Iy v = -It`` over a window (Lucas and Kanade, IJCAI 1981)::

    [ ΣIx²   ΣIxIy ] [u]     [ ΣIxIt ]
    [ ΣIxIy  ΣIy²  ] [v] = - [ ΣIyIt ]

The left matrix is the structure tensor. Each iteration warps the next image by the flow so far and
solves the equation again, from the coarsest level of a pyramid to the finest (Bouguet, 2000).
``docs/flow.md`` lists the additions to the textbook and measures the gain of each.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import FlowField, Gray
from pipeline.flow.opencv import require_gray_pair

Plane = npt.NDArray[np.float32]

# Central difference over five points, applied to the sum of the two images (hence 24, not 12).
_DERIVATIVE = np.array([1, -8, 0, 8, -1], np.float32) / 24
_IDENTITY = np.ones(1, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameters of :class:`LucasKanade`.

    Attributes:
        window: side of the square over which the equation is summed, pixels, odd.
        iterations: how often a level is warped and solved.
        finest_iterations: the same for the finest level, which takes three quarters of the time.
        coarsest: shortest side that a level may have, pixels; the image itself may be smaller.
        high_pass: sigma of the Gaussian that is subtracted from each level, pixels, so that a
            camera's exposure can change between the frames.
        robust: brightness residual, gray levels, at which a pixel counts half (Fair's weight),
            so that one motion wins where a window holds two.
        damping: squared gradient, (gray levels per pixel)², added to the tensor's diagonal
            (Tikhonov). It pulls the solution towards the mean flow of the neighbourhood, and so
            fills flat regions.
        neighbourhood: side of that neighbourhood, pixels, odd.
    """

    window: int = 7
    iterations: int = 3
    finest_iterations: int = 2
    coarsest: int = 8
    high_pass: float = 2.0
    robust: float = 3.0
    damping: float = 0.5
    neighbourhood: int = 31

    def __post_init__(self) -> None:
        for name in ("window", "neighbourhood"):
            side = getattr(self, name)
            if side < 3 or side % 2 == 0:
                raise ValueError(f"{name} must be odd and at least 3, got {side}")
        for name in ("iterations", "finest_iterations", "coarsest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("high_pass", "robust", "damping"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")


DEFAULT = Parameters()


class LucasKanade:
    """Lucas-Kanade flow at every pixel of a pair of (H, W) uint8 images of any size.

    It holds scratch memory for the latest image size, so an object belongs to one thread. The
    result, (H, W, 2) float32, is a new array each time. Raises ValueError when the images differ
    in shape or aren't gray.
    """

    def __init__(self, parameters: Parameters = DEFAULT) -> None:
        self._parameters = parameters
        self._levels: list[_Level] = []

    def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField:
        require_gray_pair(prev_gray, next_gray)
        if not self._levels or self._levels[0].shape != prev_gray.shape:
            self._levels = self._allocate(*prev_gray.shape)
        self._load(prev_gray, next_gray)
        parameters, finest = self._parameters, self._levels[0]
        coarser: _Level | None = None
        # Coarse to fine: a motion of many pixels is a small one at the coarsest level, where the
        # equation is valid, and each finer level has only a remainder left to find.
        for level in reversed(self._levels):
            level.start_from(coarser)
            level.refine(parameters.finest_iterations if level is finest else parameters.iterations)
            coarser = level
        return np.asarray(cv2.merge([finest.u, finest.v]), np.float32)

    def _allocate(self, height: int, width: int) -> list["_Level"]:
        """The levels of a pyramid, the finest first, with sides as cv2.pyrDown rounds them."""
        levels = [_Level(height, width, self._parameters)]
        while min(height, width) >= 2 * self._parameters.coarsest:
            height, width = (height + 1) // 2, (width + 1) // 2
            levels.append(_Level(height, width, self._parameters))
        return levels

    def _load(self, prev_gray: Gray, next_gray: Gray) -> None:
        """Fill the levels with the high-pass filtered pyramids of both images."""
        sigma = self._parameters.high_pass
        side = 2 * math.ceil(2 * sigma) + 1  # the Gaussian out to two sigma, an odd side
        prev = np.ascontiguousarray(prev_gray, np.float32)
        following = np.ascontiguousarray(next_gray, np.float32)
        for level in self._levels:
            for image, filtered in ((prev, level.prev), (following, level.next)):
                cv2.GaussianBlur(image, (side, side), sigma, dst=filtered)
                np.subtract(image, filtered, out=filtered)
            # The pyramid itself is of the unfiltered images.
            if level is not self._levels[-1]:
                prev = np.asarray(cv2.pyrDown(prev), np.float32)
                following = np.asarray(cv2.pyrDown(following), np.float32)


class _Level:
    """One level of the pyramid: its images, its flow so far, and scratch memory, all (H, W)."""

    def __init__(self, height: int, width: int, parameters: Parameters) -> None:
        self.shape = (height, width)
        # A separable filter sums a window this small faster than OpenCV's running box does.
        self._box = np.full(parameters.window, 1 / parameters.window, np.float32)
        self._neighbourhood = (parameters.neighbourhood, parameters.neighbourhood)
        self._robust = np.float32(parameters.robust)
        self._damping = parameters.damping
        self._x = np.arange(width, dtype=np.float32)[np.newaxis, :]  # (1, W)
        self._y = np.arange(height, dtype=np.float32)[:, np.newaxis]  # (H, 1)
        self.prev, self.next, self.u, self.v = np.empty((4, height, width), np.float32)
        self._ix, self._iy, self._it, self._weight = np.empty((4, height, width), np.float32)
        # The equation of each pixel: the structure tensor and the right side.
        self._xx, self._xy, self._yy = np.empty((3, height, width), np.float32)
        self._bx, self._by, self._map_x, self._map_y = np.empty((4, height, width), np.float32)
        self._scratch = np.empty((height, width), np.float32)

    def start_from(self, coarser: "_Level | None") -> None:
        """Start from the flow of the level above; at the top from no motion."""
        if coarser is None:
            self.u.fill(0)
            self.v.fill(0)
            return
        height, width = self.shape
        for theirs, ours in ((coarser.u, self.u), (coarser.v, self.v)):
            cv2.pyrUp(theirs, dst=ours, dstsize=(width, height))
            ours *= 2  # a pixel there is two pixels here

    def refine(self, iterations: int) -> None:
        """Warp by the flow so far, solve for the whole flow again, remove outliers; repeat."""
        for remaining in reversed(range(iterations)):
            self._linearise()
            self._sum_windows()
            self._solve()
            # The wider median costs six times as much, and matters only in the flow that the next
            # level gets.
            median = 3 if remaining else 5
            cv2.medianBlur(self.u, median, dst=self.u)
            cv2.medianBlur(self.v, median, dst=self.v)

    def _linearise(self) -> None:
        """Compute the gradients, the robust weight, and ``Ix u + Iy v - It`` in place of ``-It``.

        The equation contains the flow so far because that flow varies within a window. Solving for
        the whole flow instead of an increment makes neighbours agree (Le Besnerais and Champagnat,
        ICIP 2005).
        """
        np.add(self._x, self.u, out=self._map_x)
        np.add(self._y, self.v, out=self._map_y)
        warped = self._scratch
        # Where the flow points outside the next image, there is no pixel to compare. The remap
        # leaves the copy of prev there, so It is 0, as if the flow so far were right.
        np.copyto(warped, self.prev)
        cv2.remap(
            self.next,
            self._map_x,
            self._map_y,
            cv2.INTER_LINEAR,
            dst=warped,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        np.subtract(self.prev, warped, out=self._it)  # -It
        # Gradients of the mean of both images are less noisy than those of one.
        np.add(self.prev, warped, out=warped)
        cv2.sepFilter2D(warped, -1, _DERIVATIVE, _IDENTITY, dst=self._ix)
        cv2.sepFilter2D(warped, -1, _IDENTITY, _DERIVATIVE, dst=self._iy)
        # Fair's weight: robust / (robust + |It|).
        np.abs(self._it, out=self._weight)
        self._weight += self._robust
        np.divide(self._robust, self._weight, out=self._weight)
        for gradient, flow in ((self._ix, self.u), (self._iy, self.v)):
            cv2.accumulateProduct(gradient, flow, self._it)  # now Ix u + Iy v - It

    def _sum_windows(self) -> None:
        """Compute the damped structure tensor and the right side, weighted means over windows."""
        weighted = self._map_x  # the map is not needed until the next warp
        np.multiply(self._weight, self._ix, out=weighted)
        self._mean_of_product(weighted, self._ix, self._xx, self._damping)
        self._mean_of_product(weighted, self._iy, self._xy)
        self._mean_of_product(weighted, self._it, self._bx)
        np.multiply(self._weight, self._iy, out=weighted)
        self._mean_of_product(weighted, self._iy, self._yy, self._damping)
        self._mean_of_product(weighted, self._it, self._by)
        # The right side's part of the damping: where the image is flat, only it and the damped
        # diagonal are left, and the solution is the mean flow of the neighbourhood.
        for flow, right in ((self.u, self._bx), (self.v, self._by)):
            cv2.blur(flow, self._neighbourhood, dst=self._scratch, borderType=cv2.BORDER_REPLICATE)
            cv2.scaleAdd(self._scratch, self._damping, right, dst=right)

    def _mean_of_product(self, a: Plane, b: Plane, mean: Plane, plus: float = 0.0) -> None:
        """Write the window's mean of ``a * b``, and ``plus``, into ``mean``."""
        np.multiply(a, b, out=self._scratch)
        border = cv2.BORDER_REPLICATE
        cv2.sepFilter2D(
            self._scratch, -1, self._box, self._box, dst=mean, delta=plus, borderType=border
        )

    def _solve(self) -> None:
        """Solve for both unknowns by Cramer's rule; damping keeps the determinant above 0."""
        determinant, product = self._weight, self._scratch
        np.multiply(self._xx, self._yy, out=determinant)
        np.multiply(self._xy, self._xy, out=product)
        determinant -= product
        # u = (yy bx - xy by) / determinant, v = (xx by - xy bx) / determinant
        for flow, other, right, left in (
            (self.u, self._yy, self._bx, self._by),
            (self.v, self._xx, self._by, self._bx),
        ):
            np.multiply(other, right, out=flow)
            np.multiply(self._xy, left, out=product)
            flow -= product
            flow /= determinant
