"""A DICOM file to a radiograph in display brightness (PS3.3 C.7.6.3, C.11; PS3.4 N.2)."""

from typing import Any

import cv2
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from models.radiograph import Radiograph
from models.rejection import Rejection, RejectionCode
from runners.decode_frame import declared_size, decode_frame, reduction
from runners.decode_picture import too_large
from runners.decoded import Decoded, DecodeLimits, Header
from runners.dicom_reader import optional, read, truncated
from runners.display import DisplayTransform

_SUPPORTED = frozenset(
    {
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        SecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    }
)
# What is meant by a header that does not say: one sample a pixel, unsigned, colour by pixel.
_USUAL = {"SamplesPerPixel": 1, "PixelRepresentation": 0, "PlanarConfiguration": 0}
# The Device UID in what this product makes (service/contract.py).
OUR_DEVICE_UID = "2.25.139816023965673135483145223674536176030"
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})


def decode_dicom(data: bytes, *, limits: DecodeLimits, long_side_px: int | None) -> Decoded | Rejection:
    """Decode a DICOM file; raises only what damaged data make a decoder raise."""
    dataset = read(data, limits=limits)
    if isinstance(dataset, Rejection):
        return dataset
    if (unfit := _unfit(dataset, limits)) is not None:
        return unfit
    for keyword, usual in _USUAL.items():
        if optional(dataset, keyword) is None:
            setattr(dataset, keyword, usual)
    header = header_of(dataset)
    frame = _frame(dataset)
    if isinstance(frame, Rejection):
        return frame
    width, height = declared_size(frame, header.transfer_syntax_uid) or (header.columns, header.rows)
    if width * height > limits.max_pixels:
        return too_large(width, height, limits)
    if (width, height) != (header.columns, header.rows):
        return Rejection(
            code=RejectionCode.INVALID_HEADER,
            reason=f"{header.columns} × {header.rows} pixels by the header, {width} × {height} by the pixels",
        )
    steps = reduction(header.transfer_syntax_uid, max(width, height), long_side_px)
    stored = decode_frame(frame, dataset, reduce=steps)
    if isinstance(stored, Rejection):
        return stored
    if stored.ndim == 3:
        pixels: NDArray[Any] = cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)
    else:
        pixels = DisplayTransform.of(dataset).apply(stored)
    return Decoded(
        radiograph=Radiograph(
            pixels=pixels, source_width_px=width, source_height_px=height, polarity_known=True
        ),
        header=header,
    )


def header_of(dataset: Dataset) -> Header:
    """The facts of a data set that was found fit."""

    def text(keyword: str) -> str:
        return str(optional(dataset, keyword) or "")

    spacing = _pair(optional(dataset, "ImagerPixelSpacing") or optional(dataset, "PixelSpacing"))
    down, across = spacing or _pair(optional(dataset, "PixelAspectRatio")) or (1.0, 1.0)
    return Header(
        sop_class_uid=text("SOPClassUID"),
        sop_instance_uid=text("SOPInstanceUID"),
        study_instance_uid=text("StudyInstanceUID"),
        series_instance_uid=text("SeriesInstanceUID"),
        transfer_syntax_uid=str(dataset.file_meta.get("TransferSyntaxUID") or ""),
        photometric_interpretation=text("PhotometricInterpretation"),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        modality=text("Modality"),
        view_position=text("ViewPosition"),
        laterality=text("ImageLaterality") or text("Laterality"),
        body_part_examined=text("BodyPartExamined"),
        pixel_spacing_mm=spacing,
        pixel_aspect=down / across,
    )


def _pair(spacing: object) -> tuple[float, float] | None:
    try:
        down, across = (float(value) for value in spacing)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return None
    return (down, across) if down > 0 and across > 0 else None


def _unfit(dataset: Dataset, limits: DecodeLimits) -> Rejection | None:
    """Why the header alone rules the instance out; None when it does not."""
    sop_class = dataset.get("SOPClassUID")
    if sop_class not in _SUPPORTED:
        name = getattr(sop_class, "name", "none")
        return Rejection(
            code=RejectionCode.UNSUPPORTED_SOP_CLASS,
            reason=f"SOP class {name} is no radiograph: CR, DX For Presentation, Secondary Capture are read",
        )
    if (
        sop_class == DigitalXRayImageStorageForProcessing
        or dataset.get("PresentationIntentType") == "FOR PROCESSING"
    ):
        return Rejection(
            code=RejectionCode.FOR_PROCESSING,
            reason="the radiograph is For Processing: the model was made for radiographs For Presentation",
        )
    if _is_ours(dataset):
        return Rejection(
            code=RejectionCode.NOT_A_RADIOGRAPH,
            reason="it is a picture that Skiagraph made of a radiograph, not a radiograph",
        )
    if "PixelData" not in dataset or not dataset.PixelData:
        return Rejection(code=RejectionCode.NO_PIXELS, reason="the instance has no Pixel Data")
    return _unfit_pixels(dataset, limits)


def _is_ours(dataset: Dataset) -> bool:
    """Whether this product made the instance: it names itself in the Contributing Equipment Sequence."""
    equipment = optional(dataset, "ContributingEquipmentSequence")
    items = equipment if isinstance(equipment, Sequence) else ()
    return any(str(optional(item, "DeviceUID")) == OUR_DEVICE_UID for item in items)


def _unfit_pixels(dataset: Dataset, limits: DecodeLimits) -> Rejection | None:
    missing = [
        keyword
        for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
        if not dataset.get(keyword)
    ]
    if missing or not dataset.file_meta.get("TransferSyntaxUID"):
        named = ", ".join(missing) or "TransferSyntaxUID"
        return Rejection(code=RejectionCode.INVALID_HEADER, reason=f"the header lacks {named}")
    if not _is_one_frame(dataset):
        return Rejection(
            code=RejectionCode.MULTI_FRAME,
            reason="the instance has several frames: radiographs of one frame are read",
        )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows * columns > limits.max_pixels:
        return too_large(columns, rows, limits)
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    photometric = dataset.PhotometricInterpretation
    samples = int(dataset.get("SamplesPerPixel") or 1)
    grey = photometric in _GREY and samples == 1 and allocated in (8, 16)
    colour = photometric in _COLOUR and samples == 3 and allocated == 8
    if not (grey or colour) or not 0 < stored <= allocated:
        return Rejection(
            code=RejectionCode.INVALID_HEADER,
            reason=f"{samples} × {stored} of {allocated} bits as {photometric} is no radiograph:"
            " grey of 8 or 16 bits or RGB of 8 is read",
        )
    return None


def _is_one_frame(dataset: Dataset) -> bool:
    try:
        return int(dataset.get("NumberOfFrames") or 1) == 1
    except (TypeError, ValueError):
        return False


def _frame(dataset: Dataset) -> bytes | Rejection:
    """The bytes of the only frame, as they were encoded."""
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        try:
            return next(generate_frames(dataset.PixelData, number_of_frames=1))
        except (StopIteration, ValueError, EOFError):
            return truncated()
    bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel") or 1)
    expected = bits * int(dataset.BitsAllocated) // 8
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        expected = expected * 2 // 3
    frame = bytes(dataset.PixelData)
    return truncated() if len(frame) < expected else frame[:expected]
