"""The overview sheet: every radiograph of the study on one picture, as heatmap or with its reason."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from PIL import Image

from models.package import Manifest
from service.contract import Status
from service.report import words
from service.report.colours import Picture
from service.report.groups import Entry
from service.report.heatmap import annotated
from service.report.inputs import SourceInstance
from service.report.lettering import Colour, lines, write
from skiagraph.settings.report import ReportSettings

_TILE_WIDTH_PX: Final = 512
_TILE_HEIGHT_PX: Final = 720
_LETTERS_PX: Final = 18
_STEP_PX: Final = 25
_PAD_PX: Final = 12
_MOST_COLUMNS: Final = 4
_TILE_SETTINGS: Final = ReportSettings(heatmap_long_side_px=1000)
_GROUND: Final[Colour] = (16, 16, 18)
_PLAIN: Final[Colour] = (232, 232, 232)
_QUIET: Final[Colour] = (176, 176, 180)
_WARNING: Final[Colour] = (255, 193, 79)


def draw_overview(entries: Sequence[Entry], manifest: Manifest, settings: ReportSettings) -> Picture:
    """(h, w, 3) uint8 RGB; entries: in report order."""
    tiles = [_tile(entry, manifest) for entry in entries]
    columns = min(len(tiles), _MOST_COLUMNS)
    tiles.extend([_blank()] * (-len(tiles) % columns))
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.vstack([_head(entries, columns * _TILE_WIDTH_PX, manifest, settings), *rows])


def _blank() -> Picture:
    return np.full((_TILE_HEIGHT_PX, _TILE_WIDTH_PX, 3), _GROUND, np.uint8)


def _tile(entry: Entry, manifest: Manifest) -> Picture:
    source, result = entry.source, entry.source.result
    tile = Image.fromarray(_blank())
    write(tile, (_PAD_PX, _PAD_PX), entry.label.title, _LETTERS_PX, _PLAIN)
    scored = result.status is Status.SCORED
    sentence = words.scored(result, manifest) if scored else words.not_analysed(result)
    top = _PAD_PX + _STEP_PX
    for line in lines(sentence, _LETTERS_PX, _TILE_WIDTH_PX - 2 * _PAD_PX):
        write(tile, (_PAD_PX, top), line, _LETTERS_PX, _QUIET if scored else _WARNING)
        top += _STEP_PX
    picture = _picture(source, manifest)
    if picture is not None:
        shown = _fit(picture, _TILE_WIDTH_PX - 2 * _PAD_PX, _TILE_HEIGHT_PX - top - _PAD_PX)
        tile.paste(Image.fromarray(shown).convert("RGB"), ((_TILE_WIDTH_PX - shown.shape[1]) // 2, top))
    return np.asarray(tile, np.uint8)


def _picture(source: SourceInstance, manifest: Manifest) -> Picture | None:
    if source.display is None or source.anomaly_map is None:
        return source.display
    return annotated(
        display=source.display,
        anomaly_map=source.anomaly_map,
        source_width_px=source.source_width_px,
        source_height_px=source.source_height_px,
        result=source.result,
        manifest=manifest,
        settings=_TILE_SETTINGS,
    )


def _fit(picture: Picture, width_px: int, height_px: int) -> Picture:
    scale = min(width_px / picture.shape[1], height_px / picture.shape[0])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _head(entries: Sequence[Entry], width_px: int, manifest: Manifest, settings: ReportSettings) -> Picture:
    summary = words.summary([(entry.label.title, entry.source.result) for entry in entries], manifest)
    paragraphs = [(words.RESEARCH, _WARNING)] if settings.research_use_only else []
    paragraphs.append((summary, _PLAIN))
    broken = [
        (line, colour)
        for text, colour in paragraphs
        for line in lines(text, _LETTERS_PX, width_px - 2 * _PAD_PX)
    ]
    head = Image.new("RGB", (width_px, 2 * _PAD_PX + len(broken) * _STEP_PX), _GROUND)
    for row, (line, colour) in enumerate(broken):
        write(head, (_PAD_PX, _PAD_PX + row * _STEP_PX), line, _LETTERS_PX, colour)
    return np.asarray(head, np.uint8)
