"""What decoding gives, and what it is allowed to cost."""

from dataclasses import dataclass

from models.radiograph import Radiograph


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """max_pixels: declared rows × columns; checked before memory is taken for them."""

    max_pixels: int = 60_000_000

    @property
    def max_inflated_bytes(self) -> int:
        """Largest that a deflated data set may unfold to: 16 bits a pixel, and as much again."""
        return 4 * self.max_pixels


@dataclass(frozen=True, kw_only=True)
class Header:
    """The facts of a DICOM header that routing and geometry need; free of PHI, empty where absent.

    pixel_spacing_mm: (between rows, between columns), Imager Pixel Spacing before Pixel Spacing.
    pixel_aspect: height of a pixel by its width, from the spacing or else from Pixel Aspect Ratio (PS3.3
    C.7.6.3.1.7).
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    photometric_interpretation: str
    rows: int
    columns: int
    modality: str = ""
    view_position: str = ""
    laterality: str = ""
    body_part_examined: str = ""
    pixel_spacing_mm: tuple[float, float] | None = None
    pixel_aspect: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A radiograph in display brightness; header is None for PNG and JPEG."""

    radiograph: Radiograph
    header: Header | None
