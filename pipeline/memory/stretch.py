"""Stretches: steps with their features as they are kept, in half precision and compressed. Pure.

The features of a network lie together, step by step, as IEEE half floats whose low bytes come
first and whose high bytes follow: alike bytes side by side compress better.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.errors import FeatureMemoryError
from pipeline.steps.join import STREAMS, DecidedStep
from pipeline.transport.messages import Feature, Moment, Person, Regions

VERSION = 1
LEVEL = 1
"""Of zlib. Higher ones take twice as long and save a fortieth."""
_LARGEST = float(np.finfo(np.float16).max)
Half = npt.NDArray[np.float16]
Stream = Literal["spatial", "temporal"]


class _Column(msgspec.Struct, frozen=True, array_like=True):
    """One network's features of one stream."""

    stream: Stream
    network: str
    rows: list[int]
    """The steps that have one ..."""
    masked: list[int]
    """... and those at which it was due and didn't come."""
    size: int
    features: bytes


class _Step(msgspec.Struct, frozen=True, array_like=True):
    moment: Moment
    streams: tuple[bool, bool]
    """Whether a message of each stream came."""
    regions: Regions
    people: tuple[Person, ...] | None


class _Content(msgspec.Struct, frozen=True):
    version: int
    steps: list[_Step]
    columns: list[_Column]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


def networks(steps: Iterable[DecidedStep]) -> set[str]:
    """The keys of the networks that have features in these steps, without subjects."""
    return {
        key.partition("/")[0]
        for step in steps
        for feature in (step.spatial, step.temporal)
        if feature is not None
        for key in feature.vectors
    }


def encoded(steps: Sequence[DecidedStep]) -> bytes:
    """The steps as bytes."""
    columns = [
        *_columns("spatial", [step.spatial for step in steps]),
        *_columns("temporal", [step.temporal for step in steps]),
    ]
    rows = [
        _Step(
            step.moment,
            (step.spatial is not None, step.temporal is not None),
            next((f.regions for f in (step.spatial, step.temporal) if f is not None), {}),
            step.people,
        )
        for step in steps
    ]
    return zlib.compress(_encode(_Content(VERSION, rows, columns)), LEVEL)


def decoded(data: bytes) -> list[DecidedStep]:
    """The steps that were encoded; their features have eleven bits.

    Raises :class:`FeatureMemoryError` for bytes that aren't a stretch.
    """
    try:
        content = _decode(zlib.decompress(data))
        if content.version != VERSION:
            raise FeatureMemoryError(f"version {content.version}; this program reads {VERSION}")
        vectors: dict[str, list[dict[str, bytes | None]]] = {
            name: [{} for _ in content.steps] for name in STREAMS
        }
        for column in content.columns:
            of_stream = vectors[column.stream]
            for row, feature in zip(column.rows, _features(column), strict=True):
                of_stream[row][column.network] = feature.tobytes()
            for row in column.masked:
                of_stream[row][column.network] = None
        return [
            DecidedStep(
                step.moment,
                _feature(step, "spatial", vectors["spatial"][row]),
                _feature(step, "temporal", vectors["temporal"][row]),
                step.people,
            )
            for row, step in enumerate(content.steps)
        ]
    except (zlib.error, msgspec.DecodeError, ValueError, IndexError, KeyError) as error:
        raise FeatureMemoryError(f"damaged: {error}") from None


def _columns(stream: Stream, features: Sequence[Feature | None]) -> Iterable[_Column]:
    present: dict[str, list[tuple[int, bytes]]] = {}
    masked: dict[str, list[int]] = {}
    for row, feature in enumerate(features):
        for key, vector in (feature.vectors if feature is not None else {}).items():
            if vector is None:
                masked.setdefault(key, []).append(row)
            else:
                present.setdefault(key, []).append((row, vector))
    for key in {**present, **masked}:
        rows, there = [row for row, _ in present.get(key, [])], present.get(key, [])
        size = len(there[0][1]) // 4 if there else 0
        yield _Column(
            stream, key, rows, masked.get(key, []), size, _packed([v for _, v in there], size)
        )


def _packed(vectors: Sequence[bytes], size: int) -> bytes:
    values = np.frombuffer(b"".join(vectors), np.float32).reshape(-1, size or 1)
    half = np.clip(values, -_LARGEST, _LARGEST).astype("<f2")
    return half.view(np.uint8).reshape(-1, 2).T.tobytes()


def _features(column: _Column) -> npt.NDArray[np.float32]:
    shuffled = np.frombuffer(column.features, np.uint8).reshape(2, -1)
    half = np.ascontiguousarray(shuffled.T).view("<f2")
    return half.astype(np.float32).reshape(len(column.rows), column.size)


def _feature(step: _Step, stream: Stream, vectors: dict[str, bytes | None]) -> Feature | None:
    if not step.streams[STREAMS.index(stream)]:
        return None
    return Feature(
        moment=step.moment, stream=stream, vectors=vectors, regions=step.regions, trail=()
    )
