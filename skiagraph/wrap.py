"""Pictures as DX For Presentation instances, so that a PNG or a JPEG can be sent like a radiograph."""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from models.rejection import Rejection
from runners.decode_picture import decode_picture
from runners.decoded import DecodeLimits

# Made once for drawing and wrapping; not the node's own, or its loop guard would drop what we send it.
TOOL_IMPLEMENTATION_CLASS_UID: Final = "2.25.118325402614870921653017391544026413067"
_UID_NAMESPACE: Final = uuid.UUID("5b0f6f0e-6c3c-4f0e-9a3a-2f5f4f1f7a11")
_ACQUIRED: Final = ("20260101", "120000")


class NotAPictureError(Exception):
    """The file is not a PNG or JPEG that can be read."""


@dataclass(frozen=True, kw_only=True)
class DxLabels:
    """What a made instance says of itself."""

    patient_id: str
    patient_name: str
    study_description: str
    series_description: str
    image_comments: str
    derivation: str
    laterality: Literal["L", "R", "U"] = "U"
    body_part: str | None = None
    view_position: str | None = None


def seeded_uid(key: str) -> str:
    """A UUID-derived UID (PS3.5 B.2) that follows from `key`."""
    return f"2.25.{uuid.uuid5(_UID_NAMESPACE, key).int}"


def wrap_picture(
    path: Path,
    *,
    patient_id: str = "PICTURE",
    patient_name: str = "PICTURE^WRAPPED",
    study_instance_uid: str | None = None,
    body_part: str | None = "HAND",
    laterality: Literal["L", "R", "U"] = "U",
    max_pixels: int = DecodeLimits.max_pixels,
) -> Dataset:
    """A PNG or JPEG (8 or 16 bit, grey or colour, EXIF orientation) as DX; raises NotAPictureError.

    UIDs not given follow from the file's bytes: the same picture is the same study.
    """
    data = path.read_bytes()
    pixels, bits = _read_grey(data, path.name, max_pixels)
    digest = hashlib.sha256(data).hexdigest()
    return dx_instance(
        pixels,
        bits_stored=bits,
        photometric="MONOCHROME2",
        labels=DxLabels(
            patient_id=patient_id,
            patient_name=patient_name,
            study_description="Picture wrapped as DX",
            series_description="Wrapped picture",
            image_comments="Made from a picture file: grey values and spacing are not those of a detector.",
            derivation="Picture file wrapped as DX by Skiagraph",
            laterality=laterality,
            body_part=body_part,
        ),
        study_instance_uid=study_instance_uid or seeded_uid(f"picture/{digest}/study"),
        series_instance_uid=seeded_uid(f"picture/{digest}/series/{study_instance_uid}"),
        sop_instance_uid=seeded_uid(f"picture/{digest}/instance/{study_instance_uid}"),
    )


def dx_instance(
    pixels: NDArray[np.uint16],
    *,
    bits_stored: int,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"],
    labels: DxLabels,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    instance_number: int = 1,
    pixel_spacing_mm: float = 0.2,
) -> Dataset:
    """A valid DX For Presentation instance (PS3.3 A.26), explicit little endian, for `save_as` or C-STORE.

    pixels: (h, w) uint16 below 2**bits_stored, bright bone; inverted here for MONOCHROME1.
    """
    top = 2**bits_stored - 1
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID(TOOL_IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = "SKIA_DRAW_01"
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_instance_uid, series_instance_uid
    dataset.SpecificCharacterSet = "ISO_IR 192"
    _patient_and_study(dataset, labels)
    _acquisition(dataset, labels, instance_number, pixel_spacing_mm)
    shown = pixels if photometric == "MONOCHROME2" else np.asarray(top - pixels, dtype=np.uint16)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if photometric == "MONOCHROME1" else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    dataset.WindowCenter, dataset.WindowWidth = (top + 1) / 2, top + 1
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "YES" if labels.laterality != "U" else "NO"
    dataset.PixelData = np.ascontiguousarray(shown).astype("<u2").tobytes()
    return dataset


def _patient_and_study(dataset: Dataset, labels: DxLabels) -> None:
    dataset.PatientName, dataset.PatientID = labels.patient_name, labels.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = "", ""
    dataset.StudyDate, dataset.StudyTime = _ACQUIRED
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
    dataset.StudyDescription = labels.study_description
    dataset.Manufacturer, dataset.ManufacturerModelName = "Skiagraph", "Drawn or wrapped picture"


def _acquisition(dataset: Dataset, labels: DxLabels, instance_number: int, pixel_spacing_mm: float) -> None:
    dataset.Modality, dataset.SeriesNumber = "DX", 1
    dataset.SeriesDescription, dataset.PresentationIntentType = labels.series_description, "FOR PRESENTATION"
    dataset.InstanceNumber = instance_number
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.DerivationDescription = labels.derivation
    dataset.ImageComments = labels.image_comments
    dataset.AcquisitionDate, dataset.AcquisitionTime = _ACQUIRED
    dataset.ContentDate, dataset.ContentTime = _ACQUIRED
    dataset.ImageLaterality = labels.laterality
    # Fingers up is towards the feet; of a picture nothing is known: the usual display is assumed.
    across = "R" if labels.laterality == "L" else "L"
    dataset.PatientOrientation = [across, "H" if labels.view_position else "F"]
    dataset.PositionerType = ""
    dataset.AnatomicRegionSequence = Sequence([])
    if labels.body_part is not None:
        dataset.BodyPartExamined = labels.body_part
    if labels.body_part == "HAND":
        dataset.AnatomicRegionSequence.append(_coded(codes.SCT.Hand))
    if labels.view_position is not None:
        dataset.ViewPosition = labels.view_position
    if labels.view_position == "PA":
        dataset.ViewCodeSequence = Sequence([_coded(codes.SCT.PosteroAnterior)])
    dataset.AcquisitionContextSequence = Sequence([])
    dataset.DetectorType = ""
    dataset.ImagerPixelSpacing = [round(pixel_spacing_mm, 5)] * 2


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
        code.value,
        code.scheme_designator,
        code.meaning,
    )
    return item


def _read_grey(data: bytes, name: str, max_pixels: int) -> tuple[NDArray[np.uint16], int]:
    """Grey values, the same that are scored, and how many bits they use."""
    try:
        decoded = decode_picture(data, limits=DecodeLimits(max_pixels=max_pixels))
    except Exception as error:  # Pillow raises whatever the damaged bytes make it raise
        raise NotAPictureError(f"{name} is not a PNG or JPEG that can be read: {error}") from error
    if isinstance(decoded, Rejection):
        raise NotAPictureError(f"{name} is not a PNG or JPEG that can be read: {decoded.reason}")
    grey = decoded.radiograph.pixels
    return grey.astype(np.uint16), 8 * grey.dtype.itemsize
