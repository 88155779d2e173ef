"""``fusion.onnx`` of a taught pack: pooling, scaling and logistic regression as one graph.

It computes what :mod:`teach.pooling` and :class:`teach.fit.Head` compute.
"""

import numpy as np
import onnx

from pipeline.arrays import Vector
from teach.base import STROKE_POINTS, Block, Pool
from teach.fit import Head, StreamHead
from teach.graph import Graph
from teach.pooling import (
    ABSENT,
    FLOOR,
    LEAST_MOVING,
    MOVES,
    SMALLEST_STROKE,
    STROKE_FLOOR,
    SWING_FLOOR,
)

HALF = 0.5


def head_graph(head: Head, sizes: tuple[int, int], labels: int) -> onnx.ModelProto:
    """The graph for features of ``sizes`` (d, e); tensors as in :mod:`pipeline.model.pack`."""
    graph = Graph("fusion")
    features = [
        graph.input(name, ("n", "t", size))
        for name, size in zip(("spatial", "temporal"), sizes, strict=True)
    ]
    masks = graph.input("mask", ("n", "t", 2))
    logits, own, present = [], [], []
    for place, (stream, name) in enumerate(zip(head.streams, features, strict=True)):
        mask = graph.node("Squeeze", graph.part(masks, place, place + 1, 2), graph.integers(2))
        vector = _scaled(graph, stream, _Pooling(graph, name, mask))
        logits.append(graph.node("MatMul", vector, stream.weights))
        alone = graph.node("MatMul", vector, stream.own_weights)
        own.append(graph.node("Softmax", graph.node("Add", alone, stream.own_bias), axis=1))
        present.append(graph.node("Clip", graph.total(mask, 1), 0.0, 1.0))  # (N, 1)
    fused = graph.node("Add", graph.node("Add", *logits), head.bias)
    scores = _chosen(graph, graph.node("Softmax", fused, axis=1), own, present)
    graph.output("scores", scores, ("n", labels))
    graph.output("spatial_scores", own[0], ("n", labels))
    graph.output("temporal_scores", own[1], ("n", labels))
    graph.output("alpha", _alpha(graph, logits, masks), ("n", "t"))
    return graph.model()


def _chosen(graph: Graph, both: str, own: list[str], present: list[str]) -> str:
    """The fused scores; those of one stream alone in a window that lacks the other."""
    here = graph.node("Mul", *present)
    parts = [graph.node("Mul", both, here)]
    for stream, other in ((0, 1), (1, 0)):
        only = graph.node("Mul", present[stream], graph.node("Sub", 1.0, present[other]))
        parts.append(graph.node("Mul", own[stream], only))
    return graph.node("Sum", *parts)


def _alpha(graph: Graph, logits: list[str], masks: str) -> str:
    """How much of what tells the labels apart comes from appearance, (N, T)."""
    spreads = []
    for one in logits:
        mean = graph.node("ReduceMean", one, axes=[1], keepdims=1)
        around = graph.node("Sub", one, mean)
        spreads.append(graph.node("ReduceL2", around, axes=[1], keepdims=1))
    whole = graph.node("Add", graph.node("Add", *spreads), FLOOR)
    share = graph.node("Div", spreads[0], whole)
    return graph.node("Mul", share, graph.node("ReduceMin", masks, axes=[2], keepdims=0))


def _scaled(graph: Graph, stream: StreamHead, pooling: "_Pooling") -> str:
    parts = [pooling.block(block, span) for span in stream.spans for block in stream.blocks]
    vector = graph.node("Concat", *parts, axis=1)
    scaled = graph.node("Mul", graph.node("Sub", vector, stream.mean), stream.scale)
    return graph.node("Max", graph.node("Min", scaled, stream.limit), -stream.limit)


