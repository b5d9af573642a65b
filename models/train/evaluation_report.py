"""The evaluation as a page for people: `docs/evaluation.md`."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.package import Manifest

_INTRODUCTION = """\
# Evaluation of `{name}` {version}

Written by `skiagraph models evaluate`; research use only.
Data: validation split of FracAtlas (CC BY 4.0), our split by group. Intervals are 95 %, from 2,000 bootstrap
draws of whole groups. Nothing was trained on a fracture; thresholds and percentiles come from normal training
radiographs.

**How to read it.** Fractured limbs are positioned differently, and even networks with random weights notice.
An AUC means something only as far as it exceeds the *control* (the same pipeline with random weights) and the
*thumbnail* (`novelty`, which sees no detail as small as a fracture). What training on planted defects adds is
*where*: the pointing game asks whether the map's maximum lies in a fracture box. `score` and `novelty` are
two outputs and never blended.

**What was chosen how.** Networks, planted defects and training were fixed before validation was looked at.
So was a first map (deviation from look-alike normals plus 0.3 of the bare logit) with the rule that an
alternative must beat it in pointing and AUC by more than the paired interval. With unfinished networks it
was replaced after looking at about fifteen variants on these validation radiographs, because it flagged
places where look-alikes show no tissue. The pointing gain was outside its paired interval, the AUC gain was
not: the rule as written was not met. Expect somewhat lower figures on radiographs that nobody has looked
at.
"""


def evaluation_page(manifest: Manifest) -> str:
    """Markdown of a manifest's evaluation."""
    figures = manifest.evaluation
    parts = [_INTRODUCTION.format(name=manifest.name, version=manifest.version)]
    parts.append(_localisation(figures["localisation"]))
    parts += [_subset(name, subset) for name, subset in figures["subsets"].items()]
    parts.append(_control_draws(figures["control_draws"]))
    parts.append(_operating_points(manifest))
    if "robustness" in figures:
        parts.append(_robustness(figures["robustness"]))
    parts.append(_cost(figures, manifest))
    return "\n".join(parts)


def _estimate(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _localisation(table: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "## Localisation (pointing game)\n",
        "| radiographs | n | score | control: random weights | chance |",
        "|---|---|---|---|---|",
    ]
    for name, row in table.items():
        lines.append(
            f"| {name} | {row['radiographs']} | {_estimate(row['score'])} "
            f"| {_estimate(row['control: random weights'])} | {row['chance']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def _subset(name: str, subset: Mapping[str, Any]) -> str:
    lines = [
        f"## {name}: {subset['normal']} normal, {subset['abnormal']} fractured\n",
        "| system | ROC-AUC | average precision | AUC of score minus this (paired) |",
        "|---|---|---|---|",
    ]
    for system, row in subset["systems"].items():
        difference = _estimate(row["score_minus_this"]) if "score_minus_this" in row else "–"
        lines.append(
            f"| {system} | {_estimate(row['auc'])} | {_estimate(row['average_precision'])} | {difference} |"
        )
    return "\n".join(lines) + "\n"


def _control_draws(draws: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    lines = [
        "## Controls: each draw of random weights (the other tables show the one with the highest AUC)\n",
        "| radiographs | ROC-AUC of each draw | pointing of each draw |",
        "|---|---|---|",
    ]
    for name in draws[0]:
        auc, pointing = (
            ", ".join(f"{draw[name][figure]:.3f}" for draw in draws) for figure in ("auc", "pointing")
        )
        lines.append(f"| {name} | {auc} | {pointing} |")
    return "\n".join(lines) + "\n"


def _operating_points(manifest: Manifest) -> str:
    lines = [
        "## Operating points (hand views without casts and hardware)\n",
        "| point | threshold | specificity on validation normals | sensitivity |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {point['name']} | {point['threshold']:.3f} | {_estimate(point['specificity'])} "
        f"| {_estimate(point['sensitivity'])} |"
        for point in manifest.evaluation["operating_points"]
    ]
    return "\n".join(lines) + f"\n\nCalibration: {manifest.calibration.statement}\n"


def _robustness(table: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        "## What should not matter\n",
        "| change | rank correlation of score | verdicts flipped |",
        "|---|---|---|",
    ]
    lines += [
        f"| {change} | {row['rank_correlation']:.3f} | {100 * row['verdicts_flipped']:.1f} % |"
        for change, row in table.items()
    ]
    return "\n".join(lines) + "\n"


def _cost(figures: Mapping[str, Any], manifest: Manifest) -> str:
    speed, training = figures["milliseconds"], figures["training"]
    return (
        "## Cost\n\n"
        f"{figures['parameters']:,} parameters in {training['members']} networks, {training['steps']:,} "
        f"training steps "
        f"each (seed {training['seed']}; one training run). On {int(speed['cpu_threads'])} CPU threads, "
        f"median per "
        f"radiograph: {speed['reading_and_geometry']:.0f} ms to read the file and find the hand, "
        f"{speed['graph']:.0f} ms for the graph at {manifest.input_px} px.\n"
    )
