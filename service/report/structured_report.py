"""The Structured Report: Comprehensive 3D SR (PS3.3 A.35.13) around the content tree."""

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from models.package import Manifest
from service.contract import ModelIdentity, Reference, StudyRequest
from service.report import source as header
from service.report.codes import coding_scheme_identification
from service.report.envelope import envelope
from service.report.groups import Entry
from service.report.identity import derived_uid
from service.report.references import hierarchical
from service.report.tree import content
from skiagraph.settings.report import ReportSettings

_SERIES_NUMBER: Final = 9901


def structured_report(
    *,
    request: StudyRequest,
    entries: Sequence[Entry],
    others: Sequence[Reference],
    lead: Dataset,
    model: ModelIdentity,
    manifest: Manifest,
    settings: ReportSettings,
) -> Dataset:
    """The data set without SOP Instance UID. others: evidence of ours that illustrates no single entry."""
    dataset = envelope(
        request=request,
        lead=lead,
        model=model,
        sop_class_uid=Comprehensive3DSRStorage,
        modality="SR",
        series_instance_uid=derived_uid("report", request.study_instance_uid, model.name, model.version),
        series_number=_SERIES_NUMBER,
        series_description="Skiagraph anomaly report",
        instance_number=request.revision,
    )
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CodingSchemeIdentificationSequence = [coding_scheme_identification()]
    if order := _order(request, lead):
        dataset.ReferencedRequestSequence = [order]
    if evidence := hierarchical(evidence_of(entries, others)):
        dataset.CurrentRequestedProcedureEvidenceSequence = evidence
    if request.predecessor is not None:
        dataset.PredecessorDocumentsSequence = hierarchical([request.predecessor])
    root = content(
        request=request, entries=entries, lead=lead, model=model, manifest=manifest, settings=settings
    )
    dataset.update(root)
    return dataset


def evidence_of(entries: Sequence[Entry], others: Sequence[Reference]) -> list[Reference]:
    """Every source that can be referenced, and every heatmap."""
    sources = [entry.reference for entry in entries if entry.reference is not None]
    return [*sources, *(entry.heatmap for entry in entries if entry.heatmap is not None), *others]


def _order(request: StudyRequest, lead: Dataset) -> Dataset | None:
    """An item of Referenced Request Sequence (PS3.3 C.17.2), when the source shows an order."""
    requested = header.element(lead, "RequestAttributesSequence")
    attributes = requested.value[0] if requested is not None and requested.value else Dataset()
    accession = header.text(lead, "AccessionNumber")
    procedure_id = header.text(attributes, "RequestedProcedureID")
    if not accession and not procedure_id:
        return None
    item = Dataset()
    item.StudyInstanceUID = request.study_instance_uid
    item.ReferencedStudySequence = []
    item.AccessionNumber = accession
    item.PlacerOrderNumberImagingServiceRequest = ""
    item.FillerOrderNumberImagingServiceRequest = ""
    item.RequestedProcedureID = procedure_id
    item.RequestedProcedureDescription = header.text(attributes, "RequestedProcedureDescription")
    item.RequestedProcedureCodeSequence = []
    return item