class _Pooling:
    """Blocks of one stream's features (N, T, d) under its mask (N, T)."""

    def __init__(self, graph: Graph, features: str, mask: str) -> None:
        self._graph = graph
        self._features = features
        self._mask = mask

    def block(self, block: Block, span: int) -> str:
        """(N, width) over the newest ``span`` steps, as :func:`teach.pooling.pooled`."""
        graph = self._graph
        newest = graph.part(self._features, -span, 0, 1)
        values = graph.part(newest, block.start, block.start + block.size, 2)
        mask = weight = graph.part(self._mask, -span, 0, 1)
        if block.valid is not None:
            valid = graph.part(newest, block.valid, block.valid + 1, 2)
            found = graph.node("Cast", graph.node("Greater", valid, HALF), to=1)
            weight = graph.node("Mul", weight, graph.node("Squeeze", found, graph.integers(2)))
        if block.unit is not None:
            unit = self._mean(graph.part(newest, block.unit, block.unit + 1, 2), weight)
            unit = graph.node("Unsqueeze", graph.node("Max", unit, FLOOR), graph.integers(1))
            values = graph.node("Div", values, unit)
        present = mask
        if block.lag:
            k = block.lag
            values = graph.node("Sub", graph.part(values, k, 0, 1), graph.part(values, 0, -k, 1))
            weight = graph.node("Mul", graph.part(weight, k, 0, 1), graph.part(weight, 0, -k, 1))
            present = graph.part(present, k, 0, 1)
        parts = [self._pool(pool, values, weight, present) for pool in block.pools]
        return graph.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

    def _pool(self, pool: Pool, values: str, weight: str, present: str) -> str:
        if pool == "mean":
            return self._mean(values, weight)
        if pool == "std":
            return self._root(self._around(values, weight), weight)
        if pool == "thirds":
            return self._thirds(values, weight, present)
        if pool == "swing":
            return self._swing(values, weight)
        if pool == "stroke":
            return self._stroke(values, weight)
        return self._extreme(pool, values, weight)

    def _mean(self, values: str, weight: str) -> str:
        graph = self._graph
        count = graph.node("Max", graph.total(weight, 1), 1.0)
        shares = graph.node("Unsqueeze", graph.node("Div", weight, count), graph.integers(1))
        return graph.node("Squeeze", graph.node("MatMul", shares, values), graph.integers(1))

    def _around(self, values: str, weight: str) -> str:
        mean = self._graph.node("Unsqueeze", self._mean(values, weight), self._graph.integers(1))
        return self._graph.node("Sub", values, mean)

    def _root(self, values: str, weight: str) -> str:
        """Root mean square."""
        square = self._graph.node("Mul", values, values)
        return self._graph.node("Sqrt", self._mean(square, weight))

    def _extreme(self, pool: Pool, values: str, weight: str) -> str:
        graph = self._graph
        sign = 1.0 if pool == "min" else -1.0
        away = graph.node("Mul", graph.node("Sub", 1.0, weight), sign * ABSENT)
        moved = graph.node("Add", values, graph.node("Unsqueeze", away, graph.integers(2)))
        kind = "ReduceMin" if pool == "min" else "ReduceMax"
        return self._where_any(graph.node(kind, moved, axes=[1], keepdims=0), weight)

    def _where_any(self, values: str, weight: str) -> str:
        """Zeros where no step is valid."""
        count = self._graph.total(weight, 1)
        return self._where(self._graph.node("Greater", count, HALF), values, "")

    def _where(self, condition: str, yes: str, no: str) -> str:
        return self._graph.node("Where", condition, yes, no or self._graph.constant(0.0))

    def _swing(self, values: str, weight: str) -> str:
        graph, around = self._graph, self._around(values, weight)
        sides = []
        for side in (around, graph.node("Neg", around)):
            root = self._root(graph.node("Relu", side), weight)
            log = graph.node("Log", graph.node("Add", root, SWING_FLOOR))
            sides.append(self._where_any(log, weight))
        return graph.node("Concat", *sides, axis=1)

    def _stroke(self, values: str, weight: str) -> str:
        graph = self._graph
        moved = graph.node("Mul", values, graph.node("Unsqueeze", weight, graph.integers(2)))
        speed = graph.node("ReduceL2", moved, axes=[2], keepdims=0)
        fastest = graph.node("ReduceMax", speed, axes=[1], keepdims=1)
        fast = graph.node("Greater", speed, graph.node("Mul", fastest, MOVES))
        on = graph.node("And", fast, graph.node("Greater", speed, 0.0))
        steps = graph.node("Sub", self._counted(speed, reverse=0), 1.0)
        first = graph.node(
            "ReduceMin", self._where(on, steps, graph.constant(ABSENT)), axes=[1], keepdims=1
        )
        last = graph.node(
            "ReduceMax", self._where(on, steps, graph.constant(-1.0)), axes=[1], keepdims=1
        )
        length = graph.node("Sub", last, first)
        points = self._points(moved, steps, first, length)
        end = graph.node("Sub", self._row(points, -1), self._row(points, 0))
        mean = graph.node("ReduceMean", points, axes=[1], keepdims=1)
        points = graph.node("Sub", points, mean)
        reach = graph.node("ReduceMax", graph.node("Abs", points), axes=[1, 2], keepdims=0)
        size = graph.node("Unsqueeze", graph.node("Max", reach, SMALLEST_STROKE), graph.integers(1))
        flat = graph.node("Reshape", points, graph.integers(-1, 2 * STROKE_POINTS))
        square = graph.node("Mul", size, size)
        pooled = graph.node(
            "Concat",
            graph.node("Div", flat, size),
            graph.node("Div", end, size),
            graph.node("Log", graph.node("Add", size, STROKE_FLOOR)),
            graph.node("Div", self._turn(moved, steps, first, last), square),
            axis=1,
        )
        moving = graph.total(graph.node("Cast", on, to=1), 1)
        return self._where(graph.node("Greater", moving, LEAST_MOVING - HALF), pooled, "")

    def _points(self, moved: str, steps: str, first: str, length: str) -> str:
        """Twelve points (N, 12, 2) of the path, by weights that fall off within a step."""
        graph = self._graph
        parts = np.linspace(0, 1, STROKE_POINTS, dtype=np.float32)
        places = graph.node("Add", first, graph.node("Mul", length, parts))
        away = graph.node(
            "Sub",
            graph.node("Unsqueeze", places, graph.integers(2)),
            graph.node("Unsqueeze", steps, graph.integers(1)),
        )
        near = graph.node("Relu", graph.node("Sub", 1.0, graph.node("Abs", away)))
        path = graph.node("CumSum", moved, graph.constant(1, np.int64))
        return graph.node("MatMul", near, path)

    def _turn(self, moved: str, steps: str, first: str, last: str) -> str:
        """The sum (N, 1) of cross products of velocities that follow each other."""
        graph = self._graph
        now, after = graph.part(moved, 0, -1, 1), graph.part(moved, 1, 0, 1)
        products = [
            graph.node("Mul", graph.part(now, a, a + 1, 2), graph.part(after, b, b + 1, 2))
            for a, b in ((0, 1), (1, 0))
        ]
        cross = graph.node("Squeeze", graph.node("Sub", *products), graph.integers(2))
        places = graph.part(steps, 0, -1, 1)
        inside = graph.node(
            "And",
            graph.node("GreaterOrEqual", places, first),
            graph.node("Less", places, last),
        )
        return graph.total(graph.node("Mul", cross, graph.node("Cast", inside, to=1)), 1)

    def _row(self, points: str, place: int) -> str:
        row = self._graph.part(points, place, place + 1 or 0, 1)
        return self._graph.node("Squeeze", row, self._graph.integers(1))

    def _counted(self, like: str, reverse: int) -> str:
        """1, 2, … T for each row of ``like`` (N, T), or backwards: T is known when it comes."""
        graph = self._graph
        ones = graph.node("Add", graph.node("Mul", like, 0.0), 1.0)
        return graph.node("CumSum", ones, graph.constant(1, np.int64), reverse=reverse)

    def _thirds(self, values: str, weight: str, present: str) -> str:
        graph = self._graph
        means, anys = [], []
        for part in self._places(present):
            inside = graph.node("Mul", weight, part)
            means.append(self._mean(values, inside))
            anys.append(graph.node("Greater", graph.total(inside, 1), HALF))
        first = self._where(anys[0], means[0], self._where(anys[1], means[1], means[2]))
        second = self._where(anys[1], means[1], first)
        third = self._where(anys[2], means[2], second)
        return graph.node("Concat", first, second, third, axis=1)

    def _places(self, present: str) -> list[str]:
        """To which third each step belongs, three times (N, T), 0 or 1."""
        graph = self._graph
        age = self._counted(present, reverse=1)  # T, T - 1, … 1
        oldest = graph.node("ReduceMax", graph.node("Mul", present, age), axes=[1], keepdims=1)
        place = graph.node("Div", graph.node("Sub", oldest, age), graph.node("Max", oldest, 1.0))
        bounds: list[Vector | float] = [0.0, 1 / 3 - FLOOR, 2 / 3 - FLOOR]
        reached = [
            graph.node("Cast", graph.node("GreaterOrEqual", place, one), to=1) for one in bounds
        ]
        return [
            graph.node("Sub", reached[0], reached[1]),
            graph.node("Sub", reached[1], reached[2]),
            reached[2],
        ]
