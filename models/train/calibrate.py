"""Atlas, percentiles and operating points from the normal training radiographs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from models.package import Calibration, OperatingPoint
from models.train.atlas import (
    ATLAS_HEIGHT,
    ATLAS_WIDTH,
    NEAR,
    Atlas,
    box_weights,
    neighbours,
    voices,
    z_map,
)
from models.train.data import Inputs
from models.train.graph import Evidence, Perception, map_of, score_of
from models.train.metrics import bootstrap
from models.train.network import DefectNetwork

_CHUNK = 16
SPECIFICITIES = (0.90, 0.95)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """score, novelty (n,) and map (n, h, w) of each normal, compared with normals of other groups only."""

    score: NDArray[np.float32]
    novelty: NDArray[np.float32]
    anomaly_map: NDArray[np.float32]
    shown: NDArray[np.bool_]


@torch.no_grad()
def perceive(members: Sequence[DefectNetwork], inputs: Inputs) -> Evidence:
    """What the members see of many radiographs, in chunks."""
    perception = Perception(members).eval()
    parts = [
        perception(torch.from_numpy(inputs.batch(slice(start, start + _CHUNK))))
        for start in range(0, len(inputs), _CHUNK)
    ]
    return Evidence(*(torch.cat(column) for column in zip(*parts, strict=True)))


@torch.no_grad()
def build_atlas(seen: Evidence) -> Atlas:
    """The logits of normals in the coordinates of their masks' boxes."""
    boxes = box_weights(seen.shown, rows=ATLAS_HEIGHT, columns=ATLAS_WIDTH)
    shown = boxes.into_box(seen.shown).flatten(1).clamp(0, 1)
    logits = boxes.into_box(seen.logit * seen.shown).flatten(1) / shown.clamp(min=1e-3)
    tissue = seen.logit[seen.shown > 0]
    return Atlas(
        thumbnails=seen.thumb,
        logits=logits,
        shown=shown,
        mean=float(tissue.mean()),
        variance=float(tissue.var()),
    )


@torch.no_grad()
def hold_out(seen: Evidence, atlas: Atlas, groups: Sequence[str]) -> HeldOut:
    """Each normal of the atlas scored as if its group were not in it."""
    distances, chosen = neighbours(atlas.thumbnails, groups)
    novelty = distances[:, :NEAR].sqrt().mean(dim=1)
    maps, scores = [], []
    for start in range(0, len(seen.logit), _CHUNK):
        rows = slice(start, start + _CHUNK)
        part = Evidence(*(column[rows] for column in seen))
        shown = atlas.shown[chosen[rows]] * voices(distances[rows])
        alike = replace(atlas, logits=atlas.logits[chosen[rows]], shown=shown)
        score = score_of(z_map(part.logit, alike, part.shown), part)
        maps.append(map_of(score, part))
        scores.append(score)
    return HeldOut(
        score=torch.cat(scores).numpy(),
        novelty=novelty.numpy(),
        anomaly_map=torch.cat(maps).numpy(),
        shown=seen.shown.numpy() > 0,
    )


def calibrate(held_out: HeldOut, *, held_out_how: str) -> Calibration:
    """Percentiles and the limits of the map from held-out normals."""
    percents = np.linspace(0, 100, 101)
    peaks = held_out.anomaly_map.max(axis=(1, 2))
    return Calibration(
        score_quantiles=tuple(float(value) for value in np.percentile(held_out.score, percents)),
        novelty_quantiles=tuple(float(value) for value in np.percentile(held_out.novelty, percents)),
        map_floor=float(np.median(held_out.anomaly_map[held_out.shown])),
        region_threshold=float(np.percentile(peaks, 80)),
        map_ceiling=float(np.percentile(peaks, 99)),
        normals=len(held_out.score),
        statement=(
            f"{len(held_out.score)} normal hand radiographs of the train split, {held_out_how}. A region "
            "is where the map exceeds the 80th percentile of the normals' highest map values."
        ),
    )


def operating_points(
    held_out: HeldOut, abnormal_scores: NDArray[np.floating], abnormal_groups: Sequence[str]
) -> tuple[OperatingPoint, ...]:
    """Thresholds by specificity on held-out normals, with the sensitivity for validation fractures if there
    are any."""
    points = []
    for specificity in SPECIFICITIES:
        threshold = float(np.percentile(held_out.score, 100 * specificity))
        point = OperatingPoint(
            name=f"specificity-{round(100 * specificity)}", specificity=specificity, threshold=threshold
        )
        if len(abnormal_scores):
            found = abnormal_scores > threshold
            estimate = bootstrap(lambda rows, found=found: float(found[rows].mean()), abnormal_groups)  # type: ignore[misc]
            sensitivity = {
                "sensitivity": estimate.value,
                "sensitivity_low": estimate.low,
                "sensitivity_high": estimate.high,
                "statement": f"{estimate.n} fractured hands without casts and hardware (validation)",
            }
            point = point.model_copy(update=sensitivity)
        points.append(point)
    return tuple(points)
