"""Stored values to display brightness: Modality LUT, VOI LUT or window, polarity, padding (PS3.3 C.11)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from runners.dicom_reader import optional

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
        high_bit = _first(optional(dataset, "HighBit"))
        native = not dataset.file_meta.TransferSyntaxUID.is_encapsulated
        codes = np.arange(1 << bits, dtype=np.int32)
        stored = np.where(codes >= 1 << (bits - 1), codes - (1 << bits), codes) if signed else codes
        values = _modality(stored, dataset)
        return cls(
            bits=bits,
            signed=signed,
            shift=max(0, int(high_bit) + 1 - bits) if native and high_bit is not None else 0,
            inverted=dataset.PhotometricInterpretation == "MONOCHROME1"
            or optional(dataset, "PresentationLUTShape") == "INVERSE",
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """A lookup table (PS3.3 C.11.1.1); first: the value its first entry is for, top: the largest entry."""

    entries: NDArray[np.float64]
    first: int
    top: int

    @classmethod
    def of(cls, dataset: Dataset, sequence: str) -> Self | None:
        """The first table of the sequence; None where there is none, or none that can be used."""
        try:
            item = dataset[sequence].value[0]
            declared, first, bits = (int(value) for value in item.LUTDescriptor)
            words = _words(item.LUTData, "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">")
        except Exception:  # pydicom raises whatever the conversion of a broken value raises
            return None
        count = declared & 0xFFFF or 1 << 16  # 0 says 65536; more than 32767 is negative where it is signed
        packed = bits == 8 and 2 * len(words) == count + count % 2  # two entries to a word (C.11.1.1.1)
        entries = (words.view(np.uint8) if packed else words).astype(np.float64)
        if len(entries) < count or not 8 <= bits <= 16:
            return None
        return cls(entries=entries[:count], first=first, top=(1 << bits) - 1)

    def look_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        found: NDArray[np.float64] = self.entries[at.astype(np.intp)]
        return found


def _words(data: object, order: str) -> NDArray[np.uint16]:
    """LUT Data as 16-bit words, little endian: bytes in the order of the file, or numbers."""
    if isinstance(data, bytes):
        return np.frombuffer(data, f"{order}u2", count=len(data) // 2).astype("<u2")
    return np.atleast_1d(np.asarray(data)).astype("<u2")


def _modality(stored: NDArray[np.int32], dataset: Dataset) -> NDArray[np.float64]:
    """Modality values by the Modality LUT or the rescale; the stored values where neither can be used."""
    values = stored.astype(np.float64)
    if (table := _Table.of(dataset, "ModalityLUTSequence")) is not None:
        return table.look_up(values)
    slope, intercept = (_first(optional(dataset, f"Rescale{name}")) for name in ("Slope", "Intercept"))
    return values * slope + intercept if slope and intercept is not None else values


def _voi(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64] | None:
    """Brightness 0..1 of modality values by the first VOI LUT or window; None without a usable one."""
    if (table := _Table.of(dataset, "VOILUTSequence")) is not None:
        return table.look_up(values) / table.top
    centre, width = _first(optional(dataset, "WindowCenter")), _first(optional(dataset, "WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    match optional(dataset, "VOILUTFunction") or "LINEAR":
        case "SIGMOID":
            return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -500, 500))))
        case "LINEAR_EXACT":
            return (values - centre) / width + 0.5
        case _:
            return (values - (centre - 0.5)) / max(width - 1.0, 1e-9) + 0.5


def _first(value: object) -> float | None:
    """The first of one or several numbers; None where absent or not a number."""
    try:
        chosen = value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value  # type: ignore[index]
        number = float(chosen)  # type: ignore[arg-type]
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def _padding(stored: NDArray[np.int32], dataset: Dataset) -> NDArray[np.bool_]:
    """Which stored values Pixel Padding Value and its range limit declare to be outside the radiograph."""
    first = _first(optional(dataset, "PixelPaddingValue"))
    if first is None:
        return np.zeros(stored.shape, bool)
    last = _first(optional(dataset, "PixelPaddingRangeLimit"))
    low, high = sorted((first, first if last is None else last))
    return np.asarray((stored >= low) & (stored <= high))
