"""Percentiles, verdict and regions."""

import numpy as np
import pytest

from models.findings import find_regions, interpret, percentile
from models.geometry import Geometry
from models.package import PACKAGES, Calibration, ModelPackage

QUANTILES = tuple(float(value) for value in range(101))
CALIBRATION = Calibration(
    score_quantiles=QUANTILES,
    novelty_quantiles=QUANTILES,
    map_floor=0.5,
    region_threshold=4.0,
    map_ceiling=9.0,
    normals=100,
)
# The square shows source pixels (100, 50) to (484, 434), one to one.
GEOMETRY = Geometry(
    source_width_px=600,
    source_height_px=450,
    input_px=384,
    scale_x=1.0,
    scale_y=1.0,
    offset_x=-100.0,
    offset_y=-50.0,
    content_x=0,
    content_y=0,
    content_width=384,
    content_height=384,
)


def peaks(*places: tuple[int, int, float]) -> np.ndarray:
    anomaly_map = np.zeros((96, 96), np.float32)
    for row, column, value in places:
        anomaly_map[row : row + 2, column : column + 3] = value
    return anomaly_map


def test_a_region_lies_where_the_map_peaks() -> None:
    (region,) = find_regions(peaks((10, 20, 6.0)), GEOMETRY, CALIBRATION)
    assert (region.x, region.y, region.width, region.height) == (180, 90, 12, 8)
    assert region.score == 6


def test_regions_come_highest_first_and_at_most_five() -> None:
    found = find_regions(peaks(*((8 * index, 40, 5.0 + index) for index in range(8))), GEOMETRY, CALIBRATION)
    assert [region.score for region in found] == [12, 11, 10, 9, 8]


def test_below_the_threshold_there_is_no_region() -> None:
    assert find_regions(peaks((10, 20, 3.9)), GEOMETRY, CALIBRATION) == ()


def test_a_region_stays_inside_the_source() -> None:
    (region,) = find_regions(peaks((92, 20, 6.0)), GEOMETRY, CALIBRATION)
    assert region.y + region.height <= 450


@pytest.mark.parametrize(("value", "expected"), [(-5, 0), (0, 0), (50.5, 50.5), (100, 100), (1e6, 100)])
def test_percentile(value: float, expected: float) -> None:
    assert percentile(value, QUANTILES) == pytest.approx(expected)


def test_novelty_never_changes_the_verdict() -> None:
    manifest = ModelPackage.open(PACKAGES / "synthetic-defects").manifest
    point = manifest.operating_point()
    for novelty in (0.0, 1e6):
        for step, abnormal in ((-0.01, False), (0.01, True)):
            finding = interpret(
                score=point.threshold + step,
                novelty=novelty,
                anomaly_map=np.zeros((96, 96), np.float32),
                geometry=GEOMETRY,
                manifest=manifest,
                operating_point=point,
            )
            assert finding.abnormal is abnormal
            assert finding.percentile == pytest.approx(100 * point.specificity, abs=1)
