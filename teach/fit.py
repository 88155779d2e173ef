"""Fitting a head: scaling of pooled features, and multinomial logistic regression.

There are far more pooled features than windows. So the regression runs on coordinates in the space
that the windows span: with an L2 penalty the solution lies in it, and is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from pipeline.arrays import Vector
from teach.arrays import Numbers
from teach.base import Block

LIMIT = 5.0
"""Standardised values are cut to ±5: one strange step mustn't decide."""
UNLIMITED = 1e6
STILL = 1e-2
"""A feature whose deviation is under this part of the median's hardly varies, and is left out."""
STRENGTHS = (1.0, 5.0, 30.0)
"""C of the regression, for vectors of squared length 1: what is tried. Clips of few places want a
weak fit, signs that differ in little a strong one."""
STRENGTH = STRENGTHS[-1]


@dataclass(frozen=True)
class Scaling:
    """Makes the pooled values of one stream's blocks a vector of about unit length."""

    mean: Vector
    scale: Vector
    limit: Vector

    @classmethod
    def fitted(cls, pooled: Sequence[Vector], blocks: Sequence[Block]) -> "Scaling":
        """``pooled`` are the blocks' values (n, width) of the training windows, span by span."""
        means, scales, limits = [], [], []
        blocks = [blocks[place % len(blocks)] for place in range(len(pooled))]
        whole = sum(block.weight for block in blocks)
        for values, block in zip(pooled, blocks, strict=True):
            mean = values.mean(0)
            scale, limit = _scale(values - mean, block)
            scaled = np.clip((values - mean) * scale, -limit, limit)
            length = float(np.sqrt((scaled**2).sum(1).mean()))
            factor = np.sqrt(block.weight / whole) / length if length > 0 else 0.0
            means.append(mean)
            scales.append(scale * factor)
            limits.append(np.full(block.width, limit * factor))
        return cls(*(np.concatenate(one).astype(np.float32) for one in (means, scales, limits)))

    def apply(self, pooled: Sequence[Vector]) -> Vector:
        """(n, D)."""
        values = np.concatenate(pooled, axis=1)
        vectors: Vector = np.clip((values - self.mean) * self.scale, -self.limit, self.limit)
        return vectors


def _scale(around: Vector, block: Block) -> tuple[Vector, float]:
    if block.scaling == "block":
        return np.ones(block.width, np.float32), UNLIMITED
    deviation = around.std(0)
    varying = deviation[deviation > 0]
    floor = STILL * float(np.median(varying)) if len(varying) else np.inf
    inverse = np.where(deviation > floor, 1.0 / np.maximum(deviation, 1e-12), 0.0)
    return inverse.astype(np.float32), LIMIT


@dataclass(frozen=True)
class StreamHead:
    """One stream's part of a head. ``weights`` (D, C) add to the fused logits; ``own_weights`` and
    ``own_bias`` are a regression on this stream alone."""

    blocks: tuple[Block, ...]
    spans: tuple[int, ...]
    mean: Vector
    scale: Vector
    limit: Vector
    weights: Vector
    own_weights: Vector
    own_bias: Vector

    def vector(self, pooled: Sequence[Vector]) -> Vector:
        return Scaling(self.mean, self.scale, self.limit).apply(pooled)


@dataclass(frozen=True)
class Head:
    """Both streams and the fused bias (C,)."""

    streams: tuple[StreamHead, StreamHead]
    bias: Vector

    def logits(self, pooled: Sequence[Sequence[Vector]]) -> Vector:
        """Fused logits (n, C) of windows that have both streams."""
        parts = [
            stream.vector(one) @ stream.weights
            for stream, one in zip(self.streams, pooled, strict=True)
        ]
        fused: Vector = parts[0] + parts[1] + self.bias
        return fused


def softmax(logits: Vector) -> Vector:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    scores: Vector = shifted / shifted.sum(1, keepdims=True)
    return scores


class Regression:
    """Multinomial logistic regressions on the same windows."""

    def __init__(self, vectors: Vector, numbers: Numbers, weights: Vector, labels: int) -> None:
        """``vectors`` (n, D) of labels 0…C-1; ``weights`` (n,) are the windows'."""
        self._coordinates, self._back = _spanned(vectors)
        self._size, self._numbers, self._weights = vectors.shape[1], numbers, weights
        self._labels = labels

    def fitted(self, strength: float = STRENGTH) -> tuple[Vector, Vector]:
        """Weights (D, C) and bias (C,).

        A label without windows gets a bias that no window overcomes.
        """
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-4)
        model.fit(self._coordinates, self._numbers, self._weights)
        rows, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # one row then, of the second against the first
            rows, bias = np.concatenate([-rows, rows]) / 2, np.concatenate([-bias, bias]) / 2
        full = np.zeros((self._size, self._labels))
        full_bias = np.full(self._labels, -NEVER)
        full[:, model.classes_] = self._back @ rows.T
        full_bias[model.classes_] = bias
        return full.astype(np.float32), full_bias.astype(np.float32)


NEVER = 30.0


def _spanned(vectors: Vector) -> tuple[Vector, Vector]:
    """Coordinates (n, r) of the rows, and the matrix (D, r) that takes weights back."""
    n, size = vectors.shape
    if size <= n:
        return vectors, np.eye(size, dtype=vectors.dtype)
    wide = vectors.astype(np.float64)
    values, basis = np.linalg.eigh(wide @ wide.T)
    kept = values > 1e-9 * max(values[-1], 1e-30)
    lengths = np.sqrt(values[kept])
    return basis[:, kept] * lengths, wide.T @ (basis[:, kept] / lengths)
