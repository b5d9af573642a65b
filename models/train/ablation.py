"""The paper's preprocessing columns, each with a short training: `python -m models.train.ablation`.

Every column trains the same network from the same seed for the same steps. What is done is kept; a second
call goes on with what is missing.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.train.calibrate import build_atlas, perceive
from models.train.columns import COLUMNS, Column, equalized_inputs
from models.train.data import Inputs, Sample, load_inputs
from models.train.evaluate import score_module, validation
from models.train.evaluation_answers import as_answers, scored
from models.train.evaluation_figures import MAIN, SUBSETS, Part, Scored, boxed, share
from models.train.evaluation_report import estimate, table
from models.train.graph import Detector
from models.train.network import NetworkConfig
from models.train.paper.graph import PaperGraph, Scale, small_picture
from models.train.paper.systems import SYSTEMS
from models.train.paper.training import train_system
from models.train.sources import read_source
from models.train.trainer import TrainingConfig, TrainingData, train_member

FILE = "ablation.json"
STEPS = {"cae": 600, "synthetic-defects": 600}
_SEED = 1
Train = Callable[[Column, Inputs, Path, int], torch.nn.Module]


def run_ablation(data: Path, docs: Path, steps: Mapping[str, int] = STEPS) -> None:
    """Fill docs/ablation.json with every column of the models in `steps` that is not in it."""
    path = docs / FILE
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    samples = read_source(data)
    normals = [s for s in samples if s.split == "train" and s.is_hand and not s.abnormal]
    chosen = validation(samples)
    for name in steps:
        train, input_px = _MODELS[name]
        for label, column in COLUMNS.items():
            entry = kept.setdefault(name, {"steps": steps[name], "seed": _SEED, "answers": {}})
            if label in entry["answers"] or entry["steps"] != steps[name]:
                continue
            inputs = load_inputs(normals, input_px=input_px, spec=column.geometry)
            held_out = load_inputs(chosen, input_px=input_px, spec=column.geometry)
            if column.equalize and name != "cae":  # the paper's graphs equalize by themselves
                inputs, held_out = equalized_inputs(inputs), equalized_inputs(held_out)
            with tempfile.TemporaryDirectory() as folder:
                module = train(column, inputs, Path(folder), steps[name])
            entry["answers"][label] = as_answers(chosen, score_module(module, held_out))
            path.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")
            print(name, label, flush=True)


def ablation_section(samples: Sequence[Sample], docs: Path) -> str:
    """What preprocessing does to each model, with intervals; empty before the ablation has run."""
    path = docs / FILE
    if not path.is_file():
        return ""
    kept = json.loads(path.read_text(encoding="utf-8"))
    parts = [
        "## What preprocessing does\n\nShort trainings (`python -m models.train.ablation`): the same "
        f"network, seed and steps in each of the paper's columns; {MAIN}. They compare columns, not models: "
        "the tables above are of longer trainings. The paper found every model at chance without "
        "preprocessing, and better with all of it.\n"
    ]
    part, fractures = Part.of(samples, SUBSETS[MAIN]), boxed(samples, SUBSETS[MAIN])
    for name, entry in kept.items():
        columns = {label: scored(samples, entry["answers"], label) for label in entry["answers"]}
        known: dict[str, Scored] = {label: one for label, one in columns.items() if one is not None}
        if "raw" not in known:
            continue
        rows = []
        for label, one in known.items():
            difference = None if label == "raw" else asdict(part.auc_difference(one, known["raw"]))
            pointing = None if one.pointed is None else asdict(share(one.pointed, fractures))
            rows.append([label, estimate(asdict(part.auc(one))), estimate(difference), estimate(pointing)])
        header = ["column", "ROC-AUC", "AUC minus raw (paired)", "pointing"]
        parts.append(f"`{name}`, {entry['steps']} steps, seed {entry['seed']}:\n\n" + table(header, rows))
        parts.append(_finding(name, part, known))
    return "\n".join(parts)


def _finding(name: str, part: Part, known: Mapping[str, Scored]) -> str:
    """Whether the paper's finding is reproduced, contradicted, or neither."""
    said = []
    for label in ("full", "full+HE"):
        if label in known:
            found = part.auc_difference(known[label], known["raw"])
            verdict = (
                "reproduces the paper's finding"
                if found.low > 0
                else "contradicts the paper's finding"
                if found.high < 0
                else "neither reproduces nor contradicts it: the interval holds zero"
            )
            said.append(f"{label} minus raw {estimate(asdict(found))} {verdict}")
    return f"For `{name}`: {'; '.join(said)}.\n" if said else ""


def _train_cae(column: Column, inputs: Inputs, folder: Path, steps: int) -> torch.nn.Module:
    entry = SYSTEMS["cae"]
    config = replace(entry.here, seed=_SEED, steps=steps, geometry=column.geometry, equalize=column.equalize)
    system = train_system(config, inputs, folder, report=lambda *_: None).to("cpu")
    thumbnails = small_picture(torch.from_numpy(inputs.batch(slice(0, 16))))
    return PaperGraph(system, thumbnails=thumbnails, scale=Scale()).eval()


def _train_synthetic(column: Column, inputs: Inputs, folder: Path, steps: int) -> torch.nn.Module:
    config = TrainingConfig(network=NetworkConfig(), seed=_SEED, steps=steps)
    weights: NDArray[np.float64] = np.full(len(inputs), 1 / len(inputs))
    data = TrainingData(tensors=inputs.tensors, weights=weights, unseen=inputs.tensors[:0])
    member = train_member(config, data, folder, report=lambda *_: None)
    return Detector([member], build_atlas(perceive([member], inputs))).eval()


_MODELS: Mapping[str, tuple[Train, int]] = {
    "cae": (_train_cae, SYSTEMS["cae"].here.input_px),
    "synthetic-defects": (_train_synthetic, 384),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/fracatlas"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()
    run_ablation(given.data, given.docs)
