"""From the results of one study to the checked objects for the PACS."""

import hashlib
from collections.abc import Sequence
from itertools import count

import pydicom.config
from pydicom.dataset import Dataset

from models.package import Manifest
from service.contract import ModelIdentity, ObjectKind, ProducedObject, Reference, Status, StudyRequest
from service.report import source as header
from service.report.check import check_report, check_secondary_capture
from service.report.colours import Picture
from service.report.envelope import file_bytes, leading
from service.report.groups import Entry
from service.report.heatmap import draw
from service.report.identity import derived_uid
from service.report.inputs import BuiltObject, SourceInstance
from service.report.overview import draw_overview
from service.report.secondary_capture import secondary_capture, with_pixels
from service.report.structured_report import evidence_of, structured_report
from skiagraph import log
from skiagraph.settings.report import ReportSettings

_INSTANCES_PER_REVISION = 1000  # heatmaps of an amended report are numbered after those of the one before
_DESCRIPTIONS = {
    ObjectKind.HEATMAP: "Anomaly heatmap",
    ObjectKind.OVERVIEW: "Overview of anomaly heatmaps",
}
_log = log.get(__name__)
_PLACEHOLDER = "2.25." + 39 * "9"  # beyond 128 bits, so that no UUID-derived UID is like it


def build_study(
    *,
    request: StudyRequest,
    sources: Sequence[SourceInstance],
    model: ModelIdentity,
    manifest: Manifest,
    settings: ReportSettings,
) -> list[BuiltObject]:
    """The Structured Report, then a heatmap per scored radiograph, then the overview if the settings ask.

    The same arguments give the same bytes. Raises ReportFault when an object of ours is not fit to be sent,
    ValueError when there is no source: a report needs something to report on.
    """
    if not sources:
        raise ValueError(f"study {request.study_instance_uid} has no instances to report on")
    # What the source says is repeated as it is; the check tells our faults from the source's.
    with pydicom.config.disable_value_validation():
        return _Study(request, sources, model, manifest, settings).build()


