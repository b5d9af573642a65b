"""Learning curves as a picture in the folder of a run."""

import json
from pathlib import Path

CURVES = "curves.png"


def draw_curves(run: Path) -> Path | None:
    """One panel for each reported value, one line for each network; None before the first checkpoint."""
    records = {
        path.parent.relative_to(run).as_posix(): [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in sorted(run.rglob("curve.jsonl"))
    }
    names = sorted({name for lines in records.values() for line in lines for name in line} - {"step"})
    if not names:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for network, lines in records.items():
            points = [(line["step"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), marker=".", label=network)
        axes.set(xlabel="step", title=name)
    if len(records) > 1:
        axes.legend()
    figure.savefig(run / CURVES, dpi=100)
    return run / CURVES
