"""From a training run of one of the paper's systems to a model package."""

import datetime
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.train.atlas import NEAR, neighbours
from models.train.calibrate import HeldOut, calibrate, operating_points
from models.train.data import Inputs, load_inputs
from models.train.export import LICENCE, TOLERANCE, project_version, score, to_onnx
from models.train.golden import golden_inputs
from models.train.metrics import roc_auc
from models.train.package_writer import GATE, Content, write_package
from models.train.paper.graph import PaperGraph, Scale, shown_picture, small_picture
from models.train.paper.layers import bare_weights
from models.train.paper.systems import SYSTEMS
from models.train.paper.training import load_system, normal_hands, read_run
from models.train.sources import is_fracatlas, read_source

FloatArray = NDArray[np.float32]
_CHUNK = 16
_SETTLED_ON = 64  # training normals that a system may keep something of
_HELD_OUT_HOW = (
    "a quarter of the groups, which nothing was trained on; novelty: all normal hands, each compared with "
    "normals of other groups"
)
_FRACATLAS = (
    "FracAtlas (Abedeen, Rahman, Prottyasha, Ahmed, Chowdhury, Shatabda, Scientific Data 10, 521 (2023), "
    "doi:10.1038/s41597-023-02432-4, CC BY 4.0), train split"
)
_TRAINING_DATA = (
    "Three quarters of the normal hand radiographs of {source}. Nothing was trained on a fracture. The graph "
    "holds 16×32-pixel thumbnails of the normal hands."
)


def export_paper(run: Path, *, data: Path, package: Path, gate: Path = GATE) -> Path:
    """Write `package` from the checkpoint in `run`: scale and percentiles from held-out normals, graph,
    golden arrays, manifest.

    gate: the folder with the gate to go with it.
    """
    config = read_run(run)
    system, steps = load_system(run, config)
    parameters = sum(parameter.numel() for parameter in system.parameters())
    bare_weights(system)
    hands = normal_hands(data, config)
    settled_on = torch.from_numpy(hands.learnt.batch(slice(0, len(hands.learnt), _every(hands.learnt))))
    with torch.no_grad():
        system.settle(*shown_picture(settled_on, equalize=config.equalize))
    thumbnails, groups = _thumbnails(hands.learnt, hands.held_out)
    distances, _ = neighbours(thumbnails, groups, NEAR)
    radiographs = hands.held_out.batch(slice(None))
    bare = PaperGraph(system, thumbnails=thumbnails, scale=Scale()).eval()
    graph = PaperGraph(system, thumbnails=thumbnails, scale=_scale(score(bare, radiographs))).eval()

    found = score(graph, radiographs)
    held_out = HeldOut(
        score=found["score"],
        novelty=distances.sqrt().mean(dim=1).numpy(),
        anomaly_map=found["anomaly_map"],
        shown=hands.held_out.tensors[:, 1] > 127,
    )
    validation = [
        s for s in read_source(data) if s.split == "val" and s.is_hand and not s.cast and not s.hardware
    ]
    scores = _published_scores(graph, load_inputs(validation, input_px=config.input_px, spec=config.geometry))
    fractured = np.array([sample.abnormal for sample in validation])
    golden = golden_inputs(config.input_px)
    published = SYSTEMS[config.name].published
    content = Content(
        name=config.name,
        version=project_version(),
        title=SYSTEMS[config.name].title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        input_px=config.input_px,
        geometry=config.geometry,
        graph=to_onnx(graph, input_px=config.input_px),
        calibration=calibrate(held_out, held_out_how=_HELD_OUT_HOW),
        operating_points=operating_points(
            held_out,
            next(iter(scores.values()))[fractured],
            [s.group for s in validation if s.abnormal],
        ),
        golden={"radiograph": golden, **score(graph, golden)},
        golden_tolerance=TOLERANCE,
        training_data=_TRAINING_DATA.format(source=_FRACATLAS if is_fracatlas(data) else data.name),
        licence=LICENCE,
        training={
            **{key: value for key, value in asdict(config).items() if key not in ("geometry", "name")},
            "steps": steps,
            "parameters": parameters,
            "published": {
                key: getattr(published, key) for key in ("input_px", "width", "batch", "steps", "rate")
            },
            "auc_of_published_scores": {
                "radiographs": "validation hand views without casts and hardware",
                **{name: roc_auc(fractured, values) for name, values in scores.items() if fractured.any()},
            },
        },
    )
    return write_package(content, package, gate=gate)


def _scale(found: dict[str, FloatArray]) -> Scale:
    return Scale(
        centre=float(np.median(found["score"])),
        spread=max(float(found["score"].std()), 1e-12),
        peak=max(float(np.median(found["anomaly_map"].max(axis=(1, 2)))), 1e-12),
    )


@torch.no_grad()
def _published_scores(graph: PaperGraph, inputs: Inputs) -> dict[str, FloatArray]:
    """Every score that was published for this system; the first one is served, scaled as it is served."""
    parts = [graph.examine(radiographs)[0].scores for radiographs in _chunks(inputs)]
    scores = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    served = next(iter(scores))
    return {**scores, served: (scores[served] - graph.scale.centre) / graph.scale.spread}


@torch.no_grad()
def _thumbnails(*parts: Inputs) -> tuple[Tensor, list[str]]:
    drawn = [small_picture(radiographs) for part in parts for radiographs in _chunks(part)]
    return torch.cat(drawn), [sample.group for part in parts for sample in part.samples]


def _chunks(inputs: Inputs) -> Iterator[Tensor]:
    for start in range(0, len(inputs), _CHUNK):
        yield torch.from_numpy(inputs.batch(slice(start, start + _CHUNK)))


def _every(inputs: Inputs) -> int:
    return max(1, len(inputs) // _SETTLED_ON)
