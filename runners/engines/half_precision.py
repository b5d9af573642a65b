"""The half-precision graph, made from the single-precision one when a plan is built.

Convolutions and what lies between them run in half precision; distances, sums and exponentials do not. The
converters at hand (onnxruntime.transformers, onnxconverter-common) round the graph's input to half precision
as well, and order its nodes so that the checker refuses them.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_BETWEEN = frozenset({"Relu", "LeakyRelu", "Resize", "Concat"})


def half_precision(graph: bytes) -> bytes:
    """An ONNX graph with its convolutions in half precision; inputs and outputs stay float32."""
    model = onnx.load_from_string(graph)
    nodes = list(_converted(model.graph))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _converted(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes with casts where precision changes; adds weights in half precision to the graph."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    halves: set[str] = set()
    made: set[str] = set()
    for node in list(graph.node):
        fed = [name for name in node.input if name and name not in weights]
        half = node.op_type in _CONVOLUTIONS or (
            node.op_type in _BETWEEN and bool(fed) and halves.issuperset(fed)
        )
        half = half and outputs.isdisjoint(node.output)
        for index, name in enumerate(node.input):
            # Scales and sizes of a Resize have types of their own.
            if not name or (name in halves) == half or (node.op_type == "Resize" and index > 0):
                continue
            other = f"{name}_{'half' if half else 'single'}"
            node.input[index] = other
            if other in made:
                continue
            made.add(other)
            if name in weights:
                rounded = numpy_helper.to_array(weights[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(rounded, other))
            else:
                to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
                yield helper.make_node("Cast", [name], [other], other, to=to)
        if half:
            halves.update(node.output)
        yield node
