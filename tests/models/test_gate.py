"""The input gate: thumbnails are a function of what is shown, and decisions of probabilities and manifest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.gate import content_box, decide, thumbnail, work_copy
from models.package import Gate
from models.radiograph import Radiograph
from models.rejection import RejectionCode
from models.train.gate import CLASSES
from skiagraph.phantom import PhantomKind, draw

GATE = Gate(thumbnail_px=112, classes=CLASSES, threshold=0.5)
Pixels = NDArray[np.uint8] | NDArray[np.uint16]


def radiograph(pixels: Pixels) -> Radiograph:
    height, width = pixels.shape
    return Radiograph(pixels=pixels, source_width_px=width, source_height_px=height, polarity_known=True)


@pytest.fixture(scope="module")
def hand() -> NDArray[np.uint16]:
    return draw(PhantomKind.PLAIN, seed=0).pixels


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (40, 30), (454, 373), (2500, 2048)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_thumbnail_has_its_shape_and_range_whatever_comes(size: tuple[int, int], dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, size, dtype=dtype)
    found = thumbnail(radiograph(pixels), 112)
    assert found.shape == (1, 112, 112)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("grey", [0, 1000, 65535])
def test_a_blank_film_gives_a_grey_thumbnail(grey: int) -> None:
    found = thumbnail(radiograph(np.full((300, 200), grey, np.uint16)), 64)
    assert np.ptp(found) == 0


def test_brightness_and_contrast_do_not_change_a_thumbnail(hand: NDArray[np.uint16]) -> None:
    brighter = (hand * 9 + 3000).astype(np.uint16)
    assert np.abs(thumbnail(radiograph(hand), 112) - thumbnail(radiograph(brighter), 112)).mean() < 0.004


def test_an_inverted_film_gives_the_inverse(hand: NDArray[np.uint16]) -> None:
    inverted = thumbnail(radiograph(np.asarray(4095 - hand, np.uint16)), 112)
    assert np.abs(1 - inverted - thumbnail(radiograph(hand), 112)).mean() < 0.01


def test_a_small_limb_on_a_large_film_is_found(hand: NDArray[np.uint16]) -> None:
    film = np.full((2600, 2600), int(np.median(hand[:, :20])), np.uint16)
    film[700 : 700 + hand.shape[0], 1200 : 1200 + hand.shape[1]] = hand
    picture = work_copy(film)
    top, bottom, left, right = content_box(picture, float(np.ptp(picture)))
    scale = 2600 / picture.shape[0]
    assert 600 < top * scale < 900
    assert 1600 < bottom * scale < 2150
    assert 1100 < left * scale < 1500
    assert 1900 < right * scale < 2300


@pytest.mark.parametrize(
    ("probabilities", "code"),
    [
        ((0.9, 0.1, 0.0, 0.0, 0.0), None),
        ((0.5, 0.0, 0.5, 0.0, 0.0), None),
        ((0.49, 0.3, 0.1, 0.1, 0.01), RejectionCode.FOREARM),
        ((0.0, 0.1, 0.8, 0.1, 0.0), RejectionCode.MULTIPLE_VIEWS),
        ((0.2, 0.1, 0.1, 0.6, 0.0), RejectionCode.NOT_A_HAND),
        ((0.0, 0.0, 0.0, 0.1, 0.9), RejectionCode.NOT_A_RADIOGRAPH),
        ((float("nan"),) * 5, RejectionCode.FOREARM),
    ],
)
def test_decisions(probabilities: tuple[float, ...], code: RejectionCode | None) -> None:
    found = decide(np.array(probabilities, np.float32), GATE)
    assert (found.code if found else None) == code


def test_reasons_are_sentences_for_people() -> None:
    reasons = {decide(row, GATE).reason for row in np.eye(5)[1:]}  # type: ignore[union-attr]
    assert len(reasons) == 4
    assert "a forearm or elbow: outside what the model knows" in reasons
    assert "several views on one film: send each as its own instance" in reasons


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_the_threshold_alone_decides(values: list[float]) -> None:
    probabilities = np.array(values, np.float64)
    assert (decide(probabilities, GATE) is None) == (probabilities[0] >= GATE.threshold)


def test_another_number_of_probabilities_is_an_error() -> None:
    with pytest.raises(ValueError, match="probabilities for 5 classes"):
        decide(np.zeros(3), GATE)
