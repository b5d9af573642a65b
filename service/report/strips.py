"""The margins of the heatmap: the banner above and the legend below, never over the anatomy."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from models.package import Manifest
from service.contract import RadiographResult
from service.report import words
from service.report.colours import OUTLINE, Picture, overlay
from service.report.lettering import Colour, lines, typeface, write
from skiagraph.settings.report import ReportSettings

_GROUND: Final[Colour] = (16, 16, 18)
_PLAIN: Final[Colour] = (232, 232, 232)
_QUIET: Final[Colour] = (176, 176, 180)
_WARNING: Final[Colour] = (255, 193, 79)
_BAR_GREY: Final = 110  # the radiograph's grey under the colour bar


@dataclass(frozen=True, kw_only=True)
class _Style:
    width_px: int
    size_px: int
    pad_px: int

    @classmethod
    def of(cls, width_px: int, height_px: int) -> "_Style":
        """Letters that are read when the whole picture is shown 1024 px high."""
        size = max(13, round(min(max(width_px, height_px) / 56, width_px / 34)))
        return cls(width_px=width_px, size_px=size, pad_px=max(6, size // 2))

    def paper(self, height_px: int) -> Image.Image:
        return Image.new("RGB", (self.width_px, height_px), _GROUND)


def banner(
    width_px: int, height_px: int, result: RadiographResult, manifest: Manifest, settings: ReportSettings
) -> Picture:
    """The strip above a radiograph drawn `width_px` by `height_px`: what this is, and the result."""
    style = _Style.of(width_px, height_px)
    paragraphs: list[tuple[str, Colour]] = []
    if settings.research_use_only:
        paragraphs.append((words.RESEARCH, _WARNING))
    paragraphs.append((words.scored(result, manifest), _PLAIN))
    return _paragraphs(style, paragraphs)


def legend(width_px: int, height_px: int, result: RadiographResult, manifest: Manifest) -> Picture:
    """The strip below: the colour bar with its meaning, operating point, model, version and engine."""
    style = _Style.of(width_px, height_px)
    model = result.model
    paragraphs: list[tuple[str, Colour]] = []
    if result.operating_point is not None:
        paragraphs.append((words.operating_point(result.operating_point), _PLAIN))
    identity = f"Model {model.name} {model.version} ({words.engine(model)}). {words.HEATMAP_IS}"
    paragraphs.append((words.ascii_text(identity), _QUIET))
    return np.vstack([_colour_bar(style, manifest), _paragraphs(style, paragraphs)])


def _paragraphs(style: _Style, paragraphs: list[tuple[str, Colour]]) -> Picture:
    step = round(style.size_px * 1.35)
    broken = [
        (line, colour)
        for text, colour in paragraphs
        for line in lines(text, style.size_px, style.width_px - 2 * style.pad_px)
    ]
    paper = style.paper(len(broken) * step + style.pad_px)
    for row, (line, colour) in enumerate(broken):
        write(paper, (style.pad_px, style.pad_px // 2 + row * step), line, style.size_px, colour)
    return np.asarray(paper, np.uint8)


def _colour_bar(style: _Style, manifest: Manifest) -> Picture:
    """A bar as the colours look over mid-grey, what its ends mean, and from where regions are outlined."""
    calibration = manifest.calibration
    bar_height = round(style.size_px * 0.9)
    bar_width = round(style.width_px * 0.3)
    level = np.tile(np.linspace(0, 255, bar_width).astype(np.uint8), (bar_height, 1))
    bar = overlay(np.full_like(level, _BAR_GREY), level)
    paper = style.paper(round(style.size_px * 1.35) + style.pad_px)
    top = (paper.height - bar_height) // 2
    left = style.pad_px * 2 + round(typeface(style.size_px).getlength(words.BAR_LOW))
    write(paper, (style.pad_px, paper.height / 2), words.BAR_LOW, style.size_px, _PLAIN, "lm")
    paper.paste(Image.fromarray(bar), (left, top))
    span = max(calibration.map_ceiling - calibration.map_floor, 1e-6)
    share = (calibration.region_threshold - calibration.map_floor) / span
    if 0 <= share <= 1:
        tick = left + round(share * (bar_width - 1))
        ImageDraw.Draw(paper).line([(tick, top - 2), (tick, top + bar_height + 1)], fill=OUTLINE, width=2)
    write(
        paper,
        (left + bar_width + style.pad_px, paper.height / 2),
        words.BAR_HIGH,
        style.size_px,
        _PLAIN,
        "lm",
    )
    return np.asarray(paper, np.uint8)
