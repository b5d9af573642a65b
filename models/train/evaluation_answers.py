"""Every system's answer to every validation radiograph, kept so that any two can be compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.train.data import Sample
from models.train.evaluation_figures import MAIN, SUBSETS, Part, Scored, boxed
from models.train.metrics import Estimate, bootstrap

FILE = "evaluation-answers.json"
POINTING_NEEDED = 0.30
Answers = dict[str, dict[str, list[float | None]]]


def read_answers(docs: Path) -> Answers:
    """By system and file: the value, and 1 or 0 when its map points; empty before the first evaluation."""
    path = docs / FILE
    if not path.is_file():
        return {}
    answers: Answers = json.loads(path.read_text(encoding="utf-8"))
    return answers


def write_answers(docs: Path, answers: Answers) -> None:
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(values)}" for name, values in sorted(answers.items())
    )
    (docs / FILE).write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def as_answers(samples: Sequence[Sample], system: Scored) -> dict[str, list[float | None]]:
    pointed: Sequence[float | None] = (
        [None] * len(samples) if system.pointed is None else [float(flag) for flag in system.pointed]
    )
    # Six digits as text: exact for single precision would only make the file longer.
    return {
        sample.path.name: [float(f"{value:.6g}"), flag]
        for sample, value, flag in zip(samples, system.values, pointed, strict=True)
    }


def scored(samples: Sequence[Sample], answers: Answers, system: str) -> Scored | None:
    """The kept answers of a system in the order of `samples`; None unless all of them are there."""
    known = answers.get(system, {})
    if any(sample.path.name not in known for sample in samples):
        return None
    rows = [known[sample.path.name] for sample in samples]
    pointed = None if any(row[1] is None for row in rows) else np.array([row[1] == 1 for row in rows])
    return Scored(values=np.array([row[0] for row in rows], np.float32), pointed=pointed)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The default by the rule of ADR 0020. steps: what each step of the rule left, for people."""

    name: str
    steps: tuple[str, ...]


def choose_default(
    samples: Sequence[Sample],
    systems: Mapping[str, Scored],
    milliseconds: Mapping[str, float],
    *,
    present: str,
) -> Choice:
    """Which package is the default: see docs/adr/0020-default-model.md. systems, milliseconds: by package."""
    part, fractures = Part.of(samples, SUBSETS[MAIN]), boxed(samples, SUBSETS[MAIN])
    pointing = {name: float(_pointed(system, fractures).mean()) for name, system in systems.items()}
    able = [name for name in systems if pointing[name] >= POINTING_NEEDED]
    if not able:
        return Choice(name=present, steps=(f"no package points at {POINTING_NEEDED:.2f}: {present} stays",))
    auc = {name: part.auc(systems[name]).value for name in able}
    best = max(able, key=lambda name: auc[name])
    tied = [
        name
        for name in able
        if name == best or _holds_zero(part.auc_difference(systems[best], systems[name]))
    ]
    pointer = max(tied, key=lambda name: pointing[name])
    still = [
        name
        for name in tied
        if name == pointer or _holds_zero(_pointing_difference(fractures, systems[pointer], systems[name]))
    ]
    fastest = min(still, key=lambda name: milliseconds[name])
    steps = (
        f"pointing of {POINTING_NEEDED:.2f} is reached by {', '.join(able)}",
        f"AUC: {best} has the highest, not told apart from it: {_others(tied, best)}",
        f"pointing: {pointer} has the highest of these, not told apart from it: {_others(still, pointer)}",
        f"speed: {fastest}",
    )
    return Choice(name=fastest, steps=steps)


def _pointing_difference(part: Part, one: Scored, other: Scored) -> Estimate:
    difference = _pointed(one, part) - _pointed(other, part)
    return bootstrap(lambda r: float(difference[r].mean()), part.groups)


def _pointed(system: Scored, part: Part) -> NDArray[np.float64]:
    flags = np.zeros(len(system.values)) if system.pointed is None else system.pointed
    return flags[part.rows].astype(float)


def _holds_zero(estimate: Estimate) -> bool:
    return estimate.low <= 0 <= estimate.high


def _others(names: Sequence[str], one: str) -> str:
    return ", ".join(name for name in names if name != one) or "none"
