"""The straight line in one process."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from models.rejection import Rejection, RejectionCode
from runners.analysis import Analysis, PrepareOptions, Scored, prepare
from runners.decoded import DecodeLimits
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.settings import Settings


@pytest.fixture(scope="module")
def analysis() -> Iterator[Analysis]:
    with Analysis(Settings()) as opened:
        yield opened


@pytest.fixture(scope="module")
def hand(shared_data: Path) -> bytes:
    return (shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm").read_bytes()


def test_the_real_hand_is_scored_with_a_map_of_the_size_of_its_picture(
    analysis: Analysis, hand: bytes
) -> None:
    scored = analysis.analyse(hand)
    assert isinstance(scored, Scored)
    assert scored.display.shape == (1250, 1024)
    drawn = scored.map_on_display()
    assert drawn.shape == (1250, 1024)
    assert drawn.max() <= scored.finding.score * 1.01


def test_a_region_surrounds_the_peak_of_the_map(analysis: Analysis) -> None:
    scored = analysis.analyse(saved(as_dicom(draw(PhantomKind.FRACTURE, seed=12))))
    assert isinstance(scored, Scored)
    drawn = scored.map_on_display()
    # The peak, in the picture and in the source, is inside the region that was found for it.
    y, x = (float(place) for place in np.unravel_index(np.argmax(drawn), drawn.shape))
    first = scored.finding.regions[0]
    assert first.x - 4 <= x <= first.x + first.width + 4
    assert first.y - 4 <= y <= first.y + first.height + 4


def saved(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("keyword", ["ImagerPixelSpacing", "PixelAspectRatio"])
@pytest.mark.parametrize("axis", [0, 1], ids=["flat pixels", "narrow pixels"])
def test_pixels_that_are_not_square_are_shown_as_they_are_seen(
    analysis: Analysis, keyword: str, axis: int
) -> None:
    """Each row or column doubled, and a header that says so: the same finding, in the doubled matrix."""
    phantom = draw(PhantomKind.FRACTURE, seed=12, width=512, height=640)
    doubled = as_dicom(replace(phantom, pixels=np.repeat(phantom.pixels, 2, axis=axis)))
    if keyword == "PixelAspectRatio":
        del doubled.ImagerPixelSpacing
    setattr(doubled, keyword, [1, 2] if axis == 0 else [2, 1])
    square = analysis.analyse(saved(as_dicom(phantom)))
    seen = analysis.analyse(saved(doubled))
    assert isinstance(square, Scored)
    assert isinstance(seen, Scored)
    assert seen.finding.score == pytest.approx(square.finding.score, abs=1e-3)
    scale_x, scale_y = (1, 2) if axis == 0 else (2, 1)
    assert square.finding.regions
    for one, other in zip(square.finding.regions, seen.finding.regions, strict=True):
        assert (other.x, other.y) == pytest.approx((one.x * scale_x, one.y * scale_y), abs=4)
        assert (other.width, other.height) == pytest.approx(
            (one.width * scale_x, one.height * scale_y), abs=4
        )
    assert seen.map_on_display().shape == seen.display.shape


def test_pixels_that_no_detector_has_are_refused(analysis: Analysis) -> None:
    phantom = as_dicom(draw(PhantomKind.PLAIN, seed=1, width=320, height=400))
    phantom.ImagerPixelSpacing = [0.1, 1.0]
    outcome = analysis.analyse(saved(phantom))
    assert isinstance(outcome, Rejection)
    assert outcome.code is RejectionCode.INVALID_HEADER
    assert "0.1 times as high as wide" in outcome.reason


@pytest.mark.parametrize(
    "name",
    [
        "rg3_ankle_fuji_mono1_rle.dcm",
        "rg3_ankle_fuji_mono1_jlsl.dcm",
        "rg3_ankle_fuji_mono1_j2kr.dcm",
        "chest_canon_dx_mono1_j2kr.dcm",
        "dental_cr_mono1_modalitylut_jpll.dcm",
    ],
)
def test_what_is_no_hand_is_refused_by_the_gate_and_scored_without_it(
    analysis: Analysis, shared_data: Path, name: str
) -> None:
    data = (shared_data / "dicom" / name).read_bytes()
    refused = analysis.analyse(data)
    assert isinstance(refused, Rejection)
    assert refused.code is RejectionCode.NOT_A_HAND
    assert isinstance(analysis.analyse(data, gate=False), Scored)


@pytest.mark.parametrize(("side", "shape"), [(1600, (1250, 1024)), (700, (625, 512)), (0, (2500, 2048))])
def test_the_display_has_the_size_the_heatmap_asks_for(
    analysis: Analysis, hand: bytes, side: int, shape: tuple[int, int]
) -> None:
    options = PrepareOptions(limits=DecodeLimits(), decode_long_side_px=1600, display_long_side_px=side)
    prepared = prepare(hand, package=analysis.package, gatekeeper=None, options=options)
    assert not isinstance(prepared, Rejection)
    assert prepared.display.shape == shape
    # What the model is shown does not depend on how the heatmap is drawn.
    usual = analysis.prepare(hand, gate=False)
    assert not isinstance(usual, Rejection)
    assert np.array_equal(prepared.model_input.tensor, usual.model_input.tensor)


def test_unknown_operating_point_lists_those_there_are() -> None:
    with pytest.raises(KeyError, match="specificity-95"):
        Analysis(Settings(), operating_point="never")
