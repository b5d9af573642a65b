"""A picture as Secondary Capture (PS3.3 A.8.1): RGB, single frame, derived from the radiographs it shows."""

import re
from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless, SecondaryCaptureImageStorage

from service.contract import ModelIdentity, Reference, StudyRequest
from service.report import source as header
from service.report import words
from service.report.codes import (
    HEATMAP_DERIVATION,
    SOURCE_FOR_PROCESSING,
    code_item,
    coding_scheme_identification,
)
from service.report.colours import Picture
from service.report.envelope import envelope, file_bytes
from service.report.identity import derived_uid
from service.report.references import instance
from skiagraph.settings.report import ReportSettings

_SERIES_NUMBER: Final = 9902
_LOSSY_HISTORY: Final = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
_DIRECTION: Final = re.compile(r"[AFHLPR]{1,3}")  # PS3.3 C.7.6.1.1.1
_COMPRESSED: Final = {"rle": RLELossless, "jpeg2000_lossless": JPEG2000Lossless}


def secondary_capture(
    *,
    request: StudyRequest,
    picture: Picture,
    shown: Sequence[tuple[Dataset, Reference | None]],
    lead: Dataset,
    model: ModelIdentity,
    instance_number: int,
    description: str,
    settings: ReportSettings,
) -> Dataset:
    """The data set but SOP Instance UID and Pixel Data. shown: header and reference of each radiograph."""
    sides = {header.laterality(dataset) for dataset, _ in shown}
    side = sides.pop() if len(sides) == 1 else ""
    if side not in (
        "R",
        "L",
    ):  # the only enumerated values (PS3.3 C.7.3.1): both hands are Image Laterality B
        side = ""
    dataset = envelope(
        request=request,
        lead=lead,
        model=model,
        sop_class_uid=SecondaryCaptureImageStorage,
        modality="OT",
        # Laterality is an attribute of the series (PS3.3 C.7.3.1): a left and a right hand are two series.
        series_instance_uid=derived_uid(
            "heatmap", request.study_instance_uid, model.name, model.version, side
        ),
        series_number=_SERIES_NUMBER,
        series_description="Skiagraph anomaly heatmap",
        instance_number=instance_number,
    )
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.ConversionType = "WSD"
    dataset.BodyPartExamined = "HAND"
    dataset.Laterality = side
    dataset.PatientOrientation = _orientation(shown)
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.ImageComments = words.image_comments(settings.research_use_only)
    dataset.DerivationDescription = words.ascii_text(
        f"{description} by {model.name} {model.version} ({words.engine(model)})"
    )
    dataset.DerivationCodeSequence = [code_item(HEATMAP_DERIVATION)]
    dataset.CodingSchemeIdentificationSequence = [coding_scheme_identification()]
    _add_sources(dataset, [reference for _, reference in shown if reference is not None])
    _add_lossy_history(dataset, [source for source, _ in shown])
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = picture.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    return dataset


def with_pixels(dataset: Dataset, picture: Picture, settings: ReportSettings) -> bytes:
    """The finished DICOM file, compressed as the settings say."""
    pixels = picture.tobytes()
    dataset.PixelData = pixels + b"\x00" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OB"
    if settings.compression == "none":
        return file_bytes(dataset)
    syntax = _COMPRESSED[settings.compression]
    dataset.compress(syntax, generate_instance_uid=False)
    return file_bytes(dataset, syntax)


def _orientation(shown: Sequence[tuple[Dataset, Reference | None]]) -> list[str] | None:
    """The source's rows and columns are ours too; none where several are shown, or where it is invalid."""
    element = header.element(shown[0][0], "PatientOrientation") if len(shown) == 1 else None
    if element is None or element.VM != 2 or not all(_DIRECTION.fullmatch(value) for value in element.value):
        return None
    return list(element.value)


def _add_sources(dataset: Dataset, sources: Sequence[Reference]) -> None:
    """Source Image Sequence (PS3.3 C.7.6.1) and, within our study, Referenced Series Sequence (C.12.2)."""
    if not sources:
        return
    items = []
    series: dict[str, list[Dataset]] = {}
    for source in sources:
        item = instance(source.sop_class_uid, source.sop_instance_uid)
        item.PurposeOfReferenceCodeSequence = [code_item(SOURCE_FOR_PROCESSING)]
        items.append(item)
        if source.study_instance_uid == dataset.StudyInstanceUID:
            referenced = instance(source.sop_class_uid, source.sop_instance_uid)
            series.setdefault(source.series_instance_uid, []).append(referenced)
    dataset.SourceImageSequence = items
    if series:
        dataset.ReferencedSeriesSequence = [_series(uid, instances) for uid, instances in series.items()]


def _series(series_instance_uid: str, instances: list[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedInstanceSequence = instances
    return item


def _add_lossy_history(dataset: Dataset, shown: Sequence[Dataset]) -> None:
    """Once lossy, always lossy (PS3.3 C.7.6.1.1.5); how much and how are optional, and copied where valid."""
    lossy = next((source for source in shown if header.text(source, "LossyImageCompression") == "01"), None)
    dataset.LossyImageCompression = "00" if lossy is None else "01"
    if lossy is None:
        return
    for keyword in _LOSSY_HISTORY:
        element = header.element(lossy, keyword)
        if element is not None and not element.is_empty and header.is_valid(element):
            dataset.add(element)
