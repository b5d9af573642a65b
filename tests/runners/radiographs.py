"""DICOM files made for a test: a drawn radiograph, one encoding, one header."""

import io
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
LOSSLESS = (JPEG2000Lossless, HTJ2K, JPEGLSLossless, JPEGLosslessSV1, RLELossless)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)


def drawn(height: int = 96, width: int = 80, *, bits: int = 12) -> NDArray[np.uint16]:
    """A bright bar with soft edges on a dark ramp: smooth, so that lossy codecs stay near it."""
    y, x = np.mgrid[0:height, 0:width]
    bar = np.exp(-(((x - width / 2) / (width / 8)) ** 2))
    picture = 0.1 + 0.2 * y / height + 0.6 * bar
    return np.rint(picture * ((1 << bits) - 1)).astype(np.uint16)


def dicom_file(stored: NDArray[Any], *, syntax: str = ExplicitVRLittleEndian, **header: Any) -> bytes:
    """A Part 10 file of stored values; header: DICOM keywords that are added or replaced, None removes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.Modality = "CR"
    dataset.PatientID = "TEST"
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 3 if stored.ndim == 3 else 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored = 12 if dataset.BitsAllocated == 16 else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 1 if stored.dtype.kind == "i" else 0
    _set_pixels(dataset, stored, syntax)
    for keyword, value in header.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", ComputedRadiographyImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _set_pixels(dataset: Dataset, stored: NDArray[Any], syntax: str) -> None:
    if syntax in NATIVE:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
        dataset["PixelData"].VR = "OW" if dataset.BitsAllocated == 16 else "OB"
        return
    dataset.PixelData = encapsulate([encoded(stored, syntax)])
    dataset["PixelData"].VR = "OB"


def encoded(stored: NDArray[Any], syntax: str) -> bytes:
    """One frame in a compressed transfer syntax."""
    match syntax:
        case "1.2.840.10008.1.2.4.90":
            return bytes(imagecodecs.jpeg2k_encode(stored, level=0, reversible=True, codecformat="j2k"))
        case "1.2.840.10008.1.2.4.203":
            return bytes(imagecodecs.htj2k_encode(stored))
        case "1.2.840.10008.1.2.4.80":
            return bytes(imagecodecs.jpegls_encode(stored))
        case "1.2.840.10008.1.2.4.70":
            return bytes(imagecodecs.jpeg_encode(stored, bitspersample=12, lossless=True))
        case "1.2.840.10008.1.2.4.51":
            return bytes(imagecodecs.jpeg_encode(stored, bitspersample=12, level=95))
        case "1.2.840.10008.1.2.4.50":
            return bytes(imagecodecs.jpeg_encode(stored, level=95))
        case _:
            return _rle(stored)


def _rle(stored: NDArray[np.uint16]) -> bytes:
    """PS3.5 G: two segments, high bytes first; every run is a literal of at most 128 bytes."""
    segments = []
    for plane in (stored >> 8, stored & 0xFF):
        raw = plane.astype(np.uint8).tobytes()
        runs = [raw[at : at + 128] for at in range(0, len(raw), 128)]
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + b"\x80" * (len(segment) % 2))
    offsets = [64, 64 + len(segments[0])]
    header = np.array([2, *offsets, *[0] * 13], "<u4").tobytes()
    return header + b"".join(segments)
