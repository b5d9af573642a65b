"""What the listener reads of an instance: the attributes before the pixels, never the pixels."""

import logging
import re
import warnings
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_listener.errors import UnreadableInstanceError
from service.contract import DEVICE_UID

# PS3.5 9.1, except that a component may start with 0: real studies carry such UIDs, and the PACS knows them.
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*\Z")
_LONGEST_UID: Final = 64
# and the two that refer to pixels by JPIP
_DEFLATED: Final = (DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
_MOST_HEADER_BYTES: Final = 16 * 1024 * 1024
_LONGEST_VALUE: Final = 256  # bytes that a rule can look at; longer values stay on disk


@dataclass(frozen=True, kw_only=True)
class Headers:
    """attributes: keyword → text of the short ones, for rules; they hold PHI: never log or store them."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    made_by_us: bool
    attributes: dict[str, str] = field(repr=False)


def is_uid(text: str) -> bool:
    """Whether the text can be a UID, and therefore a part of a path."""
    return len(text) <= _LONGEST_UID and _UID.match(text) is not None


def read(path: Path) -> Headers:
    """Read the attributes of a Part 10 file up to the pixels; raises UnreadableInstanceError, free of PHI."""
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")  # the sender's small faults are the decoder's business
            syntax, dataset = _parse(path)
            return _headers(syntax, dataset)
    except UnreadableInstanceError:
        raise
    except Exception as error:  # pydicom raises whatever a broken data set makes it raise
        raise UnreadableInstanceError(f"the data set cannot be parsed: {type(error).__name__}") from error


def _parse(path: Path) -> tuple[str, Dataset]:
    meta = read_file_meta_info(path)
    syntax = str(meta.TransferSyntaxUID)
    if syntax not in _DEFLATED:
        return syntax, dcmread(path, stop_before_pixels=True, defer_size=_LONGEST_VALUE * 16)
    with path.open("rb") as file:
        start = 132 + 12 + meta.FileMetaInformationGroupLength
        file.seek(start)
        # Only so much is inflated, whatever the stream would grow to; the pixels may be cut off.
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), _MOST_HEADER_BYTES)

    def at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return bool(tag == 0x7FE00010)

    return syntax, read_dataset(
        BytesIO(plain), is_implicit_VR=False, is_little_endian=True, stop_when=at_pixels
    )


def _headers(syntax: str, dataset: Dataset) -> Headers:
    uids: dict[str, str] = {}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        value = dataset.get(keyword)
        if value is None or not str(value):
            raise UnreadableInstanceError(
                f"{keyword} is missing: the data set is cut short or not of this SOP class"
            )
        if not is_uid(str(value)):
            raise UnreadableInstanceError(
                f"{keyword} is no UID: only digits and dots, at most {_LONGEST_UID} characters"
            )
        uids[keyword] = str(value)
    return Headers(
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        transfer_syntax_uid=syntax,
        modality=str(dataset.get("Modality") or "")[:16],
        made_by_us=_made_by_us(dataset),
        attributes=_attributes(dataset),
    )


def _made_by_us(dataset: Dataset) -> bool:
    equipment = dataset.get("ContributingEquipmentSequence")
    if not isinstance(equipment, Sequence):
        return False
    return any(str(item.get("DeviceUID", "")) == DEVICE_UID for item in equipment)


def _attributes(dataset: Dataset) -> dict[str, str]:
    found: dict[str, str] = {}
    for tag in dataset.keys():  # noqa: SIM118  iterating a Dataset itself would convert every element first
        element = dataset.get_item(tag)
        length = getattr(element, "length", 0) or 0
        if length > _LONGEST_VALUE or tag.is_private:
            continue
        element = dataset[tag]
        if not element.keyword or element.VR in ("SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"):
            continue
        value = element.value
        found[element.keyword] = (
            "\\".join(str(part) for part in value) if isinstance(value, MultiValue) else str(value or "")
        )
    return found


class _quiet:  # noqa: N801  a context manager used like a function
    """pydicom logs values of broken elements, which may be PHI."""

    def __enter__(self) -> None:
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)

    def __exit__(self, *_error: object) -> None:
        return None
