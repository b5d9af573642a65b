"""The outside of each object of ours: patient and study as the PACS knows them, our series and equipment."""

import io
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Final

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from service.contract import (
    DEVICE_UID,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MANUFACTURER,
    ModelIdentity,
    StudyRequest,
)
from service.report import source as header
from service.report.codes import PROCESSING_EQUIPMENT, code_item
from service.report.inputs import SourceInstance
from service.report.words import ascii_text
from skiagraph import __version__

# PS3.3 C.7.1.1, C.7.2.1 and C.7.2.2: written even when empty (type 2) …
TYPE_2_COPIED: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
# … or only where the source has them (type 3).
TYPE_3_COPIED: Final = (
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientAge",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
)
COPIED: Final = frozenset((*TYPE_2_COPIED, *TYPE_3_COPIED, "StudyInstanceUID", "SpecificCharacterSet"))


def leading(sources: Sequence[SourceInstance], study_instance_uid: str) -> Dataset:
    """The header that patient and study are copied from: of this study, the first of those that tell most."""

    def told(source: SourceInstance) -> tuple[bool, int]:
        same_study = header.text(source.dataset, "StudyInstanceUID") == study_instance_uid
        return same_study, sum(bool(header.text(source.dataset, keyword)) for keyword in TYPE_2_COPIED)

    return max(sources, key=told).dataset


def envelope(
    *,
    request: StudyRequest,
    lead: Dataset,
    model: ModelIdentity,
    sop_class_uid: str,
    modality: str,
    series_instance_uid: str,
    series_number: int,
    series_description: str,
    instance_number: int,
) -> Dataset:
    """A data set with everything but its SOP Instance UID and its content."""
    dataset = Dataset()
    _copy_patient_and_study(dataset, lead)
    dataset.StudyInstanceUID = request.study_instance_uid
    dataset.SOPClassUID = sop_class_uid
    dataset.Modality = modality
    dataset.SeriesInstanceUID = series_instance_uid
    dataset.SeriesNumber = series_number
    dataset.SeriesDescription = series_description
    dataset.InstanceNumber = instance_number
    made = _local(request.result_time, lead)
    dataset.TimezoneOffsetFromUTC = made.strftime("%z")
    dataset.InstanceCreationDate = dataset.ContentDate = _date(made)
    dataset.InstanceCreationTime = dataset.ContentTime = made.strftime("%H%M%S.%f")
    dataset.InstanceCreatorUID = DEVICE_UID
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MANUFACTURER
    dataset.DeviceSerialNumber = DEVICE_UID.rpartition(".")[2]
    dataset.SoftwareVersions = software_versions(model)
    dataset.ContributingEquipmentSequence = [_equipment(model, dataset, made)]
    return dataset


def software_versions(model: ModelIdentity) -> list[str]:
    return [__version__, ascii_text(f"{model.name} {model.version}")[:64]]


def file_bytes(dataset: Dataset, transfer_syntax_uid: UID = ExplicitVRLittleEndian) -> bytes:
    """The data set as a DICOM file (PS3.10)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax_uid
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _copy_patient_and_study(dataset: Dataset, lead: Dataset) -> None:
    charset = header.element(lead, "SpecificCharacterSet")
    if charset is not None:
        dataset.add(charset)
    for keyword in TYPE_2_COPIED:
        element = header.element(lead, keyword)
        if element is None:
            setattr(dataset, keyword, "")
        else:
            dataset.add(element)
    for keyword in TYPE_3_COPIED:
        element = header.element(lead, keyword)
        if element is not None and element.value:
            dataset.add(element)


def _local(moment: datetime, lead: Dataset) -> datetime:
    """`moment` in the source's zone: Timezone Offset From UTC also governs the copied Study Time."""
    offset = header.text(lead, "TimezoneOffsetFromUTC")
    try:
        here = moment.astimezone(datetime.strptime(offset, "%z").tzinfo) if offset else moment
    except (ValueError, OverflowError):  # no offset, or the day is outside the calendar there
        here = moment
    minutes = int((here.utcoffset() or timedelta()).total_seconds() / 60)
    return here.astimezone(timezone(timedelta(minutes=minutes)))


def _date(moment: datetime) -> str:
    """DA: four digits of the year, which strftime does not give before 1000."""
    return moment.date().isoformat().replace("-", "")


def _equipment(model: ModelIdentity, ours: Dataset, made: datetime) -> Dataset:
    """An item of Contributing Equipment Sequence (PS3.3 C.12.1.1.5); the listener knows our objects by it."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        setattr(item, keyword, ours[keyword].value)
    item.DeviceUID = DEVICE_UID
    item.ContributionDateTime = _date(made) + made.strftime("%H%M%S.%f%z")
    item.ContributionDescription = ascii_text(
        f"Anomaly detection: {model.name} {model.version}, {model.engine} {model.precision}, "
        f"weights {model.weights_sha256[:16]}"
    )
    return item
