"""MODEL_CARD.md of a package: its manifest for people."""

from pathlib import Path
from typing import Any

from models.package import Manifest, ModelPackage
from models.train.evaluation_figures import CONTROL
from models.train.evaluation_report import estimate, operating_points, robustness, table

CARD = "MODEL_CARD.md"


def write_card(package: Path) -> Path:
    """Write the card beside the manifest; it is no part of what the manifest vouches for."""
    path = package / CARD
    path.write_text(model_card(ModelPackage.open(package).manifest), encoding="utf-8")
    return path


def model_card(manifest: Manifest) -> str:
    """Markdown of what the model is, was trained on, answers, and does not do."""
    parts = [
        f"# {manifest.name} {manifest.version}\n\n{manifest.title}. Made {manifest.created}; "
        f"{manifest.licence}. Written from `manifest.json` by `skiagraph models evaluate`.\n",
        "## Use\n\nResearch only. It scores one hand radiograph at a time: `score` and map say where it "
        "deviates locally from normal hands, `novelty` how unusual its positioning or technique is. "
        "Neither is a probability of fracture or replaces a reading; a low score rules nothing out.\n",
        f"## Input\n\nOne radiograph through the geometry of the manifest, {manifest.input_px} × "
        f"{manifest.input_px} px: {_geometry(manifest)}. The gate refuses the rest with a reason. "
        f"{manifest.gate.statement}\n",
        f"## Training\n\n{manifest.training_data}\n\n{_training(manifest)}",
        f"## Calibration\n\n{manifest.calibration.statement}\n",
    ]
    if "subsets" in manifest.evaluation:
        parts.append(_evaluation(manifest))
    parts.append(
        "## Limits\n\nEvaluated on 108 fractured and 127 normal radiographs of one collection at most; other "
        "scanners, age groups and kinds of abnormality are untested. Fractured limbs are positioned "
        "differently: part of any AUC is that. All models side by side: `docs/evaluation.md`.\n"
    )
    return "\n".join(parts)


def _geometry(manifest: Manifest) -> str:
    return ", ".join(f"{name} {_said(value)}" for name, value in manifest.geometry.items())


def _said(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _training(manifest: Manifest) -> str:
    training = manifest.evaluation.get("training", {})
    rows = [
        [name.replace("_", " "), str(value)]
        for name, value in training.items()
        if not isinstance(value, dict | list)
    ]
    return table(["setting", "value"], rows) if rows else ""


def _evaluation(manifest: Manifest) -> str:
    figures = manifest.evaluation
    rows = []
    for name, subset in figures["subsets"].items():
        systems, pointing = subset["systems"], figures["localisation"][name]
        novelty = next((row for system, row in systems.items() if system.startswith("novelty")), None)
        rows.append(
            [
                f"{name} ({subset['normal']} + {subset['abnormal']})",
                estimate(systems["score"]["auc"]),
                estimate(systems.get(CONTROL, {}).get("score_minus_this")),
                estimate(pointing.get("score")),
                estimate(novelty and novelty["auc"]),
            ]
        )
    header = [
        "validation radiographs (normal + fractured)",
        "ROC-AUC of score",
        "minus random weights",
        "pointing",
        "ROC-AUC of novelty",
    ]
    speed = figures["milliseconds"]
    return (
        "## Evaluation\n\n95 % bootstrap intervals by group; one seed.\n\n"
        + table(header, rows)
        + f"\n{operating_points(manifest)}\n{robustness(figures.get('robustness', {}))}\n"
        f"{figures['parameters']:,} parameters; {speed['graph']:.0f} ms for the graph on two CPU threads "
        "of the machine that evaluated it.\n"
    )
