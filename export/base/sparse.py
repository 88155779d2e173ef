"""Sparse tensors of TFLite, made dense."""

from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

Ints = npt.NDArray[np.int64]

_VECTORS: dict[int, Any] = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
"""By tflite's SparseIndexVector: how the indices of a level are stored."""


def densified(tensor: Any, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The dense array of a sparse ``tensor``, whose stored ``values`` are given flat.

    The format is TACO's, as TFLite's schema.fbs describes it: one level for each dimension, then
    one for each block; a level is dense, or lists the indices that are stored.
    """
    sparsity = tensor.Sparsity()
    shape = tuple(tensor.ShapeAsNumpy().tolist())
    levels = [sparsity.DimMetadata(k) for k in range(sparsity.DimMetadataLength())]
    blocks = sparsity.BlockMapAsNumpy().tolist() if sparsity.BlockMapLength() else []
    coordinates, places = np.zeros((1, 0), np.int64), np.zeros(1, np.int64)
    for level in levels:
        coordinates, places = _descended(level, coordinates, places)
    dense = np.zeros(shape, values.dtype)
    order = sparsity.TraversalOrderAsNumpy().tolist()
    sizes = [levels[len(shape) + k].DenseSize() for k in range(len(blocks))]
    dense[_within(order, coordinates, len(shape), blocks, sizes)] = values[places]
    return dense


def _descended(level: Any, coordinates: Ints, places: Ints) -> tuple[Ints, Ints]:
    """One level further: each stored entry's coordinates so far, and its place in the level."""
    if level.Format() == tflite.DimensionType.DENSE:
        size = level.DenseSize()
        index = np.tile(np.arange(size), len(places))
        rows = np.repeat(np.arange(len(places)), size)
        places = np.repeat(places, size) * size + index
    else:
        segments, indices = _vector(level, "Segments"), _vector(level, "Indices")
        rows = np.repeat(np.arange(len(places)), segments[places + 1] - segments[places])
        places = np.concatenate([np.arange(segments[p], segments[p + 1]) for p in places])
        index = indices[places]
    return np.column_stack([coordinates[rows], index]), places


def _vector(level: Any, which: str) -> Ints:
    vector = _VECTORS[getattr(level, f"Array{which}Type")()]()
    table = getattr(level, f"Array{which}")()
    vector.Init(table.Bytes, table.Pos)
    return np.asarray(vector.ValuesAsNumpy(), np.int64)


def _within(
    order: list[int], coordinates: Ints, dimensions: int, blocks: list[int], sizes: list[int]
) -> tuple[Ints, ...]:
    """Index arrays of the dense tensor: place of the block, times its size, plus place within."""
    where = [coordinates[:, order.index(d)] for d in range(dimensions)]
    for number, (dimension, size) in enumerate(zip(blocks, sizes, strict=True)):
        inner = coordinates[:, order.index(dimensions + number)]
        where[dimension] = where[dimension] * size + inner
    return tuple(where)
