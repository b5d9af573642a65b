"""Evaluation of a package on validation radiographs, beside its control and floors."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.geometry import GeometrySpec
from models.package import ModelPackage
from models.train.calibrate import build_atlas, perceive
from models.train.data import Inputs, Sample, load_input, load_inputs, read_fracatlas
from models.train.export import score as score_with
from models.train.graph import Detector
from models.train.metrics import Estimate, average_precision, bootstrap, roc_auc
from models.train.network import DefectNetwork

FloatArray = NDArray[np.float32]
THREADS = 2
_TIMED = 30  # radiographs


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One system's answers: values (n,), and maps (n, h, w) when it says where."""

    values: FloatArray
    maps: FloatArray | None = None


SUBSETS: Mapping[str, Callable[[Sample], bool]] = {
    "hand views": lambda s: s.is_hand,
    "hand views, no cast or hardware": lambda s: s.is_hand and not s.cast and not s.hardware,
    "PA only, no cast or hardware": lambda s: s.view == "hand_pa" and not s.cast and not s.hardware,
    "all arm radiographs": lambda s: True,
}


def evaluate_package(
    package: ModelPackage, *, data: Path, controls: Sequence[Sequence[DefectNetwork]]
) -> dict[str, Any]:
    """Every figure of a package on the validation split.

    controls: members with random weights, one list per draw; the tables show the draw with the highest AUC.
    """
    spec = GeometrySpec.from_manifest(package.manifest.geometry)
    samples = read_fracatlas(data)
    chosen = [s for s in samples if s.split == "val"]
    normals = [s for s in samples if s.split == "train" and s.is_hand and not s.abnormal]
    inputs = load_inputs(chosen, input_px=package.manifest.input_px, spec=spec)
    session = open_graph(package)
    answers = run_graph(session, inputs)
    normal_inputs = load_inputs(normals, input_px=package.manifest.input_px, spec=spec)
    draws = [_control(members, normal_inputs, inputs) for members in controls]
    systems = {
        "score": Scored(values=answers["score"], maps=answers["anomaly_map"]),
        "novelty (16×32 thumbnail, 5 nearest normals)": Scored(values=answers["novelty"]),
        **({"control: random weights": _strongest(inputs, draws)} if draws else {}),
        "floor: mean grey": Scored(values=_mean_grey(inputs)),
        "floor: picture size": Scored(
            values=np.array([g.source_width_px * g.source_height_px for g in inputs.geometries], np.float32)
        ),
        "floor: file size": Scored(
            values=np.array([sample.path.stat().st_size for sample in chosen], np.float32)
        ),
    }
    return {
        "split": "validation; thresholds and percentiles come from training normals",
        "subsets": {name: _subset(inputs, systems, keep) for name, keep in SUBSETS.items()},
        "localisation": {name: _localisation(inputs, systems, keep) for name, keep in SUBSETS.items()},
        "operating_points": [
            {
                "name": point.name,
                "threshold": point.threshold,
                **_verdicts(inputs, systems["score"], point.threshold),
            }
            for point in package.manifest.operating_points
        ],
        "control_draws": [_draw(inputs, draw) for draw in draws],
        "milliseconds": _timing(session, chosen, package, spec),
        "parameters": sum(p.numel() for member in controls[0] for p in member.parameters())
        if controls
        else package.manifest.evaluation["training"]["parameters"],
    }


def open_graph(package: ModelPackage) -> onnxruntime.InferenceSession:
    """The package's graph in the reference engine, on two threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(
        package.folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )


def run_graph(session: onnxruntime.InferenceSession, inputs: Inputs) -> dict[str, FloatArray]:
    """The graph's outputs for all inputs, in chunks of eight."""
    names = [output.name for output in session.get_outputs()]
    parts = [
        session.run(names, {"radiograph": inputs.batch(slice(start, start + 8))})
        for start in range(0, len(inputs), 8)
    ]
    return {name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(names)}


def hits(inputs: Inputs, maps: FloatArray) -> NDArray[np.bool_]:
    """(n,) whether the map's maximum falls into a fracture box."""
    found = np.zeros(len(inputs), bool)
    for index, (sample, geometry) in enumerate(zip(inputs.samples, inputs.geometries, strict=True)):
        row, column = np.unravel_index(int(maps[index].argmax()), maps[index].shape)
        cell = geometry.input_px / maps[index].shape[0]
        x, y = geometry.to_source(np.array([(column + 0.5) * cell, (row + 0.5) * cell]))
        found[index] = any(
            left <= x <= right and top <= y <= bottom for left, top, right, bottom in sample.boxes
        )
    return found


def chance_of_hit(inputs: Inputs) -> NDArray[np.float64]:
    """(n,) share of the foreground that lies in fracture boxes: what a blind pointer reaches."""
    chance = np.zeros(len(inputs))
    for index, (sample, geometry) in enumerate(zip(inputs.samples, inputs.geometries, strict=True)):
        mask = inputs.tensors[index, 1] > 127
        boxed = np.zeros_like(mask)
        for box in sample.boxes:
            corners = geometry.to_model(np.array(box).reshape(2, 2))
            (left, top), (right, bottom) = np.clip(np.rint(corners), 0, geometry.input_px).astype(int)
            boxed[top:bottom, left:right] = True
        chance[index] = (mask & boxed).sum() / max(1, mask.sum())
    return chance


