"""The pointing game and its chance, on maps whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from models.geometry import Geometry
from models.train.data import Inputs, Sample
from models.train.evaluation_figures import chance_of_hit, hits
from models.train.robustness import rank_correlation

# The square shows the right half of a source of 80 × 40, one to one.
GEOMETRY = Geometry(
    source_width_px=80,
    source_height_px=40,
    input_px=40,
    scale_x=1.0,
    scale_y=1.0,
    offset_x=-40.0,
    offset_y=0.0,
    content_x=0,
    content_y=0,
    content_width=40,
    content_height=40,
)


def inputs() -> Inputs:
    sample = Sample(
        path=Path("a.png"),
        split="val",
        view="hand_pa",
        abnormal=True,
        group="1",
        boxes=((60, 10, 70, 20), (42, 2, 46, 4)),
    )
    tensors = np.zeros((1, 2, 40, 40), np.uint8)
    tensors[0, 1, :, :20] = 255
    tensors[0, 1, 10:20, 20:30] = 255
    return Inputs(samples=(sample,), tensors=tensors, geometries=(GEOMETRY,))


@pytest.mark.parametrize(
    ("row", "column", "expected"), [(3, 5, True), (3, 7, True), (3, 8, False), (0, 1, True), (9, 9, False)]
)
def test_pointing(row: int, column: int, expected: bool) -> None:
    maps = np.zeros((1, 10, 10), np.float32)
    maps[0, row, column] = 1
    assert hits(inputs(), maps).tolist() == [expected]


def test_chance_is_the_boxed_share_of_the_foreground() -> None:
    assert chance_of_hit(inputs())[0] == pytest.approx((10 * 10 + 4 * 2) / (40 * 20 + 10 * 10))


def test_rank_correlation() -> None:
    values = np.array([3.0, 1.0, 2.0], np.float32)
    assert rank_correlation(values, 10 * values) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)
