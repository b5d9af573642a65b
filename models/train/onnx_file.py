"""An exported graph as the bytes of a file that says nothing of the machine it was exported on."""

from typing import Any

import onnx


def serialized(program: Any) -> bytes:
    """The checked graph of a torch export without its metadata: that names source paths and stack traces."""
    model: onnx.ModelProto = program.model_proto
    onnx.checker.check_model(model)
    without_metadata(model)
    content: bytes = model.SerializeToString()
    return content


def without_metadata(model: onnx.ModelProto) -> None:
    """Remove metadata and documentation strings in place."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.doc_string = ""
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    for part in (*model.graph.node, *values, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
