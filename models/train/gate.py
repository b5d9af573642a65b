"""Trains the input gate and writes its folder: gate.onnx, gate.json, gate_golden.npz."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.gate import picture_thumbnail
from models.package import Gate, GateClass
from models.rejection import RejectionCode
from models.train.gate_augment import training_picture
from models.train.gate_data import GateSample, Kind, read_samples
from models.train.gate_evaluate import evaluate_gate
from models.train.gate_network import THUMBNAIL_PX, GateGraph, GateNetwork
from models.train.onnx_file import serialized

__all__ = ["evaluate_gate", "train_gate"]

FloatArray = NDArray[np.float32]
log = logging.getLogger(__name__)

EPOCHS, _PICTURES, _PASSES, _BATCH = 40, 1024, 2, 64
_RATE, _DECAY, _AVERAGE = 2.5e-3, 0.02, 0.995
# A lateral hand refused as a forearm is worse than a forearm let in: the report says what was analysed.
# Chosen on the validation split, with the threshold.
_PRIOR = {Kind.FOREARM: -3.0, Kind.OTHER_BONE: 0.5, Kind.NOT_A_RADIOGRAPH: 1.0}
_THRESHOLD = 0.3
_CHECKPOINT = "checkpoint.pt"
_OPSET = 18
_TOLERANCE = 1e-4

CLASSES = (
    GateClass(name="hand", accept=True, says="a hand"),
    GateClass(
        name="forearm_elbow",
        accept=False,
        reject_code=RejectionCode.FOREARM,
        says="a forearm or elbow: outside what the model knows",
    ),
    GateClass(
        name="multiple_views",
        accept=False,
        reject_code=RejectionCode.MULTIPLE_VIEWS,
        says="several views on one film: send each as its own instance",
    ),
    GateClass(
        name="other_bone",
        accept=False,
        reject_code=RejectionCode.NOT_A_HAND,
        says="not a hand: looks like a leg, ankle, foot, hip, shoulder or trunk",
    ),
    GateClass(
        name="not_a_radiograph",
        accept=False,
        reject_code=RejectionCode.NOT_A_RADIOGRAPH,
        says="not a radiograph of a hand: looks like a photograph, a document, noise or an empty film",
    ),
)


def train_gate(
    *,
    data: Path,
    out: Path,
    seed: int = 0,
    epochs: int | None = None,
    threshold: float = _THRESHOLD,
    statement: str = "",
) -> Path:
    """Train on FracAtlas' train split and drawn negatives, from where a checkpoint in `out` stopped; export.

    The same seed gives the same weights, stopped and continued or not. `out` is the gate's folder afterwards.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = fit(read_samples(data, "train"), out / _CHECKPOINT, seed=seed, epochs=epochs or EPOCHS)
    return export_gate([network], out, threshold=threshold, statement=statement)


