"""The margins of the heatmap: the banner above and the legend below, never over the anatomy."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from models.package import Manifest
from service.contract import RadiographResult
from service.report import words
from service.report.colours import OUTLINE, Picture, Scale, bar
from service.report.lettering import Colour, lines, write
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
        size = max(13, round(min(max(width_px, height_px) / 68, width_px / 42)))
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
    if unusual := words.unusual_positioning(result, manifest):
        paragraphs.append((unusual, _QUIET))
    return _paragraphs(style, paragraphs)


def legend(width_px: int, height_px: int, result: RadiographResult, manifest: Manifest) -> Picture:
    """The strip below: the colour bar with its meaning, operating point, model, version and engine."""
    style = _Style.of(width_px, height_px)
    scale = Scale.of(manifest.calibration)
    model = result.model
    paragraphs: list[tuple[str, Colour]] = []
    if result.operating_point is not None:
        paragraphs.append((words.operating_point(result.operating_point), _PLAIN))
    identity = f"Model {model.name} {model.version} ({words.engine(model)}). {words.HEATMAP_IS}"
    paragraphs.append((words.ascii_text(identity), _QUIET))
    return np.vstack(
        [_colour_bar(style, scale, manifest.calibration.region_threshold), _paragraphs(style, paragraphs)]
    )


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


def _colour_bar(style: _Style, scale: Scale, region_threshold: float) -> Picture:
    """The bar, what its colours mean, and from where on regions are outlined."""
    bar_height = round(style.size_px * 0.8)
    bar_width = style.width_px - 2 * style.pad_px
    step = round(style.size_px * 1.35)
    paper = style.paper(2 * step + bar_height + style.pad_px)
    write(paper, (style.pad_px, style.pad_px // 2), words.bar(bool(scale.ticks)), style.size_px, _PLAIN)
    top = style.pad_px // 2 + step
    paper.paste(Image.fromarray(bar(bar_width, bar_height, _BAR_GREY)), (style.pad_px, top))
    pen = ImageDraw.Draw(paper)
    marks = [(tick.position, tick.label, _QUIET) for tick in scale.ticks]
    outlined = scale.position(region_threshold)
    marks = [
        (position, label, colour) for position, label, colour in marks if abs(position - outlined) > 0.01
    ]
    label = next((tick.label for tick in scale.ticks if abs(tick.position - outlined) <= 0.01), "")
    marks.append((outlined, f"{label} outlined".strip(), OUTLINE))
    for position, text, colour in marks:
        x = style.pad_px + round(position * (bar_width - 1))
        pen.line([(x, top - 1), (x, top + bar_height + 3)], fill=colour, width=2)
        write(
            paper, (x, top + bar_height + 4), text, style.size_px, colour, "la" if position < 0.02 else "ma"
        )
    return np.asarray(paper, np.uint8)
