"""Regions through the inverse geometry: a defect planted in a phantom is found again, however the hand lies.

The defect is a block of pixels at full brightness on the drawn hand, and the anomaly map is where the
network's own input shows that block: so the whole way is tested, from source pixels to the square and back.
"""

import io

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from models.findings import find_regions
from models.geometry import GeometrySpec, ModelInput, model_input
from models.radiograph import Radiograph
from service.contract import Region
from service.report.build import build_study
from service.report.inputs import SourceInstance
from service.report.strips import legend
from skiagraph.phantom import PhantomKind, draw
from skiagraph.settings.report import ReportSettings
from tests.service.report.studies import MANIFEST, MODEL, header, request, result

_INPUT_PX = 384
_WHITE = 4095  # phantoms have 12 bits
_CALIBRATION = MANIFEST.calibration.model_copy(update={"region_threshold": 0.5})


def planted(
    width: int, height: int, seed: int, turns: int
) -> tuple[NDArray[np.uint16], tuple[int, int, int, int]]:
    """A phantom turned by quarter turns, and its block (left, top, right, bottom) in the turned picture."""
    phantom = draw(PhantomKind.PLAIN, seed=seed, width=width, height=height)
    pixels = (phantom.pixels * 0.5).astype(np.uint16)
    block = np.zeros_like(pixels, bool)
    block[int(0.52 * height) : int(0.6 * height), int(0.45 * width) : int(0.57 * width)] = True
    pixels[block] = _WHITE
    turned, where = np.rot90(pixels, turns).copy(), np.nonzero(np.rot90(block, turns))
    return turned, (where[1].min(), where[0].min(), where[1].max() + 1, where[0].max() + 1)


def through_the_square(pixels: NDArray[np.uint16]) -> ModelInput:
    radiograph = Radiograph(
        pixels=pixels << 4,
        source_width_px=pixels.shape[1],
        source_height_px=pixels.shape[0],
        polarity_known=True,
    )
    shown = model_input(
        radiograph, input_px=_INPUT_PX, spec=GeometrySpec(low_percent=0.0, high_percent=100.0)
    )
    assert isinstance(shown, ModelInput)
    return shown


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize(("width", "height"), [(373, 454), (454, 373), (420, 420), (300, 640), (640, 300)])
def test_a_planted_block_is_found_to_two_pixels(width: int, height: int, turns: int) -> None:
    pixels, (left, top, right, bottom) = planted(width, height, seed=7, turns=turns)
    shown = through_the_square(pixels)
    anomaly_map = (shown.tensor[0] > 0.85).astype(np.float32)
    regions = find_regions(anomaly_map, shown.geometry, _CALIBRATION)
    assert len(regions) == 1
    found = regions[0]
    assert (found.x, found.y) == pytest.approx((left, top), abs=2)
    assert (found.x + found.width, found.y + found.height) == pytest.approx((right, bottom), abs=2)


@pytest.mark.parametrize("turns", [0, 1])
def test_report_and_picture_mark_the_same_place(turns: int) -> None:
    pixels, (left, top, right, bottom) = planted(900, 1120, seed=3, turns=turns)
    height, width = pixels.shape
    region = Region(x=left, y=top, width=right - left, height=bottom - top, score=4.0)
    anomaly_map = np.zeros((height, width), np.float32)
    anomaly_map[top:bottom, left:right] = 99.0
    report, heatmap = build_study(
        request=request(),
        sources=[
            SourceInstance(
                dataset=header(),
                display=(pixels >> 4).astype(np.uint8),
                source_width_px=width,
                source_height_px=height,
                result=result("1.2.3.4.5.6", regions=(region,)),
                anomaly_map=anomaly_map,
            )
        ],
        model=MODEL,
        manifest=MANIFEST,
        settings=ReportSettings(),
    )
    assert heatmap.picture is not None
    picture = heatmap.picture.astype(int)
    banner = heatmap.picture.shape[0] - height - _legend_height(heatmap.picture, width, height)
    coloured = (picture[banner : banner + height, :, 0] - picture[banner : banner + height, :, 2]) > 40
    rows, columns = np.nonzero(coloured)
    assert (columns.min(), columns.max() + 1) == pytest.approx((left, right), abs=4)
    assert (rows.min(), rows.max() + 1) == pytest.approx((top, bottom), abs=4)
    dataset = pydicom.dcmread(io.BytesIO(report.data))
    assert f"{float(left)}" in str(_graphic_data(dataset))


def _legend_height(picture: NDArray[np.uint8], width: int, height: int) -> int:
    return legend(width, height, result("1.2.3"), MANIFEST).shape[0]


def _graphic_data(dataset: pydicom.Dataset) -> list[float]:
    pending = list(dataset.ContentSequence)
    while pending:
        item = pending.pop()
        if "GraphicData" in item:
            return list(item.GraphicData)
        pending.extend(item.get("ContentSequence", []))
    raise AssertionError("the report holds no region")
