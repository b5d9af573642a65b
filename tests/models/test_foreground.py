"""The foreground mask on drawn limbs, with what disturbs it in practice."""

import numpy as np

from models.foreground import foreground_mask
from models.geometry import shrink
from tests.models.limbs import limb


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def drawn() -> tuple[np.ndarray, np.ndarray]:
    work = shrink(limb(320, 320), 320)
    return work, (work > 0.1 * 255).astype(np.uint8)


def test_the_limb_is_found() -> None:
    work, truth = drawn()
    assert overlap(foreground_mask(work), truth) > 0.85


def test_film_borders_and_grey_air_are_left_out() -> None:
    work, truth = drawn()
    work[:, :20] += 12  # a strip of uneven air
    work[:, -15:] = 250  # film border
    work[-10:] = 250
    found = foreground_mask(work)
    assert overlap(found[:300, 30:300], truth[:300, 30:300]) > 0.85
    assert found[40:300, -10:].mean() < 0.05
    assert found[40:, :15].mean() < 0.05


def test_a_limb_that_fills_the_radiograph_is_all_foreground() -> None:
    rng = np.random.default_rng(0)
    assert foreground_mask(rng.normal(120, 4, (200, 150)).astype(np.float32)).all()


def test_a_band_of_scatter_across_the_film_is_left_out() -> None:
    work, truth = drawn()
    work[:60] = np.maximum(work[:60], 40)  # brighter than air, darker than the limb
    found = foreground_mask(work)
    assert found[5:50, -60:].mean() < 0.05
    assert overlap(found[80:], truth[80:]) > 0.7
