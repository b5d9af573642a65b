"""Evaluation of a package on validation radiographs, beside its control and floors."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from torch import nn

from models.geometry import GeometrySpec
from models.package import ModelPackage
from models.train.calibrate import build_atlas, perceive
from models.train.data import Inputs, Sample, load_input, load_inputs
from models.train.errors import DataError
from models.train.evaluation_figures import (
    CONTROL,
    MAIN,
    SUBSETS,
    Figure,
    FloatArray,
    Scored,
    chance_of_hit,
    floors,
    hits,
    localisation,
    point_figures,
    subset_figures,
    verdicts,
)
from models.train.export import score as score_with
from models.train.graph import Detector
from models.train.network import DefectNetwork
from models.train.sources import read_source

THREADS = 2
_TIMED = 30  # radiographs
NOVELTY = "novelty (16×32 thumbnail, 5 nearest normals)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """figures: what the manifest keeps. systems: every answer behind them, in the order of `samples`."""

    figures: Figure
    samples: tuple[Sample, ...]
    systems: Mapping[str, Scored]


def evaluate_package(
    package: ModelPackage,
    *,
    data: Path,
    controls: Sequence[Sequence[DefectNetwork]] = (),
    beside: Mapping[str, nn.Module] | None = None,
    known_control: Scored | None = None,
) -> Evaluated:
    """Every figure of a package on the validation split.

    controls: members with random weights, one list per draw; the tables show the draw with the highest AUC.
    beside: further modules of the graph's form to put in the table. known_control: answers of a control that
    was evaluated before, for a package that has none of its own.
    """
    spec = GeometrySpec.from_manifest(package.manifest.geometry)
    samples = read_source(data)
    chosen = validation(samples)
    inputs = load_inputs(chosen, input_px=package.manifest.input_px, spec=spec)
    session = open_graph(package)
    answers = run_graph(session, inputs)
    extra = {name: score_module(module, inputs) for name, module in (beside or {}).items()}
    draws = []
    if controls:
        normals = [s for s in samples if s.split == "train" and s.is_hand and not s.abnormal]
        normal_inputs = load_inputs(normals, input_px=package.manifest.input_px, spec=spec)
        for members in controls:
            detector = Detector(members, build_atlas(perceive(members, normal_inputs))).eval()
            draws.append(score_module(detector, inputs))
        extra[CONTROL] = _strongest(chosen, draws)
    elif known_control is not None:
        extra.setdefault(CONTROL, known_control)
    systems = {
        "score": Scored(values=answers["score"], pointed=hits(inputs, answers["anomaly_map"])),
        NOVELTY: Scored(values=answers["novelty"]),
        **extra,
        **floors(inputs),
    }
    chance = chance_of_hit(inputs)
    parameters = (
        sum(p.numel() for member in controls[0] for p in member.parameters())
        if controls
        else package.manifest.evaluation["training"]["parameters"]
    )
    figures = {
        "split": "validation; thresholds and percentiles come from training normals",
        "subsets": {name: subset_figures(chosen, systems, name) for name in SUBSETS},
        "localisation": {name: localisation(chosen, systems, chance, name) for name in SUBSETS},
        "operating_points": [
            {
                "name": point.name,
                "threshold": point.threshold,
                **verdicts(chosen, systems["score"], point.threshold),
            }
            for point in package.manifest.operating_points
        ],
        "control_draws": [point_figures(chosen, draw) for draw in draws],
        "milliseconds": _timing(session, chosen, package, spec),
        "parameters": parameters,
    }
    return Evaluated(figures=figures, samples=tuple(chosen), systems=systems)


def validation(samples: Sequence[Sample]) -> list[Sample]:
    """The validation radiographs; DataError when none of them is abnormal."""
    chosen = [s for s in samples if s.split == "val"]
    if not any(sample.abnormal for sample in chosen):
        raise DataError(
            f"none of the {len(chosen)} held-out radiographs is abnormal: nothing can be evaluated on "
            "normals alone; give --data a FracAtlas or MURA folder"
        )
    return chosen


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


def score_module(module: nn.Module, inputs: Inputs) -> Scored:
    """Answers of a module of the graph's form that is not exported."""
    parts = [
        score_with(module, inputs.batch(slice(start, start + 16))) for start in range(0, len(inputs), 16)
    ]
    maps = np.concatenate([part["anomaly_map"] for part in parts])
    return Scored(values=np.concatenate([part["score"] for part in parts]), pointed=hits(inputs, maps))


def _strongest(samples: Sequence[Sample], draws: Sequence[Scored]) -> Scored:
    """The draw that is hardest to beat on hand views without casts and hardware."""
    return max(draws, key=lambda draw: point_figures(samples, draw)[MAIN]["auc"])


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
