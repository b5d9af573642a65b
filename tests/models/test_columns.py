"""The paper's preprocessing columns: each switches off what it says, and equalization equals OpenCV's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.geometry import ModelInput, model_input
from models.train.columns import COLUMNS, THRESHOLDS, equalized, equalized_exactly
from skiagraph.phantom import PhantomKind, draw
from tests.models.limbs import limb, radiograph

GREY = arrays(np.float32, (12, 16), elements=st.integers(0, 255).map(lambda level: level / 255))
MASK = arrays(np.float32, (12, 16), elements=st.sampled_from([0.0, 1.0]))


def shown(column: str) -> ModelInput:
    pixels = np.asarray(255 - limb(300, 260), np.uint8)  # inverted
    pixels[:, -10:] = 0
    found = model_input(radiograph(pixels, polarity_known=False), input_px=128, spec=COLUMNS[column].geometry)
    assert isinstance(found, ModelInput)
    return found


def by_graph(grey: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return equalized(torch.from_numpy(grey)[None, None], torch.from_numpy(mask)[None, None]).numpy()[0, 0]


def test_raw_shows_the_whole_film_as_it_comes() -> None:
    raw = shown("raw")
    assert (raw.geometry.content_width, raw.geometry.content_height) == (111, 128)
    content = raw.tensor[0, :, raw.geometry.content_x : raw.geometry.content_x + 111]
    assert content[100:, :5].mean() > 0.8  # air stays bright
    assert raw.tensor[1].sum() == 111 * 128


def test_crop_shows_the_upright_hand_on_its_background() -> None:
    crop, raw = shown("crop"), shown("raw")
    assert crop.tensor[0][crop.tensor[1] > 0].mean() < 0.4
    assert crop.geometry.content_width < 0.9 * raw.geometry.content_width  # the box is narrower than the film
    content = crop.geometry.content_width * crop.geometry.content_height
    assert crop.tensor[1].sum() == content


def test_full_is_the_crop_and_black_outside_the_hand() -> None:
    full, crop = shown("full"), shown("crop")
    assert full.geometry == crop.geometry
    assert full.tensor[1].sum() < 0.8 * crop.tensor[1].sum()
    inside = full.tensor[1] > 0
    assert np.array_equal(full.tensor[0][inside], crop.tensor[0][inside])
    assert full.tensor[0][~inside].max() == 0


def test_there_are_six_columns() -> None:
    assert list(COLUMNS) == ["raw", "raw+HE", "crop", "crop+HE", "full", "full+HE"]
    assert [column.equalize for column in COLUMNS.values()] == [False, True] * 3


@given(GREY, MASK)
@settings(max_examples=60, deadline=None)
def test_equalization_is_exact_but_for_what_shares_a_bin(grey: np.ndarray, mask: np.ndarray) -> None:
    inside = mask > 0
    levels = grey[inside]
    found, exact = by_graph(grey, mask), equalized_exactly(grey, mask)
    assert found[~inside].sum() == 0
    if np.unique(levels).size < 2:
        return  # one level: OpenCV leaves it, there is nothing to equalize
    counts, _ = np.histogram(np.ceil(levels * THRESHOLDS), bins=THRESHOLDS + 1)
    lowest = (levels == levels.min()).mean()
    tolerance = (counts.max() / levels.size + lowest * (levels.min() > 0)) / (1 - lowest) + 1 / 255
    assert np.abs(found - exact)[inside].max() <= tolerance


@given(GREY)
@settings(max_examples=30, deadline=None)
def test_equalization_keeps_the_order(grey: np.ndarray) -> None:
    found = by_graph(grey, np.ones_like(grey)).ravel()
    order = np.argsort(grey.ravel(), kind="stable")
    assert (np.diff(found[order]) >= -1e-6).all()
    assert 0 <= found.min() <= found.max() <= 1 + 1e-5


@pytest.mark.parametrize("seed", [0, 1])
def test_on_a_drawn_hand_it_is_within_two_percent(seed: int) -> None:
    pixels = draw(PhantomKind.PLAIN, seed=seed).pixels
    found = model_input(radiograph(pixels), input_px=256, spec=COLUMNS["full"].geometry)
    assert isinstance(found, ModelInput)
    grey, mask = found.tensor
    assert np.abs(by_graph(grey, mask) - equalized_exactly(grey, mask)).max() <= 0.02
