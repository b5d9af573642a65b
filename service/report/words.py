"""What the report says in words: the same sentences on the picture, in the Structured Report and in its text.

A score says how unlike normal radiographs something looks, never what it is: no sentence names a diagnosis.
Sentences are ASCII, so that they can be written in every character set that a source may declare.
"""

import math
from collections.abc import Sequence
from typing import Final

from models.findings import percentile
from models.package import Manifest
from service.contract import ModelIdentity, OperatingPoint, RadiographResult, Status

RESEARCH: Final = "RESEARCH USE ONLY - not for primary diagnosis"
NOT_A_DIAGNOSIS: Final = (
    "The score says how unlike normal hand radiographs the most unusual place looks to the model. It is not "
    "a probability of disease, and a low score does not exclude a fracture or any other abnormality."
)
GATE_OFF: Final = (
    "The check that a radiograph shows a hand was switched off for this study by a rule for test patients."
)
HEATMAP_IS: Final = "Drawn over a copy of the radiograph: read the original."
_UNUSUAL_PERCENTILE: Final = 95.0
_TYPOGRAPHY: Final = str.maketrans(
    dict(zip("–—‑−×“”‘’\u00a0", "----x\"\"'' ", strict=True)) | {"≥": ">=", "≤": "<=", "±": "+/-", "…": "..."}
)


def ascii_text(text: str) -> str:
    """`text` in ASCII; what has no counterpart becomes a question mark."""
    return text.translate(_TYPOGRAPHY).encode("ascii", "replace").decode("ascii").strip()


def percent(share: float) -> str:
    """0.95 as `95%`, 0.975 as `97.5%`: no space, so that no line breaks before the sign."""
    return f"{100 * share:.3g}%"


def bar(by_percentile: bool) -> str:
    """What the colour bar shows."""
    if by_percentile:
        return "Normal radiographs that nowhere reach this colour:"
    return "Like normal to unlike normal:"


def image_comments(research_use_only: bool) -> str:
    """What a viewer shows of the heatmap's header."""
    comments = f"{HEATMAP_IS} {NOT_A_DIAGNOSIS}"
    return f"{RESEARCH}. {comments}" if research_use_only else comments


def verdict(result: RadiographResult) -> str:
    """The verdict on a scored radiograph."""
    finding = "Local finding" if result.abnormal else "No local finding"
    return f"{finding} above the operating point"


def rank_among_normals(rank: float, normals: int) -> str:
    """Where a value lies among normals, rounded down: no sample can show "higher than 100%"."""
    if rank >= 100:
        return f"higher than all {normals} normal radiographs it was compared with"
    if rank < 1:
        return f"lower than nearly all of {normals} normal radiographs"
    return f"higher than {math.floor(rank)}% of {normals} normal radiographs"


def unusual_positioning(result: RadiographResult, manifest: Manifest) -> str:
    """A sentence where positioning or technique is rarer than in 95% of normals, else empty."""
    if result.novelty is None:
        return ""
    rank = percentile(result.novelty, manifest.calibration.novelty_quantiles)
    if rank < _UNUSUAL_PERCENTILE:
        return ""
    return f"Unusual positioning or technique: {rank_among_normals(rank, manifest.calibration.normals)}."


def operating_point(point: OperatingPoint) -> str:
    """Name, specificity, threshold and, where it was measured, the sensitivity with its interval."""
    text = f"Operating point {point.name}: {percent(point.specificity)} of normal radiographs score at most "
    text += f"{point.threshold:.4g}"
    if point.sensitivity is None:
        return ascii_text(f"{text}; its sensitivity was not measured.")
    text += f"; measured sensitivity {percent(point.sensitivity)}"
    if point.sensitivity_low is not None and point.sensitivity_high is not None:
        text += f" (95% interval {percent(point.sensitivity_low)} to {percent(point.sensitivity_high)})"
    if point.sensitivity_statement:
        text += f", {point.sensitivity_statement}"
    return ascii_text(text.rstrip(".") + ".")


def engine(model: ModelIdentity) -> str:
    return ascii_text(f"{model.engine}, {model.precision}")


def not_analysed(result: RadiographResult) -> str:
    """The reason as a sentence."""
    why = (result.reason or "no reason was recorded").rstrip(".")
    return ascii_text(f"Analysis not performed: {why}.")


def scored(result: RadiographResult, manifest: Manifest) -> str:
    """One radiograph's result as a sentence."""
    text = f"{verdict(result)}: score {result.score or 0.0:.4g}"
    if result.percentile is not None:
        text += f", {rank_among_normals(result.percentile, manifest.calibration.normals)}"
    count = len(result.regions)
    if count:
        text += f"; {count} region{'s' if count > 1 else ''} marked"
    return ascii_text(text + ".")


def summary(results: Sequence[tuple[str, RadiographResult]], manifest: Manifest) -> str:
    """The study in one paragraph; `results` with their titles, the most anomalous first."""
    radiographs = "1 radiograph" if len(results) == 1 else f"{len(results)} radiographs"
    analysed = [(title, result) for title, result in results if result.status is Status.SCORED]
    if not analysed:
        reasons = dict.fromkeys((result.reason or "no reason recorded").rstrip(".") for _, result in results)
        which = f" on any of {radiographs}" if len(results) > 1 else ""
        return ascii_text(f"Analysis not performed{which}: {'; '.join(reasons)}.")
    above = sum(result.abnormal or False for _, result in analysed)
    title, leader = analysed[0]
    text = (
        f"{len(analysed)} of {radiographs} analysed, {above} with a local finding above the operating point. "
        f"Most unusual: {title}. {scored(leader, manifest)}"
    )
    if skipped := len(results) - len(analysed):
        text += f" {skipped} not analysed, the reason is given with each."
    return ascii_text(text)
