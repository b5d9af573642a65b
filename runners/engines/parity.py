"""The parity gate: an engine must reproduce the golden outputs of a package before it may answer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.package import Golden
from runners.engines.base import Engine
from runners.errors import RunnerFault


@dataclass(frozen=True, kw_only=True)
class Parity:
    """deviation: largest absolute difference over all outputs; infinite where a value is not finite."""

    deviation: float
    tolerance: float
    output: str

    @property
    def holds(self) -> bool:
        return self.deviation <= self.tolerance

    def __str__(self) -> str:
        return f"{self.output} is off by {self.deviation:.2g}, tolerance {self.tolerance:.2g}"


def measure(engine: Engine, folder: Path, golden: Golden, *, input_name: str) -> Parity:
    """Run the golden inputs in one batch; RunnerFault when the golden file does not fit the graph."""
    with np.load(folder / golden.file) as arrays:
        expected = {name: arrays[name] for name in arrays.files}
    try:
        answers = engine.infer(expected.pop(input_name))
        deviations = {name: _deviation(answers[name], wanted) for name, wanted in expected.items()}
    except KeyError as error:
        raise RunnerFault(
            f"{folder / golden.file} and the graph disagree: {error}; export the package again"
        ) from error
    worst = max(deviations, key=lambda name: deviations[name])
    return Parity(deviation=deviations[worst], tolerance=golden.tolerance, output=worst)


def _deviation(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - wanted).max())
