"""The input gate of a model package, opened and in parity."""

from models import gate
from models.package import ModelPackage
from models.radiograph import Radiograph
from models.rejection import Rejection
from runners.engines.graph import gate_graph
from runners.engines.onnxruntime_cpu import OnnxRuntimeCpu
from runners.engines.parity import measure
from runners.errors import RunnerFault


class Gatekeeper:
    """`gate.onnx`, small enough for one core of the CPU beside the decoder."""

    def __init__(self, package: ModelPackage) -> None:
        self._gate = package.manifest.gate
        graph = gate_graph(package)
        self._engine = OnnxRuntimeCpu(graph.path, threads=1)
        parity = measure(
            self._engine, package.folder, package.manifest.gate_golden, input_name=graph.input_name
        )
        if not parity.holds:
            raise RunnerFault(
                f"the gate of {package.folder} fails its parity check: {parity}; restore the package"
            )

    def refuses(self, radiograph: Radiograph) -> Rejection | None:
        """Why the model must not judge this radiograph; None when it may."""
        thumbnail = gate.thumbnail(radiograph, self._gate.thumbnail_px)
        (probabilities,) = self._engine.infer(thumbnail[None])["probabilities"]
        return gate.decide(probabilities, self._gate)
