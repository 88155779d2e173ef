"""A graph keeps once what it computes or stores twice, such as weights that are used twice."""

from collections.abc import Mapping

import onnx


def shared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without nodes that repeat an earlier one. Its operators must have no randomness."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    _share(small.graph, {}, {})
    return small


def _share(
    graph: onnx.GraphProto, replaced: Mapping[str, str], known: Mapping[bytes, str]
) -> None:  # fmt: skip
    """``replaced`` and ``known``: of the graphs around, names and what stands for them now; what
    is computed there already, and its name.
    """
    names, first = dict(replaced), dict(known)
    outputs = {output.name for output in graph.output}
    kept = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        for branch in inner:
            _share(branch, names, first)
        if not inner and len(node.output) == 1 and node.output[0] not in outputs:
            earlier = first.setdefault(_content(node), node.output[0])
            if earlier != node.output[0]:
                names[node.output[0]] = earlier
                continue
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _content(node: onnx.NodeProto) -> bytes:
    """What the node computes, whatever it and its output are called."""
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    bare.name = ""
    del bare.output[:]
    content: bytes = bare.SerializeToString(deterministic=True)
    return content
