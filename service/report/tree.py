"""The content tree of the Structured Report: TID 1500 around the measurement groups."""

from collections.abc import Sequence
from typing import Final

from highdicom.sr.coding import CodedConcept
from highdicom.sr.enum import RelationshipTypeValues
from highdicom.sr.templates import (
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
)
from highdicom.sr.value_types import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    NumContentItem,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from models.package import Manifest
from service.contract import DEVICE_UID, MANUFACTURER, ModelIdentity, Status, StudyRequest
from service.report import codes, words
from service.report import source as header
from service.report.groups import CONTAINS, Entry, measurement_groups, refer
from skiagraph.settings.report import ReportSettings

_DEVICE: Final = CodedConcept("121007", "DCM", "Device")
_SOURCE: Final = Code("260753009", "SCT", "Source")
_ACQUISITION: Final = RelationshipTypeValues.HAS_ACQ_CONTEXT


def content(
    *,
    request: StudyRequest,
    entries: Sequence[Entry],
    lead: Dataset,
    model: ModelIdentity,
    manifest: Manifest,
    settings: ReportSettings,
) -> Dataset:
    """The root content item; `entries` are in the order in which they are reported."""
    groups = [group for entry in entries for group in measurement_groups(entry, request, model, manifest)]
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(model)),
        procedure_reported=_procedure(lead),
        imaging_measurements=groups,
    )
    root: Dataset = report[0]
    items = list(root.ContentSequence)
    if library := _image_library(entries):
        items.insert(-1, library)  # TID 1500 is ordered: the library comes before the measurements
    items.append(_evaluations(request, entries, manifest, settings))
    root.ContentSequence = ContentSequence(items)
    return root


def _observer(model: ModelIdentity) -> ObserverContext:
    return ObserverContext(
        observer_type=_DEVICE,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=DEVICE_UID,
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=words.ascii_text(model.name),
            serial_number=DEVICE_UID.rpartition(".")[2],
        ),
    )


def _procedure(lead: Dataset) -> Code:
    """The examination as the source codes it in a standard scheme, else simply plain radiography."""
    element = header.element(lead, "ProcedureCodeSequence")
    for item in element.value if element is not None else ():
        parts = [header.text(item, key) for key in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
        if (
            all(part and part.isascii() and len(part) <= 64 for part in parts)
            and parts[1] in _STANDARD_SCHEMES
        ):
            return Code(*parts)
    return codes.PLAIN_RADIOGRAPHY


_STANDARD_SCHEMES: Final = frozenset({"SCT", "LN", "DCM", "RADLEX", "C4"})


def _image_library(entries: Sequence[Entry]) -> ContainerContentItem | None:
    images = [
        _library_entry(entry) for entry in entries if entry.reference and header.is_image(entry.reference)
    ]
    if not images:
        return None
    group = _container(codes.IMAGE_LIBRARY_GROUP, images)
    return _container(codes.IMAGE_LIBRARY, [group])


def _library_entry(entry: Entry) -> ContentItem:
    image = refer(entry.reference, _SOURCE)
    described: list[ContentItem] = []
    if modality := codes.MODALITIES.get(header.text(entry.source.dataset, "Modality")):
        described.append(CodeContentItem(codes.MODALITY, modality, _ACQUISITION))
    if side := codes.LATERALITIES.get(entry.label.laterality):
        described.append(CodeContentItem(codes.IMAGE_LATERALITY, side, _ACQUISITION))
    if view := codes.VIEWS.get(entry.label.view):
        described.append(CodeContentItem(codes.IMAGE_VIEW, view, _ACQUISITION))
    if entry.source.source_width_px > 0 and entry.source.source_height_px > 0:
        for name, value in (
            (codes.PIXEL_ROWS, entry.source.source_height_px),
            (codes.PIXEL_COLUMNS, entry.source.source_width_px),
        ):
            described.append(NumContentItem(name, value, codes.PIXELS, relationship_type=_ACQUISITION))
    if described:
        image.ContentSequence = ContentSequence(described)
    return image


def _container(name: Code, items: Sequence[ContentItem]) -> ContainerContentItem:
    container = ContainerContentItem(name, relationship_type=CONTAINS)
    container.ContentSequence = ContentSequence(items)
    return container


def _evaluations(
    request: StudyRequest, entries: Sequence[Entry], manifest: Manifest, settings: ReportSettings
) -> ContainerContentItem:
    """The study as a whole (TID 1500, Qualitative Evaluations): the most anomalous radiograph leads."""
    summary = words.summary([(entry.label.title, entry.source.result) for entry in entries], manifest)
    comments = [words.NOT_A_DIAGNOSIS]
    leader = entries[0].source.result
    if leader.operating_point is not None:
        comments.append(words.operating_point(leader.operating_point))
    if settings.research_use_only:
        comments.insert(0, words.RESEARCH)
    if not request.gate:
        comments.append(words.GATE_OFF)
    items: list[ContentItem] = [TextContentItem(codes.SUMMARY, summary, CONTAINS)]
    verdict = codes.ABOVE if leader.abnormal else codes.NOT_ABOVE
    if leader.status is Status.SCORED:
        items.append(CodeContentItem(codes.VERDICT, verdict, CONTAINS))
    else:
        items.append(CodeContentItem(codes.ANALYSIS, codes.ANALYSIS_NOT_DONE, CONTAINS))
    items.extend(TextContentItem(codes.COMMENT, comment, CONTAINS) for comment in comments)
    return _container(codes.QUALITATIVE_EVALUATIONS, items)
