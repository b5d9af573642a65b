"""From a decoded radiograph to what the network is shown, with an exact way back.

Each step is a function of its own and each can be switched off by the manifest's `geometry`:
polarity, border crop, bounding box of the foreground, foreground mask. Everything but the last resize works
on a small copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from models.foreground import foreground_mask
from models.radiograph import Radiograph
from models.rejection import Rejection, RejectionCode

FloatArray = NDArray[np.float32]
MaskArray = NDArray[np.uint8]

_WORK_PX = 320  # longest side of the copy on which borders and foreground are found
_BLANK_SPAN = 0.01  # of the type's range: less contrast than this shows nothing


@dataclass(frozen=True, kw_only=True)
class GeometrySpec:
    """The geometry steps of a model package; a step that is off is left out, for ablations."""

    invert: bool = True
    crop_borders: bool = True
    locate: bool = True  # only the box around the foreground is shown
    segment: bool = True  # black outside the foreground
    margin: float = 0.04  # of the bounding box, on each side
    low_percent: float = 10.0  # this percentile of the cropped radiograph becomes 0 …
    high_percent: float = 99.7  # … and this one 1

    @classmethod
    def from_manifest(cls, values: Mapping[str, float | int | str | bool]) -> Self:
        """The spec of a manifest's `geometry`; ValueError names an unknown key."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(
                f"geometry has no step {', '.join(unknown)}: it knows {', '.join(sorted(known))}"
            )
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the network's square lies in the source, in edge coordinates: pixel i covers [i, i + 1).

    model = source * scale + offset, per axis. content_*: the part of the square that shows the radiograph.
    """

    source_width_px: int
    source_height_px: int
    input_px: int
    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    content_x: int
    content_y: int
    content_width: int
    content_height: int

    def to_model(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(…, 2) points x, y from source pixels to pixels of the network's square."""
        scale, offset = (self.scale_x, self.scale_y), np.array((self.offset_x, self.offset_y))
        model: NDArray[np.float64] = np.asarray(points, np.float64) * scale + offset
        return model

    def to_source(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(…, 2) points x, y from pixels of the network's square to source pixels."""
        moved: NDArray[np.float64] = np.asarray(points, np.float64) - (self.offset_x, self.offset_y)
        return moved / (self.scale_x, self.scale_y)

    def map_to_source(self, anomaly_map: NDArray[np.floating]) -> FloatArray:
        """(h, w) map of the square, resampled to (source_height_px, source_width_px); zero outside its
        content."""
        height, width = anomaly_map.shape
        across, down = width / self.input_px, height / self.input_px
        # Pixel centres lie at + .5 in edge coordinates: from the centres of the source to those of the map.
        matrix = np.array(
            [
                [self.scale_x * across, 0, (0.5 * self.scale_x + self.offset_x) * across - 0.5],
                [0, self.scale_y * down, (0.5 * self.scale_y + self.offset_y) * down - 0.5],
            ]
        )
        warped = cv2.warpAffine(
            np.ascontiguousarray(anomaly_map, np.float32),
            matrix,
            (self.source_width_px, self.source_height_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        mapped = np.asarray(warped, np.float32)
        corners = np.array([(self.content_x, self.content_y), (self._content_right, self._content_bottom)])
        (left, top), (right, bottom) = np.rint(self.to_source(corners)).astype(int)
        mapped[: max(0, top)] = 0
        mapped[max(0, bottom) :] = 0
        mapped[:, : max(0, left)] = 0
        mapped[:, max(0, right) :] = 0
        return mapped

    @property
    def _content_right(self) -> int:
        return self.content_x + self.content_width

    @property
    def _content_bottom(self) -> int:
        return self.content_y + self.content_height


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelInput:
    """tensor: (2, S, S) float32, grey 0..1 (0 outside the mask) and mask 0/1; geometry: the way back."""

    tensor: FloatArray
    geometry: Geometry


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of pixels, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


def model_input(radiograph: Radiograph, *, input_px: int, spec: GeometrySpec) -> ModelInput | Rejection:
    """What the network is shown; a radiograph that shows nothing is a Rejection BLANK."""
    pixels = radiograph.pixels
    work = shrink(pixels, _WORK_PX)
    if is_blank(work, full_range=np.iinfo(pixels.dtype).max):
        return Rejection(
            code=RejectionCode.BLANK, reason="the radiograph is blank: all of it has one brightness"
        )
    inverted = spec.invert and not radiograph.polarity_known and is_inverted(work)
    if inverted:
        work = _flip_grey(work, pixels)
    frame = exposed_frame(work) if spec.crop_borders else _whole(work)
    mask = np.zeros(work.shape, np.uint8)
    inside = work[frame.top : frame.bottom, frame.left : frame.right]
    foreground = foreground_mask(inside) if spec.locate or spec.segment else np.ones(inside.shape, np.uint8)
    mask[frame.top : frame.bottom, frame.left : frame.right] = foreground
    box = padded_box(mask, margin=spec.margin, frame=frame) if spec.locate else frame
    if not spec.segment:
        mask[:] = 1
    return _letterbox(radiograph, mask, box, inverted=inverted, input_px=input_px, spec=spec)


def shrink(pixels: NDArray[np.uint8] | NDArray[np.uint16], long_side: int) -> FloatArray:
    """A float copy whose longest side is at most `long_side`."""
    height, width = pixels.shape
    factor = min(1.0, long_side / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = pixels if factor == 1.0 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def is_blank(work: FloatArray, *, full_range: float) -> bool:
    """True when nearly all pixels share one brightness."""
    low, high = np.percentile(work, (0.5, 99.5))
    return bool(high - low < _BLANK_SPAN * full_range)


def is_inverted(work: FloatArray) -> bool:
    """True when bone seems dark: border ring and mean are both above mid-grey (a PNG or JPEG of unknown
    polarity)."""
    low, high = np.percentile(work, (0.5, 99.5))
    middle = (low + high) / 2
    ring = max(1, min(work.shape) // 16)
    border = np.concatenate(
        [work[:ring].ravel(), work[-ring:].ravel(), work[:, :ring].ravel(), work[:, -ring:].ravel()]
    )
    return bool(np.median(border) > middle and work.mean() > middle)


def exposed_frame(work: FloatArray) -> Box:
    """The radiograph without bright film or collimator strips along its edges, at most a sixth from each
    side."""
    low, high = np.percentile(work, (1, 99.5))
    bright = work > low + 0.75 * (high - low)
    height, width = work.shape
    rows, columns = bright.mean(axis=1) > 0.4, bright.mean(axis=0) > 0.4
    top, bottom = _strip(rows), _strip(rows[::-1])
    left, right = _strip(columns), _strip(columns[::-1])
    return Box(left=left, top=top, right=width - right, bottom=height - bottom)


def padded_box(mask: MaskArray, *, margin: float, frame: Box) -> Box:
    """The mask's bounding box, widened by `margin` of its longer side within `frame`; the frame if there is
    none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return frame
    pad = round(margin * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1))
    return Box(
        left=max(frame.left, int(columns[0]) - pad),
        top=max(frame.top, int(rows[0]) - pad),
        right=min(frame.right, int(columns[-1]) + 1 + pad),
        bottom=min(frame.bottom, int(rows[-1]) + 1 + pad),
    )


def _letterbox(
    radiograph: Radiograph, mask: MaskArray, box: Box, *, inverted: bool, input_px: int, spec: GeometrySpec
) -> ModelInput:
    """Cut the box out of the radiograph at its own resolution and centre it in a black square."""
    pixels = radiograph.pixels
    cut = _at_resolution_of(pixels, mask, box)
    factor = input_px / max(cut.width, cut.height)
    width, height = max(1, round(cut.width * factor)), max(1, round(cut.height * factor))
    x, y = (input_px - width) // 2, (input_px - height) // 2
    part = pixels[cut.top : cut.bottom, cut.left : cut.right]
    shown = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    grey = stretch(
        _flip_grey(shown.astype(np.float32), pixels) if inverted else shown.astype(np.float32), spec
    )
    shown_mask = cv2.resize(
        mask[box.top : box.bottom, box.left : box.right].astype(np.float32), (width, height)
    )
    tensor = np.zeros((2, input_px, input_px), np.float32)
    inside = (shown_mask >= 0.5).astype(np.float32)
    tensor[0, y : y + height, x : x + width] = grey * inside
    tensor[1, y : y + height, x : x + width] = inside
    reduced_x = pixels.shape[1] / radiograph.source_width_px
    reduced_y = pixels.shape[0] / radiograph.source_height_px
    geometry = Geometry(
        source_width_px=radiograph.source_width_px,
        source_height_px=radiograph.source_height_px,
        input_px=input_px,
        scale_x=reduced_x * width / cut.width,
        scale_y=reduced_y * height / cut.height,
        offset_x=x - cut.left * width / cut.width,
        offset_y=y - cut.top * height / cut.height,
        content_x=x,
        content_y=y,
        content_width=width,
        content_height=height,
    )
    return ModelInput(tensor=tensor, geometry=geometry)


def stretch(grey: FloatArray, spec: GeometrySpec) -> FloatArray:
    """Grey between two percentiles of what is shown, as 0..1."""
    sample = grey[:: max(1, grey.shape[0] // 128), :: max(1, grey.shape[1] // 128)]
    low, high = np.percentile(sample, (spec.low_percent, spec.high_percent))
    stretched: FloatArray = np.clip((grey - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return stretched


def _at_resolution_of(pixels: NDArray[np.uint8] | NDArray[np.uint16], work: MaskArray, box: Box) -> Box:
    across, down = pixels.shape[1] / work.shape[1], pixels.shape[0] / work.shape[0]
    left, top = round(box.left * across), round(box.top * down)
    return Box(
        left=left,
        top=top,
        right=max(left + 1, round(box.right * across)),
        bottom=max(top + 1, round(box.bottom * down)),
    )


def _flip_grey(grey: FloatArray, like: NDArray[np.uint8] | NDArray[np.uint16]) -> FloatArray:
    flipped: FloatArray = np.float32(np.iinfo(like.dtype).max) - grey
    return flipped


def _whole(work: FloatArray) -> Box:
    return Box(left=0, top=0, right=work.shape[1], bottom=work.shape[0])


def _strip(bright: NDArray[np.bool_]) -> int:
    """Length of the bright strip that starts within a fiftieth of the edge; 0 when it is longer than a
    sixth."""
    hits = np.flatnonzero(bright[: len(bright) // 6])
    if hits.size == 0 or hits[0] > len(bright) // 50:
        return 0
    end = int(hits[-1]) + 1
    return 0 if end >= len(bright) // 6 else end + 1
