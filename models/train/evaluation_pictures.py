"""ROC curves of `docs/evaluation.md`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.train.data import Sample
from models.train.evaluation_answers import Answers, scored
from models.train.evaluation_figures import CONTROL, MAIN, SUBSETS, Part
from models.train.metrics import roc_auc


def draw_roc(samples: Sequence[Sample], answers: Answers, packages: Sequence[str], path: Path) -> None:
    """One curve a package, dashed for the control, on hand views without casts and hardware."""
    from matplotlib.figure import Figure

    part = Part.of(samples, SUBSETS[MAIN])
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    for name in [*packages, CONTROL]:
        if (system := scored(samples, answers, name)) is not None:
            values = system.values[part.rows]
            label = f"{name} {roc_auc(part.abnormal, values):.3f}"
            style = "--" if name == CONTROL else "-"
            axes.plot(*roc_points(part.abnormal, values), style, label=label, linewidth=1.3)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.6)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=MAIN, aspect="equal")
    axes.legend(loc="lower right", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def roc_points(
    abnormal: NDArray[np.bool_], values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every threshold from the highest down; ties enter together."""
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)
    true, false = np.cumsum(abnormal[order])[last_of_tie], np.cumsum(~abnormal[order])[last_of_tie]
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])
