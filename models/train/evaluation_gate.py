"""What the input gate lets in, as a section of `docs/evaluation.md`."""

from collections.abc import Mapping
from pathlib import Path

from models.train.evaluation_report import table
from models.train.gate_draw import BODY_PARTS, NOT_RADIOGRAPHS
from models.train.gate_evaluate import Rate, evaluate_gate, rate

GATE = Path(__file__).parents[1] / "gates" / "hand"
_ROWS: Mapping[str, tuple[str, ...]] = {
    "hands": ("hand",),
    "hands, as they are": ("hand as it is",),
    "normal hands": ("hand normal",),
    "fractured hands": ("hand fractured",),
    "legs, hips and shoulders": ("leg", "hip", "shoulder"),
    "legs": ("leg",),
    "hips and shoulders": ("hip", "shoulder"),
    "forearms and elbows": ("forearm",),
    "several views on one film": ("multiple_views",),
    "noise, blank films, scenes, text, drawn": tuple(f"drawn {draw.__name__}" for draw in NOT_RADIOGRAPHS),
    "chests, teeth, skulls, drawn": tuple(f"drawn {draw.__name__}" for draw in BODY_PARTS),
}


def gate_section(data: Path) -> str:
    """How often each kind of picture is let in, with intervals; empty where `data` does not label them."""
    if not (data / "labels.csv").is_file():
        return ""
    accepted: dict[str, Rate] = evaluate_gate(GATE, data=data)["accepted"]
    rows = []
    for label, names in _ROWS.items():
        shown = sum(round(accepted[name]["of"]) for name in names)
        found = rate(sum(round(accepted[name]["rate"] * accepted[name]["of"]) for name in names), shown)
        share = f"{found['rate']:.1%} ({max(0.0, found['low']):.1%} to {found['high']:.1%})"
        rows.append([label, str(shown), share.replace("%", " %")])
    return (
        "## The input gate\n\nWhat is let in, on the validation split. Every radiograph is shown in both "
        "polarities, each turned by 0°, 90°, 180° and 270°; the intervals (Wilson) take these for "
        "independent, which makes them too narrow. Threshold and class weights were chosen on these "
        "radiographs.\n\n" + table(["shown", "pictures", "let in"], rows)
    )
