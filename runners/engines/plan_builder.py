"""ONNX graph to plan: the same code for TensorRT on its GPU and TensorRT-RTX ahead of time without one."""

import time
from dataclasses import dataclass
from typing import Any

import skiagraph.log
from runners.engines.graph import FREE, Graph
from runners.engines.tensorrt_library import Library, PlanError, complaints, logger, progress, told

# Raise when a change here or in half_precision.py makes another plan of the same file: cached plans are then
# built again.
RECIPE = 1
COMPUTE_CAPABILITIES = (75, 80, 86, 89, 120)  # 75 is 7.5: what a plan is built for ahead of time

_log = skiagraph.log.get(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchProfile:
    """The plan runs any batch of 1 to `maximum` radiographs and is fastest at `typical`."""

    typical: int
    maximum: int

    def __post_init__(self) -> None:
        if not 1 <= self.typical <= self.maximum:
            raise ValueError(f"batch sizes need 1 <= typical <= maximum, not {self.typical}, {self.maximum}")

    @classmethod
    def up_to(cls, maximum: int) -> "BatchProfile":
        """By day batches are nearly full, by night there is one radiograph: tune for half."""
        return cls(typical=max(1, maximum // 2), maximum=maximum)


@dataclass(frozen=True, kw_only=True)
class Built:
    """A serialized plan; `kernel_times` is TensorRT's timing cache, empty where the library keeps none."""

    plan: bytes
    kernel_times: bytes = b""


def build_plan(
    graph: Graph,
    *,
    library: Library,
    profile: BatchProfile,
    compute_capability: int,
    kernel_times: bytes = b"",
) -> Built:
    """Build `graph` for one compute capability (89 is 8.9); raises PlanError naming what was refused."""
    trt: Any = library.module
    started = time.monotonic()
    with complaints(library) as errors:
        builder = trt.Builder(logger(library.module))
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger(library.module))
        if not parser.parse(graph.content()):
            why = _refused(parser) or told(errors)
            raise PlanError(f"{graph.path} is refused by {library.name} {library.version}: {why}")
        _check_contract(trt, network, graph)

        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # single precision means single precision
        config.progress_monitor = progress(library, graph.path.name)
        batches = builder.create_optimization_profile()
        batches.set_shape(
            graph.input_name, *((n, *graph.input_shape) for n in (1, profile.typical, profile.maximum))
        )
        config.add_optimization_profile(batches)
        if library.ahead_of_time:
            config.num_compute_capabilities = 1
            config.set_compute_capability(_capability(trt, compute_capability), 0)
        else:
            known = config.create_timing_cache(kernel_times)  # None: damaged, or of another version
            if known is None or not config.set_timing_cache(known, False):  # of another GPU
                config.set_timing_cache(config.create_timing_cache(b""), False)

        plan = builder.build_serialized_network(network, config)
        if plan is None or plan.nbytes == 0:
            raise PlanError(f"{graph.path} is refused by {library.name} {library.version}: {told(errors)}")
        built = Built(
            plan=bytes(plan),
            kernel_times=b"" if library.ahead_of_time else bytes(config.get_timing_cache().serialize()),
        )
    _log.info(
        "Built a plan",
        graph=graph.path.name,
        precision=graph.precision,
        library=library.name,
        compute_capability=compute_capability,
        plan_bytes=len(built.plan),
        seconds=round(time.monotonic() - started, 2),
    )
    return built


def _refused(parser: Any) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return ", ".join(
        f"operator {error.node_operator()} of node {error.node_name() or error.node()} ({error.code().name})"
        for error in errors
    )


def _check_contract(trt: Any, network: Any, graph: Graph) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for kind, seen, wanted in (
        ("inputs", inputs, {graph.input_name: graph.input_shape}),
        ("outputs", outputs, graph.outputs),
    ):
        names = sorted(tensor.name for tensor in seen)
        if names != sorted(wanted):
            raise PlanError(f"{graph.path} has {kind} {names}, not {sorted(wanted)}; export the graph again")
        for tensor in seen:
            problem = tensor_problem(tuple(tensor.shape), tensor.dtype == trt.float32, wanted[tensor.name])
            if problem:
                raise PlanError(f"{graph.path}: {tensor.name} {problem}; export the graph again")


def tensor_problem(shape: tuple[int, ...], is_float32: bool, wanted: tuple[int, ...]) -> str | None:
    """Why an input or output breaks the contract, None when it does not; `shape` begins with the batch."""
    if not is_float32:
        return "is not float32"
    expected = ", ".join(["n", *("any" if length == FREE else str(length) for length in wanted)])
    if len(shape) != 1 + len(wanted) or shape[0] != FREE:
        return f"has shape {shape}, not ({expected}) with an open batch"
    fits = (seen > 0 and length in (FREE, seen) for seen, length in zip(shape[1:], wanted, strict=True))
    return None if all(fits) else f"has shape {shape}, not ({expected})"


def _capability(trt: Any, compute_capability: int) -> Any:
    known = {value.value: value for value in trt.ComputeCapability.__members__.values() if value.value > 1}
    if compute_capability not in known:
        raise PlanError(f"compute capability {compute_capability} is not one of {sorted(known)}")
    return known[compute_capability]
