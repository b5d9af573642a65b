"""The evaluation as a page for people: `docs/evaluation.md`, made of the packages' manifests and answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from models.package import Manifest
from models.train.data import Sample
from models.train.evaluation_answers import Answers, Choice, scored
from models.train.evaluation_figures import CONTROL, MAIN, SUBSETS, Part, boxed, share
from models.train.evaluation_text import HOW_TO_READ, INTRODUCTION, PUBLISHED, SEEDS, WEAK_SPOTS

NO_INTERVAL = "–"


def evaluation_page(
    manifests: Mapping[str, Manifest],
    samples: Sequence[Sample],
    answers: Answers,
    choice: Choice,
    *sections: str,
) -> str:
    """Markdown of all packages' evaluations; `sections` come before the pictures."""
    lead = manifests[choice.name]
    parts = [
        INTRODUCTION,
        HOW_TO_READ,
        _choice(choice),
        *(_subset(name, manifests, lead) for name in (MAIN, *(n for n in SUBSETS if n != MAIN))),
        "![ROC curves](images/evaluation-roc.png)\n",
        _costs(manifests),
        _lead_tables(lead),
        _seeds(samples, answers, choice.name),
        *sections,
        "## Example maps\n\nPhantoms drawn by this project, seen by each package: the map over the "
        "radiograph, the planted defect in a box.\n\n![Maps of phantoms](images/evaluation-maps.jpg)\n",
        WEAK_SPOTS,
    ]
    return "\n".join(part for part in parts if part)


def estimate(value: Mapping[str, float] | None) -> str:
    if value is None:
        return NO_INTERVAL
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _choice(choice: Choice) -> str:
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(choice.steps, start=1))
    return (
        f"## The default: `{choice.name}`\n\nBy the rule of [ADR 0020](adr/0020-default-model.md), written "
        f"before the other packages were evaluated:\n\n{steps}\n"
    )


def _subset(name: str, manifests: Mapping[str, Manifest], lead: Manifest) -> str:
    """One table of every system on the radiographs of a subset."""
    first = lead.evaluation["subsets"][name]
    located = lead.evaluation["localisation"][name]
    rows = []
    for package, manifest in manifests.items():
        systems = manifest.evaluation["subsets"][name]["systems"]
        pointing = manifest.evaluation["localisation"][name]
        for system, row in systems.items():
            if system == "score":
                difference = systems.get(CONTROL, {}).get("score_minus_this")
                label = f"**{package}**" if manifest is lead else package
                rows.append(_row(label, row, pointing.get(system), difference, PUBLISHED.get(package)))
            elif manifest is lead or system.startswith("teacher"):
                rows.append(_row(system, row, pointing.get(system), None, None))
    header = [
        "system",
        "ROC-AUC",
        "average precision",
        "pointing",
        "AUC minus control (paired)",
        "paper's AUC on MURA",
    ]
    return (
        f"## {name[0].upper()}{name[1:]}: {first['normal']} normal, {first['abnormal']} fractured\n\n"
        f"Pointing on {located['radiographs']} boxed fractures; chance {located['chance']:.3f}.\n\n"
        + table(header, rows)
    )


def _row(
    label: str,
    figures: Mapping[str, Any],
    pointing: Mapping[str, float] | None,
    difference: Mapping[str, float] | None,
    published: str | None,
) -> list[str]:
    return [
        label,
        estimate(figures["auc"]),
        estimate(figures["average_precision"]),
        estimate(pointing),
        estimate(difference),
        published or NO_INTERVAL,
    ]


def _costs(manifests: Mapping[str, Manifest]) -> str:
    rows = []
    for name, manifest in manifests.items():
        figures = manifest.evaluation
        speed, training = figures["milliseconds"], figures["training"]
        steady = figures.get("robustness", {}).values()
        rows.append(
            [
                name,
                str(manifest.input_px),
                f"{figures['parameters']:,}",
                f"{training['steps']:,}",
                f"{speed['reading_and_geometry']:.0f} + {speed['graph']:.0f}",
                f"{min((row['rank_correlation'] for row in steady), default=float('nan')):.3f}",
                f"{100 * max((row['verdicts_flipped'] for row in steady), default=float('nan')):.1f} %",
            ]
        )
    header = [
        "package",
        "px",
        "parameters",
        "training steps",
        "ms: file and geometry + graph",
        "lowest rank correlation",
        "most verdicts flipped",
    ]
    return (
        "## Cost and steadiness of each package\n\nMilliseconds: median per radiograph on two CPU threads, "
        "as measured by this command on the machine it ran on. Steadiness: the worst of JPEG quality 90, "
        "±2 % brightness and contrast, 5 px shift, 3° turn and inversion; one seed each.\n\n"
        + table(header, rows)
    )


def _lead_tables(manifest: Manifest) -> str:
    """What the page says of the default alone: controls, operating points, steadiness."""
    figures = manifest.evaluation
    parts = [f"## More of `{manifest.name}`\n"]
    if draws := figures["control_draws"]:
        rows = [
            [name, *(", ".join(f"{draw[name][key]:.3f}" for draw in draws) for key in ("auc", "pointing"))]
            for name in draws[0]
        ]
        parts.append("Each draw of random weights (the tables above show the one with the highest AUC):\n")
        parts.append(table(["radiographs", "ROC-AUC of each draw", "pointing of each draw"], rows))
    parts.append("Operating points, on hand views without casts and hardware:\n")
    parts.append(operating_points(manifest))
    parts.append("What should not matter:\n")
    parts.append(robustness(figures.get("robustness", {})))
    return "\n".join(parts)


def operating_points(manifest: Manifest) -> str:
    rows = [
        [
            point["name"],
            f"{point['threshold']:.3f}",
            estimate(point["specificity"]),
            estimate(point["sensitivity"]),
        ]
        for point in manifest.evaluation["operating_points"]
    ]
    header = ["point", "threshold", "specificity on validation normals", "sensitivity"]
    return table(header, rows) + f"\nCalibration: {manifest.calibration.statement}\n"


def robustness(figures: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [change, f"{row['rank_correlation']:.3f}", f"{100 * row['verdicts_flipped']:.1f} %"]
        for change, row in figures.items()
    ]
    return table(["change", "rank correlation of score", "verdicts flipped"], rows)


def _seeds(samples: Sequence[Sample], answers: Answers, package: str) -> str:
    """Further training runs of the default that differ by their seed alone."""
    part, fractures = Part.of(samples, SUBSETS[MAIN]), boxed(samples, SUBSETS[MAIN])
    rows = []
    for name in sorted(answers):
        if name.startswith(f"{package} seed ") and (system := scored(samples, answers, name)) is not None:
            pointing = None if system.pointed is None else asdict(share(system.pointed, fractures))
            rows.append([name, estimate(asdict(part.auc(system))), estimate(pointing)])
    if not rows:
        return ""
    return SEEDS + table(["run", f"ROC-AUC, {MAIN}", "pointing"], rows)
