"""The graphs of a model package as an engine must find them: names and shapes of what goes in and out."""

from dataclasses import dataclass, replace
from pathlib import Path

from models.package import ModelPackage

HALF_PRECISION = "fp16"
FREE = -1  # an axis whose length the graph chooses; the first axis is always the batch and is left out


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One ONNX file and its contract; shapes without the batch, float32 at both ends whatever is inside."""

    path: Path
    sha256: str  # of the file
    precision: str  # "fp32", "fp16": made of the file when it is opened
    input_name: str
    input_shape: tuple[int, int, int]
    outputs: dict[str, tuple[int, ...]]

    def content(self) -> bytes:
        """The ONNX graph in its precision."""
        whole = self.path.read_bytes()
        if self.precision != HALF_PRECISION:
            return whole
        from runners.engines.half_precision import half_precision  # onnx: where there is TensorRT only

        return half_precision(whole)

    def in_half_precision(self) -> "Graph":
        return replace(self, precision=HALF_PRECISION)


def model_graph(package: ModelPackage) -> Graph:
    """`model.onnx`."""
    side = package.manifest.input_px
    return Graph(
        path=package.folder / "model.onnx",
        sha256=package.manifest.files_sha256["model.onnx"],
        precision=package.manifest.precision,
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
    """Every graph of the package, the model's in both precisions."""
    model = model_graph(package)
    return [gate_graph(package), model, model.in_half_precision()]