class _Study:
    """The facts that every object of the study shares."""

    def __init__(
        self,
        request: StudyRequest,
        sources: Sequence[SourceInstance],
        model: ModelIdentity,
        manifest: Manifest,
        settings: ReportSettings,
    ) -> None:
        self._request = request
        self._model = model
        self._manifest = manifest
        self._settings = settings
        self._sources = sorted(
            {one.result.sop_instance_uid: one for one in sources}.values(), key=_report_order
        )
        by_uid = sorted(self._sources, key=lambda source: source.result.sop_instance_uid)
        self._lead = leading(by_uid, request.study_instance_uid)

    def build(self) -> list[BuiltObject]:
        entries: list[Entry] = []
        pictures: list[BuiltObject] = []
        for number, source in enumerate(self._sources, start=1):
            heatmap = self._heatmap(source, number)
            if heatmap is not None:
                pictures.append(heatmap)
            entries.append(
                Entry(
                    source=source,
                    label=header.label(source, number),
                    reference=header.reference(source, self._request),
                    heatmap=heatmap.record.reference if heatmap is not None else None,
                )
            )
        others: list[Reference] = []
        if self._settings.overview:
            overview = self._overview(entries)
            pictures.append(overview)
            others.append(overview.record.reference)
        return [self._report(entries, others), *pictures]

    def _heatmap(self, source: SourceInstance, number: int) -> BuiltObject | None:
        if source.result.status is not Status.SCORED or source.display is None or source.anomaly_map is None:
            return None
        picture = draw(
            display=source.display,
            anomaly_map=source.anomaly_map,
            source_width_px=source.source_width_px,
            source_height_px=source.source_height_px,
            result=source.result,
            manifest=self._manifest,
            settings=self._settings,
        )
        shown = [(source.dataset, header.reference(source, self._request))]
        return self._capture(ObjectKind.HEATMAP, picture, shown, number, [source])

    def _overview(self, entries: Sequence[Entry]) -> BuiltObject:
        shown = [(entry.source.dataset, entry.reference) for entry in entries]
        picture = draw_overview(entries, self._manifest, self._settings)
        number = len(entries) + 1
        return self._capture(ObjectKind.OVERVIEW, picture, shown, number, [entry.source for entry in entries])

    def _capture(
        self,
        kind: ObjectKind,
        picture: Picture,
        shown: Sequence[tuple[Dataset, Reference | None]],
        number: int,
        drawn: Sequence[SourceInstance],
    ) -> BuiltObject:
        dataset = secondary_capture(
            request=self._request,
            picture=picture,
            shown=shown,
            lead=self._lead,
            model=self._model,
            instance_number=(self._request.revision - 1) * _INSTANCES_PER_REVISION + number,
            description=_DESCRIPTIONS[kind],
            settings=self._settings,
        )
        dataset.SOPInstanceUID = _PLACEHOLDER
        dataset.SOPInstanceUID = self._uid_of(file_bytes(dataset), drawn)
        data = with_pixels(dataset, picture, self._settings)
        faults = check_secondary_capture(data, kind)
        record = self._record(kind, dataset, data, drawn[0] if kind is ObjectKind.HEATMAP else None)
        return BuiltObject(record=record, data=data, picture=picture, source_faults=faults)

    def _report(self, entries: Sequence[Entry], others: Sequence[Reference]) -> BuiltObject:
        dataset = structured_report(
            request=self._request,
            entries=entries,
            others=others,
            lead=self._lead,
            model=self._model,
            manifest=self._manifest,
            settings=self._settings,
        )
        dataset.SOPInstanceUID = _PLACEHOLDER
        unnamed = file_bytes(dataset)
        dataset.SOPInstanceUID = self._uid_of(unnamed)
        data = unnamed.replace(_PLACEHOLDER.encode(), dataset.SOPInstanceUID.encode())
        faults = check_report(data, evidence_of(entries, others))
        if faults:
            study = self._request.study_instance_uid
            _log.info("the objects repeat faults of their source", study=study, attributes=faults)
        record = self._record(ObjectKind.STRUCTURED_REPORT, dataset, data, None)
        return BuiltObject(record=record, data=data, source_faults=faults)

    def _uid_of(self, said: bytes, drawn: Sequence[SourceInstance] = ()) -> str:
        """The SOP Instance UID for all that an object says, so that no two objects share one.

        said: the file with the placeholder, without its pixels, which follow from the results that are drawn.
        Model identity, calibration, settings and revision are added. The UID is as long as the placeholder.
        """
        facts = [hashlib.sha256(said).hexdigest(), str(self._request.revision)]
        parts = (self._model, self._manifest.calibration, self._settings)
        facts += [part.model_dump_json() for part in parts]
        facts += [source.result.model_dump_json(exclude={"seconds"}) for source in drawn]
        candidates = (derived_uid("instance", *facts, str(attempt)) for attempt in count())
        return next(uid for uid in candidates if len(uid) == len(_PLACEHOLDER))

    def _record(
        self, kind: ObjectKind, dataset: Dataset, data: bytes, source: SourceInstance | None
    ) -> ProducedObject:
        return ProducedObject(
            kind=kind,
            reference=Reference(
                study_instance_uid=dataset.StudyInstanceUID,
                series_instance_uid=dataset.SeriesInstanceUID,
                sop_class_uid=dataset.SOPClassUID,
                sop_instance_uid=dataset.SOPInstanceUID,
            ),
            source_sop_instance_uid=source.result.sop_instance_uid if source is not None else None,
            sha256=hashlib.sha256(data).hexdigest(),
            size_bytes=len(data),
        )


def _report_order(source: SourceInstance) -> tuple[int, float, str]:
    """The most anomalous leads: above the operating point, then by score, then what was not analysed."""
    result = source.result
    if result.status is Status.SCORED:
        return (0 if result.abnormal else 1, -(result.score or 0.0), result.sop_instance_uid)
    return (2 if result.status is Status.NOT_ANALYSABLE else 3, 0.0, result.sop_instance_uid)
