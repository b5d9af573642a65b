"""Section `report`: what the Structured Report and the heatmap say and how they look."""

from typing import Annotated, Literal

from pydantic import Field

from skiagraph.settings.base import Section


class ReportSettings(Section):
    research_use_only: bool = True
    # Longest side of the heatmap; a larger radiograph is drawn at a half, a quarter … of its size; 0: whole.
    heatmap_long_side_px: Annotated[int, Field(ge=0)] = 1600
    compression: Literal["none", "rle", "jpeg2000_lossless"] = "none"
    overview: bool = False
