"""From a training run to a model package."""

import datetime
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from models.geometry import GeometrySpec
from models.train.calibrate import build_atlas, calibrate, hold_out, operating_points, perceive
from models.train.data import load_inputs
from models.train.errors import RunError
from models.train.golden import golden_inputs
from models.train.graph import Detector
from models.train.onnx_file import serialized
from models.train.package_writer import GATE, Content, write_package
from models.train.run import load_members, read_run
from models.train.sources import read_source

_OPSET = 18
_TITLE = "Local defects in hand radiographs"
LICENCE = "Apache-2.0"
_TRAINING_DATA = (
    "Normal radiographs of FracAtlas (Abedeen, Rahman, Prottyasha, Ahmed, Chowdhury, Shatabda, "
    "Scientific Data 10, 521 (2023), doi:10.1038/s41597-023-02432-4, CC BY 4.0): hands, forearms and "
    "elbows of our train split, legs, hips and shoulders, with synthetic defects planted in them. "
    "Nothing was trained on a fracture. The atlas holds 16×32-pixel thumbnails of the normal hands."
)
_HELD_OUT_HOW = (
    "each compared with normals of other groups only; most of them were among the networks' training pictures"
)

TOLERANCE = 5e-3


def export_run(run: Path, *, data: Path, package: Path, gate: Path = GATE) -> Path:
    """Write `package` from the checkpoints of `run`: atlas, calibration, graph, golden arrays, manifest.

    gate: the folder with the gate to go with it.
    """
    config = read_run(run)
    members = load_members(run, config)
    spec = GeometrySpec()
    samples = read_source(data)
    normals = [s for s in samples if s.split == "train" and s.is_hand and not s.abnormal]
    inputs = load_inputs(normals, input_px=config.input_px, spec=spec)
    seen = perceive(members, inputs)
    atlas = build_atlas(seen)
    held_out = hold_out(seen, atlas, [sample.group for sample in normals])
    detector = Detector(members, atlas).eval()

    fractured = [
        s for s in samples if s.split == "val" and s.is_hand and s.abnormal and not s.cast and not s.hardware
    ]
    scores = score(detector, load_inputs(fractured, input_px=config.input_px, spec=spec).batch(slice(None)))
    graph = to_onnx(detector, input_px=config.input_px)
    golden = golden_inputs(config.input_px)
    content = Content(
        name=config.name,
        version=project_version(),
        title=_TITLE,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        input_px=config.input_px,
        geometry=spec,
        graph=graph,
        calibration=calibrate(held_out, held_out_how=_HELD_OUT_HOW),
        operating_points=operating_points(held_out, scores["score"], [s.group for s in fractured]),
        golden={"radiograph": golden, **score(detector, golden)},
        golden_tolerance=TOLERANCE,
        training_data=_TRAINING_DATA,
        licence=LICENCE,
        training={"members": len(members), "steps": config.steps, "seed": config.seed},
    )
    return write_package(content, package, gate=gate)


@torch.no_grad()
def score(detector: nn.Module, radiographs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The outputs of the reference implementation by their graph names."""
    parts = [
        detector(torch.from_numpy(radiographs[start : start + 8])) for start in range(0, len(radiographs), 8)
    ]
    columns = zip(*parts, strict=True)
    names = ("score", "novelty", "anomaly_map")
    return {name: torch.cat(column).numpy() for name, column in zip(names, columns, strict=True)}


def to_onnx(detector: nn.Module, *, input_px: int) -> bytes:
    """The graph with a dynamic batch axis, checked against the reference on the golden inputs."""
    example = torch.from_numpy(golden_inputs(input_px, 2))
    program: Any = torch.onnx.export(
        detector,
        (example,),
        dynamo=True,
        opset_version=_OPSET,
        input_names=["radiograph"],
        output_names=["score", "novelty", "anomaly_map"],
        dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},),
        verbose=False,
    )
    graph = serialized(program)
    _compare(graph, detector, input_px)
    return graph


def _compare(graph: bytes, detector: nn.Module, input_px: int) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    radiographs = golden_inputs(input_px, 3)
    expected = score(detector, radiographs)
    for name, found in zip(expected, session.run(list(expected), {"radiograph": radiographs}), strict=True):
        deviation = float(np.abs(found - expected[name]).max())
        if not deviation <= TOLERANCE / 5:
            raise RunError(
                f"the exported graph deviates by {deviation:.2g} in {name}, allowed is {TOLERANCE / 5}: "
                "this run cannot be served; train it for fewer steps or from another seed"
            )


def project_version() -> str:
    """The package's version follows the project's."""
    return importlib.metadata.version("skiagraph")
