"""The measurement groups of the Structured Report: per radiograph (TID 1501) and per region (TID 1410)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from highdicom.sr.content import (
    FindingSite,
    ImageRegion,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
)
from highdicom.sr.enum import GraphicTypeValues, RelationshipTypeValues
from highdicom.sr.templates import (
    AlgorithmIdentification,
    Measurement,
    MeasurementProperties,
    MeasurementsAndQualitativeEvaluations,
    MeasurementStatisticalProperties,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    TrackingIdentifier,
)
from highdicom.sr.value_types import (
    CompositeContentItem,
    ContentItem,
    ImageContentItem,
    NumContentItem,
    TextContentItem,
)
from pydicom.sr.coding import Code

from models.findings import percentile
from models.package import Manifest
from service.contract import MANUFACTURER, ModelIdentity, Reference, Region, Status, StudyRequest
from service.report import codes, words
from service.report import source as header
from service.report.identity import derived_uid
from service.report.inputs import SourceInstance

CONTAINS: Final = RelationshipTypeValues.CONTAINS
Group = MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One radiograph of the report. reference: None where its header lacks what a reference needs."""

    source: SourceInstance
    label: header.Label
    reference: Reference | None
    heatmap: Reference | None


def measurement_groups(
    entry: Entry, request: StudyRequest, model: ModelIdentity, manifest: Manifest
) -> list[Group]:
    """The groups of one radiograph: its own, then its regions in order of rank."""
    scored = entry.source.result.status is Status.SCORED
    own = _scored(entry, request, model, manifest) if scored else _not_analysed(entry, request, model)
    if not scored or entry.reference is None:
        return [own]
    numbered = enumerate(entry.source.result.regions, start=1)
    return [own, *(_region(entry, rank, region, request, model) for rank, region in numbered)]


def _scored(
    entry: Entry, request: StudyRequest, model: ModelIdentity, manifest: Manifest
) -> MeasurementsAndQualitativeEvaluations:
    result = entry.source.result
    measurements = [_score(entry, manifest)]
    if result.novelty is not None:
        rank = percentile(result.novelty, manifest.calibration.novelty_quantiles)
        measurements.append(_ranked(codes.NOVELTY, result.novelty, rank, manifest))
    comments = [words.scored(result, manifest)]
    if unusual := words.unusual_positioning(result, manifest):
        comments.append(unusual)
    if result.operating_point is not None:
        threshold = float(result.operating_point.threshold)
        measurements.append(Measurement(codes.THRESHOLD, threshold, codes.NO_UNITS))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(entry, request),
        algorithm_id=_algorithm(model, entry),
        finding_sites=[_site(entry)],
        measurements=measurements,
        qualitative_evaluations=[
            QualitativeEvaluation(codes.ANALYSIS, codes.ANALYSIS_DONE),
            QualitativeEvaluation(codes.VERDICT, codes.ABOVE if result.abnormal else codes.NOT_ABOVE),
        ],
    )
    _finish(group, entry, comments)
    return group


def _not_analysed(
    entry: Entry, request: StudyRequest, model: ModelIdentity
) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(entry, request),
        algorithm_id=_algorithm(model, entry),
        qualitative_evaluations=[
            QualitativeEvaluation(codes.ANALYSIS, codes.ANALYSIS_NOT_DONE),
            QualitativeEvaluation(codes.REASON, codes.reason(entry.source.result.reason_code)),
        ],
    )
    _finish(group, entry, [words.not_analysed(entry.source.result)])
    return group


