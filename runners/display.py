"""Stored values to display brightness: Modality LUT, VOI LUT or window, polarity, padding (PS3.3 C.11)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi

_WHITE = 65535


@dataclass(frozen=True, kw_only=True, eq=False)
class DisplayTransform:
    """Every step is pointwise, so all of them together are one table over the stored values.

    values: (2 ** bits,) float64, after the Modality LUT.
    brightness: (2 ** bits,) float64, 0 black to 1 white by the window or VOI LUT; None without one.
    padding: (2 ** bits,) bool, the values that are no radiograph.
    """

    bits: int
    signed: bool
    shift: int
    inverted: bool
    native: bool
    values: NDArray[np.float64]
    brightness: NDArray[np.float64] | None
    padding: NDArray[np.bool_]

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The transform a header asks for; an unusable window or table is left out."""
        bits = int(dataset.BitsStored)
        signed = bool(dataset.get("PixelRepresentation"))
        high_bit = dataset.get("HighBit")
        native = not dataset.file_meta.TransferSyntaxUID.is_encapsulated
        codes = np.arange(1 << bits, dtype=np.int32)
        stored = np.where(codes >= 1 << (bits - 1), codes - (1 << bits), codes) if signed else codes
        values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
        return cls(
            bits=bits,
            signed=signed,
            shift=max(0, int(high_bit) + 1 - bits) if native and high_bit is not None else 0,
            inverted=dataset.PhotometricInterpretation == "MONOCHROME1"
            or dataset.get("PresentationLUTShape") == "INVERSE",
            native=native,
            values=values,
            brightness=_voi(values, dataset),
            padding=_padding(stored, dataset),
        )

    def apply(self, stored: NDArray[np.integer]) -> NDArray[np.uint16]:
        """(h, w) stored values to (h, w) uint16, grey rising with display brightness; padding is black."""
        codes = self._codes(stored)
        used = np.bincount(codes.ravel(), minlength=1 << self.bits) > 0
        used &= ~self.padding
        table = None if self.brightness is None else np.clip(self.brightness, 0.0, 1.0)
        if table is None or len(np.unique(table[used])) < 2:  # no window, or one that shows nothing of it
            low, high = (self.values[used].min(), self.values[used].max()) if used.any() else (0.0, 1.0)
            table = (self.values - low) / max(high - low, 1e-9)
        table = np.clip(1.0 - table if self.inverted else table, 0.0, 1.0)
        table[self.padding] = 0.0
        return np.rint(table * _WHITE).astype(np.uint16)[codes]

    def _codes(self, stored: NDArray[np.integer]) -> NDArray[np.intp]:
        """Index of each value in the tables; what a lossy code stream put out of range is clipped."""
        if stored.dtype.kind == "i" and self.signed:
            half = 1 << (self.bits - 1)
            return np.asarray(
                np.clip(stored.astype(np.int32), -half, half - 1) & ((1 << self.bits) - 1), np.intp
            )
        if self.native or self.signed:  # native data may carry overlays above the stored bits
            return np.asarray((stored.astype(np.int32) >> self.shift) & ((1 << self.bits) - 1), np.intp)
        return np.asarray(np.minimum(stored, (1 << self.bits) - 1), np.intp)


def _voi(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64] | None:
    """Brightness 0..1 of modality values by the first VOI LUT or window; None without a usable one."""
    table = dataset.get("VOILUTSequence")
    if table and table[0].get("LUTDescriptor") and table[0].get("LUTData"):
        top = (1 << int(table[0].LUTDescriptor[2])) - 1
        return np.asarray(apply_voi(np.rint(values).astype(np.int32), dataset), np.float64) / top
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    match dataset.get("VOILUTFunction") or "LINEAR":
        case "SIGMOID":
            return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -500, 500))))
        case "LINEAR_EXACT":
            return (values - centre) / width + 0.5
        case _:
            return (values - (centre - 0.5)) / max(width - 1.0, 1e-9) + 0.5


def _first(value: object) -> float | None:
    """The first of one or several decimal strings; None where absent or not a number."""
    chosen = value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value  # type: ignore[index]
    try:
        number = float(chosen)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _padding(stored: NDArray[np.int32], dataset: Dataset) -> NDArray[np.bool_]:
    """Which stored values Pixel Padding Value and its range limit declare to be outside the radiograph."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return np.asarray((stored >= low) & (stored <= high))
