"""Planted defects: seeded, visible, labelled where they are, and never outside the patient."""

import numpy as np
import pytest

from models.train import defects
from models.train.crops import make_batch
from models.train.defects import plant
from models.train.golden import golden_inputs

GREY, MASK = golden_inputs(160, 1)[0]
ROOT = np.sqrt(GREY)


@pytest.mark.parametrize("draw", defects._DEFECTS, ids=lambda draw: draw.__name__)
def test_each_defect_changes_bone_and_says_where(
    draw: defects._Defect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defects, "_DEFECTS", (draw,))
    monkeypatch.setattr(defects, "_SHARES", (1.0,))
    visible = 0
    for seed in range(10):
        planted = plant(ROOT, MASK, ROOT[::-1], count=1, rng=np.random.default_rng(seed))
        change = np.abs(planted.crop - ROOT)
        assert planted.crop[MASK == 0].max() == 0
        assert 0 <= planted.crop.min() <= planted.crop.max() <= 1
        if planted.label.any():
            visible += 1
            assert change[planted.label > 0].mean() > 5 * change[planted.label == 0].mean()
    assert visible >= 5


def test_the_same_seed_plants_the_same_defect() -> None:
    one, other, third = (
        plant(ROOT, MASK, ROOT, count=2, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.crop, other.crop)
    assert not np.array_equal(one.crop, third.crop)


def test_without_bone_nothing_is_planted() -> None:
    flat = np.full((96, 96), 0.4, np.float32)
    planted = plant(flat, np.ones_like(flat), flat, count=1, rng=np.random.default_rng(0))
    assert np.array_equal(planted.crop, flat)
    assert not planted.label.any()


def test_a_batch_holds_plain_and_broken_crops() -> None:
    tensors = np.rint(255 * np.stack([ROOT, MASK]))[None].astype(np.uint8).repeat(2, axis=0)
    batch = make_batch(tensors, np.array([0.5, 0.5]), size=24, crop_px=96, rng=np.random.default_rng(0))
    broken = batch.label.any(axis=(1, 2, 3))
    assert 4 < broken.sum() < 22
    assert (batch.root * (1 - batch.mask)).max() == 0