def fit(samples: list[GateSample], checkpoint: Path, *, seed: int, epochs: int) -> GateNetwork:
    """The averaged network after `epochs`; writes `checkpoint` after each one and continues from it."""
    torch.manual_seed(seed)
    network, average = GateNetwork(len(Kind)), GateNetwork(len(Kind))
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = epochs * _PASSES * (_PICTURES // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=0.15)
    stateful: dict[str, Any] = {
        "network": network,
        "average": average,
        "optimizer": optimizer,
        "schedule": schedule,
    }
    first = _resume(checkpoint, stateful, seed=seed, epochs=epochs)
    by_kind = {kind: [sample for sample in samples if sample.kind is kind] for kind in Kind}
    for epoch in range(first, epochs):
        began = time.monotonic()
        # Each epoch draws from its own seed, so that a continued run sees what an unbroken one would have.
        rng = np.random.default_rng((seed, epoch))
        torch.manual_seed(seed * 1_000_003 + epoch)
        losses = []
        network.train()
        for thumbnails, kinds in _batches(rng, by_kind):
            loss = nn.functional.cross_entropy(network(thumbnails), kinds, label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            _follow(average, network, schedule.last_epoch)
            losses.append(float(loss.detach()))
        state = {name: part.state_dict() for name, part in stateful.items()}
        torch.save({**state, "epoch": epoch + 1, "seed": seed, "epochs": epochs}, checkpoint)
        log.info(
            "epoch %d of %d: loss %.4f, %.0f s", epoch + 1, epochs, np.mean(losses), time.monotonic() - began
        )
    return average.eval()


def export_gate(networks: list[GateNetwork], out: Path, *, threshold: float, statement: str) -> Path:
    """Write gate.onnx, gate.json and gate_golden.npz; ValueError when the graph deviates from the network."""
    out.mkdir(parents=True, exist_ok=True)
    graph = GateGraph(networks, torch.tensor([_PRIOR.get(kind, 0.0) for kind in Kind])).eval()
    golden = golden_thumbnails()
    with torch.no_grad():
        expected = graph(torch.from_numpy(golden)).numpy()
    program: Any = torch.onnx.export(
        graph,
        (torch.from_numpy(golden[:2]),),
        dynamo=True,
        opset_version=_OPSET,
        input_names=["thumbnail"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},),
        verbose=False,
    )
    content = serialized(program)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    deviation = float(np.abs(session.run(None, {"thumbnail": golden})[0] - expected).max())
    if not deviation <= _TOLERANCE:
        raise ValueError(f"the exported gate deviates by {deviation:.2g}, allowed is {_TOLERANCE}")
    (out / "gate.onnx").write_bytes(content)
    np.savez_compressed(out / "gate_golden.npz", thumbnail=golden, probabilities=expected)
    gate = Gate(thumbnail_px=THUMBNAIL_PX, classes=CLASSES, threshold=threshold, statement=statement)
    (out / "gate.json").write_text(gate.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return out


def golden_thumbnails() -> FloatArray:
    """Four arithmetic pictures, (4, 1, G, G): rings, stripes, a ramp and a flat one, of no patient."""
    ys, xs = np.mgrid[0:THUMBNAIL_PX, 0:THUMBNAIL_PX] / np.float32(THUMBNAIL_PX)
    rings = 0.5 + 0.5 * np.cos(40 * np.hypot(xs - 0.5, ys - 0.4))
    stripes = np.clip(np.sin(30 * xs) * (ys > 0.3), 0, 1)
    pictures = [rings, stripes, (xs + ys) / 2, np.full_like(xs, 0.5)]
    return np.stack(pictures)[:, np.newaxis].astype(np.float32)


def load_networks(checkpoints: list[Path]) -> list[GateNetwork]:
    """The averaged networks of finished or interrupted runs."""
    networks = []
    for path in checkpoints:
        network = GateNetwork(len(Kind))
        network.load_state_dict(torch.load(path, weights_only=True)["average"])
        networks.append(network.eval())
    return networks


def _resume(checkpoint: Path, stateful: dict[str, Any], *, seed: int, epochs: int) -> int:
    """Load `checkpoint` when it belongs to this run; the epoch to go on with."""
    if not checkpoint.is_file():
        return 0
    found = torch.load(checkpoint, weights_only=True)
    if (found["seed"], found["epochs"]) != (seed, epochs):
        log.warning("%s is of seed %s, %s epochs: starting over", checkpoint, found["seed"], found["epochs"])
        return 0
    for name, part in stateful.items():
        part.load_state_dict(found[name])
    return int(found["epoch"])


def _batches(
    rng: np.random.Generator, by_kind: dict[Kind, list[GateSample]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """New pictures, each shown several times: turned and inverted anew, which costs next to nothing."""
    pairs = [training_picture(rng, by_kind) for _ in range(_PICTURES)]
    thumbnails = torch.from_numpy(
        np.stack([picture_thumbnail(picture, THUMBNAIL_PX) for picture, _ in pairs])
    )
    kinds = torch.tensor([int(kind) for _, kind in pairs])
    for _ in range(_PASSES):
        for numbers in rng.permutation(_PICTURES).reshape(-1, _BATCH):
            chosen = torch.from_numpy(numbers)
            seen = torch.rot90(thumbnails[chosen], int(rng.integers(0, 4)), (2, 3))
            inverted = torch.from_numpy(rng.random((len(chosen), 1, 1, 1)) < 0.5)
            yield torch.where(inverted, 1 - seen, seen), kinds[chosen]


@torch.no_grad()
def _follow(average: GateNetwork, network: GateNetwork, step: int) -> None:
    """An exponential average of the weights, short at first: steadier than the last step."""
    weight = max(1 - _AVERAGE, 9 / (10 + step))
    for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, weight)
        else:
            slow.copy_(fast)


cv2.setNumThreads(1)
