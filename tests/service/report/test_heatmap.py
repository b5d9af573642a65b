"""The picture: a normal hand stays plain, regions lie where they are, nothing covers the anatomy."""

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.contract import Region
from service.report.colours import OUTLINE, Scale, overlay
from service.report.heatmap import draw, drawn_size
from skiagraph.settings.report import ReportSettings
from tests.service.report.studies import MANIFEST, anomaly_map, radiograph, result

Picture = NDArray[np.uint8]
_SCALE = Scale.of(MANIFEST.calibration)


def drawn(
    display: Picture,
    peak: float = 0.0,
    regions: tuple[Region, ...] = (),
    reduced: int = 1,
    settings: ReportSettings | None = None,
    **changes: Any,
) -> Picture:
    height, width = display.shape
    return draw(
        display=display,
        anomaly_map=anomaly_map(width, height, peak),
        source_width_px=width * reduced,
        source_height_px=height * reduced,
        result=result("1.2.3", regions=regions, **changes),
        manifest=MANIFEST,
        settings=settings or ReportSettings(),
    )


def test_a_map_of_normal_values_leaves_the_radiograph_as_it_is() -> None:
    display = radiograph(960, 1200)
    for ordinary in (0.0, MANIFEST.calibration.map_floor, MANIFEST.calibration.score_quantiles[50]):
        plain = overlay(display, np.full(display.shape, ordinary, np.float32), _SCALE)
        assert (plain == display[:, :, np.newaxis]).all()


def test_opacity_grows_with_the_percentile_and_the_anatomy_stays_visible() -> None:
    dark, bright = np.full((1, 1), 20, np.uint8), np.full((1, 1), 220, np.uint8)
    quantiles = MANIFEST.calibration.score_quantiles
    values = [quantiles[percent] for percent in (50, 60, 80, 95, 100)] + [99.0]
    contrasts = []
    for value in values:
        over = np.full((1, 1), value, np.float32)
        difference = overlay(bright, over, _SCALE).astype(int) - overlay(dark, over, _SCALE).astype(int)
        contrasts.append(int(difference.min()))
    assert contrasts == sorted(contrasts, reverse=True)
    assert contrasts[0] == 200
    assert contrasts[-1] >= 0.35 * 200


def test_colours_rise_evenly_in_lightness_for_every_reader() -> None:
    values = np.interp(np.linspace(0, 1, 64), _SCALE.positions, _SCALE.values).astype(np.float32)
    colours = overlay(np.full((1, 64), 60, np.uint8), values[np.newaxis], _SCALE)
    lightness = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert np.diff(lightness).min() >= -1  # rounding, where the map is all but transparent
    assert lightness[-1] - lightness[0] > 80
    assert np.diff(lightness).max() <= 6


@pytest.mark.parametrize(("width", "height", "reduced"), [(960, 1200, 1), (1024, 1250, 2), (373, 454, 1)])
def test_regions_are_outlined_where_they_are(width: int, height: int, reduced: int) -> None:
    region = Region(x=0.3 * width * reduced, y=0.4 * height * reduced, width=80.0, height=120.0, score=5)
    display = np.full((height, width), 90, np.uint8)
    plain, outlined = drawn(display, reduced=reduced), drawn(display, regions=(region,), reduced=reduced)
    # The sentence above the picture counts the regions: compare from the bottom, where the legends are alike.
    shared = min(len(plain), len(outlined))
    rows, columns = np.nonzero(
        (outlined[-shared:] == OUTLINE).all(axis=2) & (plain[-shared:] != OUTLINE).any(axis=2)
    )
    scale = drawn_size(width, height, 1600)[0] / (width * reduced)
    assert columns.min() == pytest.approx(region.x * scale, abs=4)
    assert columns.max() == pytest.approx((region.x + region.width) * scale, abs=4)
    assert rows.max() - rows.min() >= region.height * scale - 4


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((2048, 2500), 1600, (1024, 1250)),
        ((2048, 2500), 0, (2048, 2500)),
        ((2049, 2501), 1600, (1025, 1251)),
        ((373, 454), 1600, (746, 908)),
        ((1200, 1600), 1600, (1200, 1600)),
        ((100, 80), 0, (900, 720)),
    ],
)
def test_large_radiographs_are_halved_and_tiny_ones_enlarged(
    size: tuple[int, int], limit: int, expected: tuple[int, int]
) -> None:
    assert drawn_size(*size, limit) == expected


def test_margins_hold_the_text_and_the_radiograph_is_untouched_by_it() -> None:
    display = radiograph(1000, 1200)
    picture = drawn(display)
    top = next(row for row in range(len(picture)) if (picture[row] == display[0][:, np.newaxis]).all())
    assert (picture[top : top + 1200] == display[:, :, np.newaxis]).all()
    assert top > 20
    assert len(picture) - top - 1200 > 60


def test_the_banner_goes_with_its_setting() -> None:
    display = radiograph(960, 1200)
    with_banner = drawn(display, settings=ReportSettings(research_use_only=True))
    without = drawn(display, settings=ReportSettings(research_use_only=False))
    assert len(with_banner) > len(without)


@pytest.mark.parametrize("count", [1, 40])
def test_regions_beyond_the_edges_do_not_crash(count: int) -> None:
    regions = tuple(
        Region(x=-20 + 30 * index, y=-5 + 35 * index, width=0.0 if index % 2 else 400.0, height=50, score=4)
        for index in range(count)
    )
    assert drawn(radiograph(300, 200), peak=6.0, regions=regions).dtype == np.uint8


def test_a_map_in_other_units_than_the_score_is_scaled_from_floor_to_ceiling() -> None:
    calibration = MANIFEST.calibration.model_copy(
        update={"map_floor": 0.001, "region_threshold": 0.02, "map_ceiling": 0.1}
    )
    scale = Scale.of(calibration)
    assert scale.ticks == ()
    assert scale.position(0.001) == 0
    assert scale.position(0.1) == 1
