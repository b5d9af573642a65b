"""What is said of systems on validation radiographs: AUC, precision, pointing and paired differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.train.data import Inputs, Sample
from models.train.metrics import Estimate, average_precision, bootstrap, roc_auc

FloatArray = NDArray[np.float32]
Figure = dict[str, Any]
CONTROL = "control: random weights"
MAIN = "hand views, no cast or hardware"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One system's answers: values (n,), and whether its map's maximum lies in a fracture box, when it has
    one."""

    values: FloatArray
    pointed: NDArray[np.bool_] | None = None


SUBSETS: Mapping[str, Callable[[Sample], bool]] = {
    "hand views": lambda s: s.is_hand,
    MAIN: lambda s: s.is_hand and not s.cast and not s.hardware,
    "PA only, no cast or hardware": lambda s: s.view == "hand_pa" and not s.cast and not s.hardware,
    "all arm radiographs": lambda s: True,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """The rows of a subset among all validation radiographs, with truth and groups."""

    rows: NDArray[np.intp]
    abnormal: NDArray[np.bool_]
    groups: tuple[str, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample], keep: Callable[[Sample], bool]) -> "Part":
        rows = [index for index, sample in enumerate(samples) if keep(sample)]
        return cls(
            rows=np.array(rows, np.intp),
            abnormal=np.array([samples[index].abnormal for index in rows], bool),
            groups=tuple(samples[index].group for index in rows),
        )

    def auc(self, system: Scored) -> Estimate:
        values = system.values[self.rows]
        return bootstrap(lambda r: roc_auc(self.abnormal[r], values[r]), self.groups)

    def precision(self, system: Scored) -> Estimate:
        values = system.values[self.rows]
        return bootstrap(lambda r: average_precision(self.abnormal[r], values[r]), self.groups)

    def auc_difference(self, one: Scored, other: Scored) -> Estimate:
        """AUC of one minus AUC of the other on the same draws."""
        first, second = one.values[self.rows], other.values[self.rows]
        return bootstrap(
            lambda r: roc_auc(self.abnormal[r], first[r]) - roc_auc(self.abnormal[r], second[r]), self.groups
        )


def boxed(samples: Sequence[Sample], keep: Callable[[Sample], bool]) -> Part:
    """The fractured radiographs of a subset whose fracture is boxed."""
    return Part.of(samples, lambda sample: bool(sample.boxes) and keep(sample))


def share(flags: NDArray[np.bool_], part: Part) -> Estimate:
    """Share of true flags (n,) among the rows of a part."""
    chosen = flags[part.rows]
    return bootstrap(lambda r: float(chosen[r].mean()), part.groups)


def subset_figures(samples: Sequence[Sample], systems: Mapping[str, Scored], name: str) -> Figure:
    """AUC and average precision of each system, and the paired difference of `score` to each other one."""
    part = Part.of(samples, SUBSETS[name])
    table: dict[str, Figure] = {}
    for system, scored in systems.items():
        table[system] = {
            "auc": asdict(part.auc(scored)),
            "average_precision": asdict(part.precision(scored)),
        }
        if system != "score":
            table[system]["score_minus_this"] = asdict(part.auc_difference(systems["score"], scored))
    return {
        "normal": int((~part.abnormal).sum()),
        "abnormal": int(part.abnormal.sum()),
        "systems": table,
    }


def localisation(
    samples: Sequence[Sample], systems: Mapping[str, Scored], chance: NDArray[np.float64], name: str
) -> Figure:
    """Pointing game on the boxed fractures of a subset."""
    part = boxed(samples, SUBSETS[name])
    if not part.rows.size:
        return {"radiographs": 0, "chance": 0.0}
    result: Figure = {"radiographs": len(part.rows), "chance": float(chance[part.rows].mean())}
    for system, scored in systems.items():
        if scored.pointed is not None:
            result[system] = asdict(share(scored.pointed, part))
    return result


def verdicts(samples: Sequence[Sample], system: Scored, threshold: float) -> Figure:
    """What a threshold does to validation hand views without casts and hardware."""
    above = system.values > threshold
    normal = Part.of(samples, lambda s: SUBSETS[MAIN](s) and not s.abnormal)
    fractured = Part.of(samples, lambda s: SUBSETS[MAIN](s) and s.abnormal)
    return {
        "specificity": asdict(share(~above, normal)),
        "sensitivity": asdict(share(above, fractured)),
    }


def point_figures(samples: Sequence[Sample], system: Scored) -> dict[str, dict[str, float]]:
    """AUC and pointing in each subset without intervals: for draws, seeds and ablations."""
    found = {}
    for name, keep in SUBSETS.items():
        part, fractures = Part.of(samples, keep), boxed(samples, keep)
        found[name] = {"auc": roc_auc(part.abnormal, system.values[part.rows])}
        if system.pointed is not None and fractures.rows.size:
            found[name]["pointing"] = float(system.pointed[fractures.rows].mean())
    return found


def floors(inputs: Inputs) -> dict[str, Scored]:
    """What is reached without looking for anything."""
    shown = inputs.tensors[:, 1] > 127
    grey = (inputs.tensors[:, 0] * shown).sum(axis=(1, 2)) / np.maximum(1, shown.sum(axis=(1, 2)))
    sizes = [geometry.source_width_px * geometry.source_height_px for geometry in inputs.geometries]
    return {
        "floor: mean grey": Scored(values=grey.astype(np.float32)),
        "floor: picture size": Scored(values=np.array(sizes, np.float32)),
        "floor: file size": Scored(
            values=np.array([sample.path.stat().st_size for sample in inputs.samples], np.float32)
        ),
    }


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
        inside = np.zeros_like(mask)
        for box in sample.boxes:
            corners = geometry.to_model(np.array(box).reshape(2, 2))
            (left, top), (right, bottom) = np.clip(np.rint(corners), 0, geometry.input_px).astype(int)
            inside[top:bottom, left:right] = True
        chance[index] = (mask & inside).sum() / max(1, mask.sum())
    return chance