def _control(members: Sequence[DefectNetwork], normals: Inputs, inputs: Inputs) -> Scored:
    """The same pipeline, atlas included, around networks that were never trained."""
    detector = Detector(members, build_atlas(perceive(members, normals))).eval()
    parts = [
        score_with(detector, inputs.batch(slice(start, start + 16))) for start in range(0, len(inputs), 16)
    ]
    return Scored(
        values=np.concatenate([part["score"] for part in parts]),
        maps=np.concatenate([part["anomaly_map"] for part in parts]),
    )


def _strongest(inputs: Inputs, draws: Sequence[Scored]) -> Scored:
    """The draw that is hardest to beat on hand views without casts and hardware."""
    keep = SUBSETS["hand views, no cast or hardware"]
    rows = np.array([index for index, sample in enumerate(inputs.samples) if keep(sample)])
    abnormal = np.array([inputs.samples[index].abnormal for index in rows])
    return max(draws, key=lambda draw: roc_auc(abnormal, draw.values[rows]))


def _draw(inputs: Inputs, control: Scored) -> dict[str, dict[str, float]]:
    """AUC and pointing of one control in each subset, to show how much random weights vary."""
    found = {}
    for name, keep in SUBSETS.items():
        rows = np.array([index for index, sample in enumerate(inputs.samples) if keep(sample)])
        abnormal = np.array([inputs.samples[index].abnormal for index in rows])
        boxed = np.array([bool(inputs.samples[index].boxes) for index in rows])
        pointed = hits(inputs, control.maps)[rows] if control.maps is not None else np.zeros(len(rows), bool)
        found[name] = {
            "auc": roc_auc(abnormal, control.values[rows]),
            "pointing": float(pointed[boxed].mean()),
        }
    return found


def _mean_grey(inputs: Inputs) -> FloatArray:
    shown = inputs.tensors[:, 1] > 127
    grey: FloatArray = (inputs.tensors[:, 0] * shown).sum(axis=(1, 2)) / np.maximum(1, shown.sum(axis=(1, 2)))
    return grey.astype(np.float32)


def _subset(inputs: Inputs, systems: Mapping[str, Scored], keep: Callable[[Sample], bool]) -> dict[str, Any]:
    """AUC and average precision of each system, and the paired difference of `score` to each other one."""
    rows = np.array([index for index, sample in enumerate(inputs.samples) if keep(sample)])
    abnormal = np.array([inputs.samples[index].abnormal for index in rows])
    groups = [inputs.samples[index].group for index in rows]
    ours = systems["score"].values[rows]
    table = {}
    for name, system in systems.items():
        values = system.values[rows]
        table[name] = {
            "auc": asdict(bootstrap(lambda r, v=values: roc_auc(abnormal[r], v[r]), groups)),  # type: ignore[misc]
            "average_precision": asdict(
                bootstrap(lambda r, v=values: average_precision(abnormal[r], v[r]), groups)  # type: ignore[misc]
            ),
        }
        if name != "score":
            table[name]["score_minus_this"] = asdict(
                bootstrap(
                    lambda r, v=values: roc_auc(abnormal[r], ours[r]) - roc_auc(abnormal[r], v[r]),  # type: ignore[misc]
                    groups,
                )
            )
    return {"normal": int((~abnormal).sum()), "abnormal": int(abnormal.sum()), "systems": table}


def _localisation(
    inputs: Inputs, systems: Mapping[str, Scored], keep: Callable[[Sample], bool]
) -> dict[str, Any]:
    """Pointing game on the boxed fractures of a subset."""
    rows = np.array([index for index, s in enumerate(inputs.samples) if s.boxes and keep(s)])
    groups = [inputs.samples[index].group for index in rows]
    result: dict[str, Any] = {"radiographs": len(rows), "chance": float(chance_of_hit(inputs)[rows].mean())}
    for name, system in systems.items():
        if system.maps is not None:
            found = hits(inputs, system.maps)[rows]
            result[name] = asdict(bootstrap(lambda r, f=found: float(f[r].mean()), groups))  # type: ignore[misc]
    return result


def _verdicts(inputs: Inputs, system: Scored, threshold: float) -> dict[str, Any]:
    """What an operating point does to validation hand views without casts and hardware."""
    keep = SUBSETS["hand views, no cast or hardware"]
    return {
        "specificity": asdict(_share_above(inputs, system, threshold, keep, abnormal=False)),
        "sensitivity": asdict(_share_above(inputs, system, threshold, keep, abnormal=True)),
    }


def _share_above(
    inputs: Inputs, system: Scored, threshold: float, keep: Callable[[Sample], bool], *, abnormal: bool
) -> Estimate:
    rows = np.array(
        [index for index, s in enumerate(inputs.samples) if keep(s) and s.abnormal == abnormal], int
    )
    right = (system.values[rows] > threshold) == abnormal
    return bootstrap(lambda r: float(right[r].mean()), [inputs.samples[index].group for index in rows])


def _timing(
    session: onnxruntime.InferenceSession,
    samples: Sequence[Sample],
    package: ModelPackage,
    spec: GeometrySpec,
) -> dict[str, float]:
    """Median milliseconds per radiograph; reading the file counts as geometry here."""
    geometry, graph = [], []
    for sample in [s for s in samples if s.is_hand][:_TIMED]:
        start = time.perf_counter()
        shown = load_input(sample.path, input_px=package.manifest.input_px, spec=spec)
        middle = time.perf_counter()
        session.run(None, {"radiograph": shown.tensor[None]})
        graph.append(time.perf_counter() - middle)
        geometry.append(middle - start)
    return {
        "reading_and_geometry": 1000 * float(np.median(geometry)),
        "graph": 1000 * float(np.median(graph)),
        "cpu_threads": THREADS,
    }
