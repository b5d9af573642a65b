"""What `skiagraph models list` says of a package: its key figures on validation radiographs."""

from typing import Any

from models.package import Manifest

_MAIN = "hand views, no cast or hardware"
HEADER = f"{'':2}{'package':24} {'AUC (95 %)':20} {'pointing':9} {'ms':>5}  title"


def key_figures(manifest: Manifest) -> dict[str, Any] | None:
    """AUC with interval, pointing and milliseconds; None for a package that was not evaluated."""
    evaluation = manifest.evaluation
    if "subsets" not in evaluation:
        return None
    auc = evaluation["subsets"][_MAIN]["systems"]["score"]["auc"]
    pointing = evaluation["localisation"][_MAIN].get("score")
    return {
        "radiographs": _MAIN,
        "auc": auc["value"],
        "auc_low": auc["low"],
        "auc_high": auc["high"],
        "pointing": pointing and pointing["value"],
        "milliseconds": sum(evaluation["milliseconds"][part] for part in ("reading_and_geometry", "graph")),
    }


def line(manifest: Manifest, figures: dict[str, Any] | None, *, default: str) -> str:
    """One line under HEADER; the default is marked by a star."""
    star = "*" if manifest.name == default else ""
    if figures is None:
        return f"{star:2}{manifest.name:24} {'not evaluated':37}  {manifest.title}"
    auc = f"{figures['auc']:.3f} ({figures['auc_low']:.2f}-{figures['auc_high']:.2f})"
    pointing = "-" if figures["pointing"] is None else f"{figures['pointing']:.2f}"
    return (
        f"{star:2}{manifest.name:24} {auc:20} {pointing:9} {figures['milliseconds']:5.0f}  {manifest.title}"
    )