def _region(
    entry: Entry, rank: int, region: Region, request: StudyRequest, model: ModelIdentity
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    reference = entry.reference
    if reference is None:
        raise ValueError("a region needs an instance that can be referenced")
    left, top = region.x, region.y
    right, bottom = left + region.width, top + region.height
    corners = np.array(
        [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], dtype=np.float32
    )
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(entry, request, f"region {rank}", str(corners.tolist())),
        referenced_region=ImageRegion(
            GraphicTypeValues.POLYLINE,
            corners,
            SourceImageForRegion(reference.sop_class_uid, reference.sop_instance_uid),
        ),
        finding_type=codes.ANOMALOUS_REGION,
        algorithm_id=AlgorithmIdentification(
            words.ascii_text(model.name),
            words.ascii_text(model.version),
            family=codes.ARTIFICIAL_INTELLIGENCE,
        ),
        finding_sites=[_site(entry)],
        measurements=[
            Measurement(codes.REGION_RANK, rank, codes.NO_UNITS),
            Measurement(codes.REGION_SCORE, float(region.score), codes.NO_UNITS),
        ],
    )


def _score(entry: Entry, manifest: Manifest) -> Measurement:
    result = entry.source.result
    return _ranked(codes.ANOMALY_SCORE, result.score or 0.0, result.percentile, manifest)


def _ranked(name: Code, value: float, rank: float | None, manifest: Manifest) -> Measurement:
    """A value with its place among the held-out normals (TID 311)."""
    if rank is None:
        return Measurement(name, float(value), codes.NO_UNITS)
    ranking = NumContentItem(
        codes.PERCENTILE_RANKING,
        float(rank),
        codes.PERCENT,
        relationship_type=RelationshipTypeValues.HAS_PROPERTIES,
    )
    calibration = manifest.calibration
    population = words.ascii_text(calibration.statement or f"{calibration.normals} normal radiographs")
    properties = MeasurementProperties(
        measurement_statistical_properties=MeasurementStatisticalProperties([ranking], description=population)
    )
    return Measurement(name, float(value), codes.NO_UNITS, properties=properties)


def _algorithm(model: ModelIdentity, entry: Entry) -> AlgorithmIdentification:
    """TID 4019. Which arithmetic answered, down to the weights."""
    point = entry.source.result.operating_point
    parameters = [
        f"engine: {model.engine}",
        f"precision: {model.precision}",
        f"largest deviation from the golden outputs: {model.parity:.3g}",
        f"weights sha256: {model.weights_sha256}",
        *([f"operating point: {point.name}"] if point is not None else []),
    ]
    return AlgorithmIdentification(
        words.ascii_text(model.name),
        words.ascii_text(model.version),
        parameters=[words.ascii_text(parameter) for parameter in parameters],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )


def _tracking(entry: Entry, request: StudyRequest, region: str = "", place: str = "") -> TrackingIdentifier:
    """Readable and unique; a radiograph, or a region at the same place, keeps its UID in amended reports."""
    uid = derived_uid("tracking", request.study_instance_uid, entry.source.result.sop_instance_uid, place)
    return TrackingIdentifier(uid, f"{entry.label.title}, {region}" if region else entry.label.title)


def _site(entry: Entry) -> FindingSite:
    return FindingSite(codes.HAND, laterality=codes.LATERALITIES.get(entry.label.laterality))


def _finish(group: MeasurementsAndQualitativeEvaluations, entry: Entry, comments: Sequence[str]) -> None:
    """Sentences, the source and the heatmap: TID 1501 is extensible."""
    items = group[0].ContentSequence
    items.extend(TextContentItem(codes.COMMENT, comment, CONTAINS) for comment in comments)
    if entry.reference is not None and header.is_image(entry.reference):
        items.append(
            SourceImageForMeasurementGroup(entry.reference.sop_class_uid, entry.reference.sop_instance_uid)
        )
    elif entry.reference is not None:
        items.append(refer(entry.reference, codes.SOURCE_OF_MEASUREMENT))
    if entry.heatmap is not None:
        items.append(refer(entry.heatmap, codes.ILLUSTRATION))


def refer(reference: Reference | None, name: Code) -> ContentItem:
    if reference is None:
        raise ValueError("an instance without series or SOP Class cannot be referenced")
    kind = ImageContentItem if header.is_image(reference) else CompositeContentItem
    return kind(name, reference.sop_class_uid, reference.sop_instance_uid, relationship_type=CONTAINS)
