"""Words for building graphs with spox: what its operators lack in brevity.

Numbers are float32. Inside ``with arithmetic():`` the signs + - * / work on them, also with plain
numbers.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import onnx
import spox
import spox.opset.ai.onnx.v18 as op
from spox import Var, _future

from export.base.share import shared
from export.base.tflite import IR_VERSION

FRAMES, FEATURES = "frames", "features"
PRODUCER = "two-stream"
_TINY = 1e-6


@contextmanager
def arithmetic() -> Iterator[None]:
    """Signs work on :class:`spox.Var` while this is open."""
    with warnings.catch_warnings():
        # spox would rather have ndonnx used, whose arrays bring type promotion along. The graphs
        # here are of float32 alone, and the version of spox is pinned.
        warnings.simplefilter("ignore", DeprecationWarning)
        with _future.operator_overloading(op):
            yield


def numbers(values: npt.ArrayLike) -> Var:
    """A constant of floats."""
    return op.constant(value=np.asarray(values, np.float32))


def integers(*values: int) -> Var:
    """A constant list of integers."""
    return op.constant(value=np.asarray(values, np.int64))


def floats(x: Var) -> Var:
    """``x`` as floats: of integers or of what is true."""
    return op.cast(x, to=np.float32)


def part(x: Var, start: int, stop: int, axis: int = -1) -> Var:
    """``x[..., start:stop]``."""
    return op.slice(x, integers(start), integers(stop), integers(axis))


def picked(x: Var, which: Sequence[int], axis: int = -1) -> Var:
    """Some entries along ``axis``."""
    return op.gather(x, integers(*which), axis=axis)


def joined(*parts: Var, axis: int = -1) -> Var:
    """Concatenated along ``axis``."""
    return op.concat(parts, axis=axis)


def shaped(x: Var, *shape: int) -> Var:
    """``x`` in another shape; 0 keeps a dimension, -1 takes what is left."""
    return op.reshape(x, integers(*shape))


def widened(x: Var, axis: int) -> Var:
    """``x`` with one more dimension at ``axis``."""
    return op.unsqueeze(x, integers(axis))


def _along(x: Var, axis: int) -> Var:
    """``axis`` from the front: from the back, onnxruntime reduces tensors of no rows wrongly."""
    shape = x.unwrap_tensor().shape
    if shape is None:
        raise ValueError("a tensor of unknown rank can't be reduced")
    return integers(axis % len(shape))


def total(x: Var, axis: int = -1, keep: bool = False) -> Var:
    """The sum along ``axis``."""
    return op.reduce_sum(x, _along(x, axis), keepdims=int(keep))


def mean(x: Var, axis: int = -1, keep: bool = False) -> Var:
    """The mean along ``axis``."""
    return op.reduce_mean(x, _along(x, axis), keepdims=int(keep))


def least(x: Var, axis: int = -1, keep: bool = False) -> Var:
    """The least along ``axis``."""
    return op.reduce_min(x, _along(x, axis), keepdims=int(keep))


def most(x: Var, axis: int = -1, keep: bool = False) -> Var:
    """The most along ``axis``."""
    return op.reduce_max(x, _along(x, axis), keepdims=int(keep))


def length(x: Var, keep: bool = False) -> Var:
    """Of vectors along the last axis."""
    return op.reduce_l2(x, _along(x, -1), keepdims=int(keep))


def unit(x: Var) -> Var:
    """Vectors along the last axis at length 1; 0 stays 0."""
    return op.div(x, op.max([length(x, keep=True), numbers(_TINY)]))


def dot(a: Var, b: Var) -> Var:
    """Products of vectors along the last axis."""
    return total(op.mul(a, b))


def step_in(x: Var, which: Var) -> Var:
    """``x[i, which[i]]`` of x (N, M, ...) and which (N, 1) int64: (N, ...)."""
    return op.gather_nd(x, which, batch_dims=1)


def rows_where(places: Var, size: int, build: Callable[[], Var]) -> Var:
    """``build()`` (K, size) for places (K, ...); not run for K = 0.

    onnxruntime can't run all of its convolutions on no pictures.
    """
    count = op.size(places)
    some = op.greater(count, op.constant(value=np.int64(0)))
    nothing = op.constant(value=np.zeros((0, size), np.float32))
    (rows,) = op.if_(
        some, then_branch=lambda: [build()], else_branch=lambda: [op.identity(nothing)]
    )
    return rows


def scattered(rows: Var, places: Var, shape: Var, size: int) -> Var:
    """``rows`` (K, size) at ``places`` (K, ...) of zeros (*shape, size)."""
    whole = op.concat([shape, integers(size)], axis=0)
    return op.scatter_nd(op.constant_of_shape(whole, value=np.zeros(1, np.float32)), places, rows)


def model_of(size: tuple[int, int], build: Callable[[Var], Var]) -> onnx.ModelProto:
    """The graph that ``build(frames)`` makes: ``frames`` (N, h, w, 3) uint8 to ``features``."""
    frames = spox.argument(spox.Tensor(np.uint8, ("N", *size, 3)))
    with arithmetic():
        features = build(frames)
    model = shared(spox.build({FRAMES: frames}, {FEATURES: features}))
    model.ir_version = IR_VERSION
    model.producer_name = PRODUCER
    onnx.checker.check_model(model, full_check=True)
    return model


def run(network: onnx.ModelProto, picture: Var) -> dict[str, Var]:
    """The outputs of a network on ``picture``, by name."""
    said: dict[str, Var] = spox.inline(network)(picture=picture)
    return said
