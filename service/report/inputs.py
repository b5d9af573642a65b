"""What the report is built from, and what comes out of the building."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.contract import InstanceResult, ProducedObject


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceInstance:
    """One received instance and what was said of it.

    dataset: its header, without PixelData; any attribute may be missing or invalid.
    display: (h, w) uint8 at display contrast, bright as in MONOCHROME2; perhaps reduced by a power of two;
        None where the instance could not be decoded.
    anomaly_map: (h, w) float32 of the size of `display`, in units of `Calibration.map_floor`; None unless
        the result is `scored`.
    source_width_px, source_height_px: the pixel matrix that `result.regions` refer to; 0 where unknown.
    """

    dataset: Dataset
    display: NDArray[np.uint8] | None
    source_width_px: int
    source_height_px: int
    result: InstanceResult
    anomaly_map: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BuiltObject:
    """One DICOM object that passed the check before the wire.

    data: a DICOM file (preamble, file meta information, data set).
    picture: (h, w, 3) uint8 RGB as drawn; None for a Structured Report.
    source_faults: keywords of patient and study attributes that repeat an invalid value of the source.
    """

    record: ProducedObject
    data: bytes
    picture: NDArray[np.uint8] | None = None
    source_faults: tuple[str, ...] = ()
