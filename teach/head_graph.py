"""``fusion.onnx`` of a taught pack: pooling, scaling and logistic regression as one graph.

It computes what :mod:`teach.pooling` and :class:`teach.fit.Head` compute.
"""

import numpy as np
import onnx

from pipeline.arrays import Vector
from teach.base import Block, Pool
from teach.fit import Head, StreamHead
from teach.graph import Graph
from teach.pooling import ABSENT, FLOOR, SWING_FLOOR

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
        # Ages T, T - 1, … 1: the window's length is known only when it comes.
        ones = graph.node("Add", graph.node("Mul", present, 0.0), 1.0)
        age = graph.node("CumSum", ones, graph.constant(1, np.int64), reverse=1)
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
