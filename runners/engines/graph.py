"""The graphs of a model package as an engine must find them: names and shapes of what goes in and out."""

from dataclasses import dataclass
from pathlib import Path

from models.package import ModelPackage

HALF_PRECISION = "model.fp16.onnx"
FREE = -1  # an axis whose length the graph chooses; the first axis is always the batch and is left out


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One ONNX file and its contract; shapes without the batch, float32 at both ends whatever is inside."""

    path: Path
    sha256: str
    precision: str  # "fp32", "fp16"
    input_name: str
    input_shape: tuple[int, int, int]
    outputs: dict[str, tuple[int, ...]]


def model_graph(package: ModelPackage, *, half_precision: bool = False) -> Graph:
    """`model.onnx`, or the half-precision graph beside it; KeyError when the package has none."""
    side = package.manifest.input_px
    name = HALF_PRECISION if half_precision else "model.onnx"
    return Graph(
        path=package.folder / name,
        sha256=package.manifest.files_sha256[name],
        precision="fp16" if half_precision else package.manifest.precision,
        input_name="radiograph",
        input_shape=(2, side, side),
        outputs={"score": (), "novelty": (), "anomaly_map": (FREE, FREE)},
    )


def gate_graph(package: ModelPackage) -> Graph:
    """`gate.onnx`."""
    gate = package.manifest.gate
    return Graph(
        path=package.folder / "gate.onnx",
        sha256=package.manifest.files_sha256["gate.onnx"],
        precision="fp32",
        input_name="thumbnail",
        input_shape=(1, gate.thumbnail_px, gate.thumbnail_px),
        outputs={"probabilities": (len(gate.classes),)},
    )


def package_graphs(package: ModelPackage) -> list[Graph]:
    """Every graph the package holds."""
    graphs = [gate_graph(package), model_graph(package)]
    if HALF_PRECISION in package.manifest.files_sha256:
        graphs.append(model_graph(package, half_precision=True))
    return graphs
