"""Model cards, the list of packages, curves and the rule for the default."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.package import ModelPackage, available
from models.train.curves import draw_curves
from models.train.data import Sample
from models.train.evaluation_answers import (
    Answers,
    Choice,
    as_answers,
    choose_default,
    read_answers,
    scored,
    write_answers,
)
from models.train.evaluation_figures import Scored
from models.train.evaluation_pictures import draw_roc, roc_points
from models.train.evaluation_report import evaluation_page
from models.train.metrics import roc_auc
from models.train.model_card import CARD, model_card
from models.train.run_folder import append_curve
from skiagraph.model_list import key_figures, line

PACKAGES = [pytest.param(ModelPackage.open(folder), id=folder.name) for folder in available()]


def samples(normal: int = 40, fractured: int = 40) -> list[Sample]:
    return [
        Sample(
            path=Path(f"{index}.png"),
            split="val",
            view="hand_pa",
            abnormal=index >= normal,
            group=str(index),
            boxes=((0.0, 0.0, 1.0, 1.0),) if index >= normal else (),
        )
        for index in range(normal + fractured)
    ]


def system(*, gap: float, pointing: float, seed: int = 0) -> Scored:
    """Scores whose fractured ones lie `gap` higher, and a map that points at this share of the fractures."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.permutation(np.linspace(0, 1, 40)) for _ in range(2)])
    values[40:] += gap
    pointed = np.append(np.zeros(40, bool), np.arange(40) < 40 * pointing)
    return Scored(values=values.astype(np.float32), pointed=pointed)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_card_of_its_manifest(package: ModelPackage) -> None:
    written = (package.folder / CARD).read_text(encoding="utf-8")
    assert written == model_card(package.manifest)
    for needed in ("Research only", package.manifest.training_data, "## Calibration", "## Limits"):
        assert needed in written


@pytest.mark.parametrize("package", PACKAGES)
def test_the_list_shows_a_package_as_it_was_evaluated(package: ModelPackage) -> None:
    figures = key_figures(package.manifest)
    assert figures is not None
    assert figures["auc_low"] <= figures["auc"] <= figures["auc_high"]
    assert figures["milliseconds"] > 0
    assert f"{figures['auc']:.3f}" in line(package.manifest, figures, default="")
    name = package.manifest.name
    assert line(package.manifest, figures, default=name).startswith("* ")
    bare = package.manifest.model_copy(update={"evaluation": {}})
    assert "not evaluated" in line(bare, key_figures(bare), default="")


def test_the_page_shows_every_package_and_names_the_default() -> None:
    manifests = {folder.name: ModelPackage.open(folder).manifest for folder in available()}
    choice = Choice(name="synthetic-defects", steps=("one step",))
    page = evaluation_page(manifests, [], {}, choice, "")
    for name in manifests:
        assert f"| {name} |" in page
    assert "## The default: `synthetic-defects`" in page
    assert "| **synthetic-defects** |" in page
    assert "control: random weights" in page
    if "alpha-gan" in manifests:
        assert ".607 ± .016" in page


def test_who_cannot_point_is_not_the_default() -> None:
    systems = {"ranks": system(gap=0.9, pointing=0.1), "points": system(gap=0.3, pointing=0.5)}
    speed = {"ranks": 1.0, "points": 50.0}
    assert choose_default(samples(), systems, speed, present="ranks").name == "points"
    blind = {"ranks": systems["ranks"]}
    assert choose_default(samples(), blind, speed, present="another").name == "another"


def test_the_higher_auc_wins_when_it_is_told_apart() -> None:
    systems = {"high": system(gap=0.8, pointing=0.35), "low": system(gap=0.1, pointing=0.9)}
    speed = {"high": 50.0, "low": 1.0}
    assert choose_default(samples(), systems, speed, present="low").name == "high"


def test_ties_go_to_the_pointer_and_then_to_the_faster() -> None:
    speed = {"one": 50.0, "other": 1.0}
    pointer = {"one": system(gap=0.5, pointing=0.9), "other": system(gap=0.52, pointing=0.35, seed=1)}
    assert choose_default(samples(), pointer, speed, present="other").name == "one"
    equal = {"one": system(gap=0.5, pointing=0.5), "other": system(gap=0.5, pointing=0.5)}
    assert choose_default(samples(), equal, speed, present="one").name == "other"


def test_answers_come_back_as_they_were_kept(tmp_path: Path) -> None:
    answers: Answers = {
        "one": as_answers(samples(), system(gap=0.5, pointing=0.5)),
        "floor": as_answers(samples(), Scored(values=np.arange(80, dtype=np.float32))),
    }
    write_answers(tmp_path, answers)
    assert read_answers(tmp_path) == answers
    again = scored(samples(), answers, "one")
    assert again is not None
    assert again.pointed is not None
    assert again.pointed.sum() == 20
    assert np.allclose(again.values, system(gap=0.5, pointing=0.5).values, atol=1e-5)
    assert scored(samples(), answers, "nobody") is None
    assert scored(samples(41), answers, "one") is None
    draw_roc(samples(), answers, ["one"], tmp_path / "roc.png")
    assert cv2.imread(str(tmp_path / "roc.png")) is not None


def test_the_area_under_the_drawn_curve_is_the_auc() -> None:
    abnormal = np.arange(80) >= 40
    values = np.round(system(gap=0.3, pointing=0).values, 1)  # with ties
    false, true = roc_points(abnormal, values)
    assert (false[-1], true[-1]) == (1, 1)
    assert np.trapezoid(true, false) == pytest.approx(roc_auc(abnormal, values))


def test_curves_are_drawn_for_each_network(tmp_path: Path) -> None:
    assert draw_curves(tmp_path) is None
    for member in ("member0", "member1"):
        (tmp_path / member).mkdir()
        append_curve(tmp_path / member, 100, {"loss": 2.0, "unseen_auc": 0.6})
        append_curve(tmp_path / member, 200, {"loss": 1.5})
    path = draw_curves(tmp_path)
    assert path is not None
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 1.5 * picture.shape[0]
    assert json.loads((tmp_path / "member0" / "curve.jsonl").read_text().splitlines()[0])["loss"] == 2
