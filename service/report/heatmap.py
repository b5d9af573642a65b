"""The heatmap as a picture: the radiograph, the anomaly map over it, outlined regions, banner and legend."""

from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.package import Manifest
from service.contract import RadiographResult
from service.report.colours import OUTLINE, Picture, Scale, overlay
from service.report.lettering import typeface
from service.report.strips import banner, legend
from skiagraph.settings.report import ReportSettings

_SMALLEST_LONG_SIDE_PX: Final = 900  # smaller radiographs are enlarged, or the legend could not be read
_HALO: Final = (0, 0, 0)
Pixels = TypeVar("Pixels", np.uint8, np.float32)


def draw(
    *,
    display: Picture,
    anomaly_map: NDArray[np.float32],
    source_width_px: int,
    source_height_px: int,
    result: RadiographResult,
    manifest: Manifest,
    settings: ReportSettings,
) -> Picture:
    """(h, w, 3) uint8 RGB of a scored radiograph.

    display: (h, w) uint8, bright as in MONOCHROME2. anomaly_map: (h', w') float32 covering the same field.
    `result.regions` are in pixels of the source, `source_width_px` by `source_height_px`.
    """
    radiograph = annotated(
        display=display,
        anomaly_map=anomaly_map,
        source_width_px=source_width_px,
        source_height_px=source_height_px,
        result=result,
        manifest=manifest,
        settings=settings,
    )
    height, width = radiograph.shape[:2]
    above = banner(width, height, result, manifest, settings)
    below = legend(width, height, result, manifest)
    return np.concatenate([above, radiograph, below])


def annotated(
    *,
    display: Picture,
    anomaly_map: NDArray[np.float32],
    source_width_px: int,
    source_height_px: int,
    result: RadiographResult,
    manifest: Manifest,
    settings: ReportSettings,
) -> Picture:
    """As `draw`, without the margins."""
    width, height = drawn_size(display.shape[1], display.shape[0], settings.heatmap_long_side_px)
    grey = _resized(display, width, height)
    radiograph = overlay(grey, _resized(anomaly_map, width, height), Scale.of(manifest.calibration))
    _outline(radiograph, result, width / max(source_width_px, 1), height / max(source_height_px, 1))
    return radiograph


def drawn_size(width: int, height: int, limit_px: int) -> tuple[int, int]:
    """The size at which a radiograph is drawn: halved to fit `limit_px` (0: never), enlarged when tiny."""
    long_side = max(width, height)
    if long_side < _SMALLEST_LONG_SIDE_PX:
        factor = -(-_SMALLEST_LONG_SIDE_PX // long_side)
        return width * factor, height * factor
    while 0 < limit_px < max(width, height):
        width, height = (width + 1) // 2, (height + 1) // 2
    return width, height


def _resized(image: NDArray[Pixels], width: int, height: int) -> NDArray[Pixels]:
    if image.shape == (height, width):
        return np.ascontiguousarray(image)
    shrinks = width * height < image.size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=how).astype(image.dtype, copy=False)


def _outline(picture: Picture, result: RadiographResult, scale_x: float, scale_y: float) -> None:
    """A thin frame around each region, its rank outside the corner; the worst is drawn last, on top."""
    size = max(14, round(max(picture.shape[:2]) / 52))
    line = max(1, round(size / 10)) if result.abnormal else 1
    for rank, region in reversed(list(enumerate(result.regions, start=1))):
        left, top = round(region.x * scale_x), round(region.y * scale_y)
        right, bottom = (
            round((region.x + region.width) * scale_x),
            round((region.y + region.height) * scale_y),
        )
        for thickness, colour in ((line + 2, _HALO), (line, OUTLINE)):
            cv2.rectangle(picture, (left, top), (right, bottom), colour, thickness, cv2.LINE_AA)
        _tag(picture, str(rank), size, left, top, right)


def _tag(picture: Picture, text: str, size: int, left: int, top: int, right: int) -> None:
    """The rank in a small tag: above the frame's corner, or beside it where there is no room above."""
    tag_width = round(typeface(size).getlength(text)) + size // 2
    tag_height = round(size * 1.2)
    height, width = picture.shape[:2]
    x, y = (left, top - tag_height - 1) if top > tag_height else (right + 2, top)
    x, y = min(max(x, 0), width - tag_width), min(max(y, 0), height - tag_height)
    tag = Image.new("RGB", (tag_width, tag_height), _HALO)
    ImageDraw.Draw(tag).text(
        (tag_width / 2, tag_height / 2), text, fill=OUTLINE, font=typeface(size), anchor="mm"
    )
    picture[y : y + tag_height, x : x + tag_width] = np.asarray(tag)
