"""The same ONNX graph by PyTorch, eagerly, operator by operator: what the engines are compared with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]


class EagerGraph:
    """`model.onnx` as calls of torch; NotImplementedError names an operator that is not translated."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self._constants = {one.name: _tensor(one) for one in graph.initializer}
        self._input = graph.input[0].name
        self._outputs = [one.name for one in graph.output]
        self._nodes = []
        for node in graph.node:
            if node.op_type not in _OPERATORS:
                raise NotImplementedError(f"{path}: operator {node.op_type} is not translated to torch")
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            self._nodes.append((_OPERATORS[node.op_type], list(node.input), list(node.output), attributes))

    @torch.inference_mode()
    def __call__(self, radiograph: Tensor) -> dict[str, Tensor]:
        """(n, 2, S, S) float32 to the outputs by name."""
        values: dict[str, Any] = {**self._constants, "": None, self._input: radiograph}
        for operator, inputs, outputs, attributes in self._nodes:
            answer = operator(*(values[name] for name in inputs), **attributes)
            values |= zip(outputs, answer if len(outputs) > 1 else (answer,), strict=True)
        return {name: values[name] for name in self._outputs}


def _tensor(constant: onnx.TensorProto) -> Any:
    """A tensor; a short list where the operators of torch want plain integers (axes, sizes)."""
    array = numpy_helper.to_array(constant)
    if array.dtype.kind == "i" and array.ndim <= 1 and array.size <= 8:
        return array.tolist()
    return torch.from_numpy(array.copy())


def _symmetric(pads: list[int]) -> list[int]:
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise NotImplementedError(f"padding {pads} is not symmetric")
    return pads[:half]


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **how: Any) -> Tensor:
    padding = _symmetric(how["pads"])
    return functional.conv2d(x, weight, bias, how["strides"], padding, how["dilations"], how["group"])


def _average(x: Tensor, **how: Any) -> Tensor:
    padding = _symmetric(how["pads"])
    counted = bool(how.get("count_include_pad"))
    return functional.avg_pool2d(x, how["kernel_shape"], how["strides"], padding, count_include_pad=counted)


def _largest(x: Tensor, **how: Any) -> Tensor:
    return functional.max_pool2d(x, how["kernel_shape"], how["strides"], _symmetric(how["pads"]))


def _resize(x: Tensor, _roi: object, scales: Tensor, _sizes: object = None, **how: Any) -> Tensor:
    if how["mode"] != b"nearest":
        raise NotImplementedError(f"Resize by {how['mode']!r} is not translated to torch")
    return functional.interpolate(x, scale_factor=[float(scale) for scale in scales[2:]], mode="nearest")


def _slice(x: Tensor, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> Tensor:
    cuts = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    return x[tuple(cuts)]


def _unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    for axis in sorted(axes):
        x = x.unsqueeze(axis)
    return x


def _cast(x: Any, *, to: int, **_how: Any) -> Tensor:
    if to != onnx.TensorProto.FLOAT:
        raise NotImplementedError(f"Cast to {to} is not translated to torch")
    return torch.as_tensor(x).float()


def _top(x: Tensor, count: list[int], *, axis: int, largest: int, **how: Any) -> Any:
    return torch.topk(x, count[0], dim=axis, largest=bool(largest), sorted=bool(how["sorted"]))


def _gather_nd(x: Tensor, at: Tensor, **_how: Any) -> Tensor:
    return x[tuple(at.unbind(-1))]


def _reduced(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduce(x: Tensor, axes: list[int], *, keepdims: int, **_how: Any) -> Tensor:
        return operator(x, dim=axes, keepdim=bool(keepdims))

    return reduce


_OPERATORS: Final[Mapping[str, Callable[..., Any]]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "AveragePool": _average,
    "Cast": _cast,
    "Clip": torch.clamp,
    "Concat": lambda *parts, axis: torch.cat(parts, dim=axis),
    "Conv": _conv,
    "Div": torch.div,
    "GatherND": _gather_nd,
    "Greater": torch.gt,
    "Less": torch.lt,
    "Max": torch.maximum,
    "MaxPool": _largest,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "Relu": torch.relu,
    "Reshape": lambda x, shape, **_how: x.reshape(shape),
    "Resize": _resize,
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Sqrt": torch.sqrt,
    "Squeeze": lambda x, axes: x.squeeze(axes),
    "Sub": torch.sub,
    "TopK": _top,
    "Transpose": lambda x, perm: x.permute(perm),
    "Unsqueeze": _unsqueeze,
}
