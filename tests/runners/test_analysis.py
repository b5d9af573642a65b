"""The straight line in one process."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

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
    assert scored.prepared.display.shape == (1250, 1024)
    drawn = scored.map_on_display()
    assert drawn.shape == (1250, 1024)
    assert drawn.max() <= scored.finding.score * 1.01


def test_a_region_surrounds_the_peak_of_the_map(analysis: Analysis) -> None:
    phantom = as_dicom(draw(PhantomKind.FRACTURE, seed=12))
    file = io.BytesIO()
    phantom.save_as(file, enforce_file_format=True)
    scored = analysis.analyse(file.getvalue())
    assert isinstance(scored, Scored)
    drawn = scored.map_on_display()
    # The peak, in the picture and in the source, is inside the region that was found for it.
    y, x = (float(place) for place in np.unravel_index(np.argmax(drawn), drawn.shape))
    first = scored.finding.regions[0]
    assert first.x - 4 <= x <= first.x + first.width + 4
    assert first.y - 4 <= y <= first.y + first.height + 4


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
