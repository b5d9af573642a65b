"""One study: every instance analysed, then the report room called once."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from runners.decoded import DecodeLimits
from runners.dicom_reader import read_header
from service import metrics
from service.contract import StudyRequest, StudyResult
from service.errors import Fault, Rejected
from service.pipeline import Analysed, Pipeline
from service.report.build import build_study
from service.report.errors import ReportFault
from service.report.inputs import BuiltObject, SourceInstance
from service.results import source_of
from skiagraph import log
from skiagraph.settings import Settings

# As in the contract: laxer than PS3.5 about leading zeros, which real exports carry.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64
_log = log.get(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyAnswer:
    """The result and the bytes of the objects it names, in its order."""

    result: StudyResult
    objects: tuple[bytes, ...]


class StudyPipeline:
    """Analyses studies; holds nothing between two of them."""

    def __init__(self, *, pipeline: Pipeline, settings: Settings) -> None:
        self._pipeline = pipeline
        self._report_settings = settings.report
        self._limits = DecodeLimits(max_pixels=settings.service.max_pixels)

    async def run(self, request: StudyRequest, instances: Sequence[bytes]) -> StudyAnswer:
        """Analyse and report; Rejected names the instance that is not one of this study."""
        choice = await self._pipeline.choose(request.model, request.operating_point)
        # Of an instance that was sent twice, the later one counts.
        headers = {
            dataset.SOPInstanceUID: (dataset, data)
            for dataset, data in zip(self._headers(request, instances), instances, strict=True)
        }
        started = time.perf_counter()
        analysed = await asyncio.gather(
            *(self._pipeline.analyse(data, choice=choice, gate=request.gate) for _, data in headers.values())
        )
        scored_at = time.perf_counter()
        built, sources = await asyncio.to_thread(
            self._report, request, [d for d, _ in headers.values()], analysed
        )
        finished = time.perf_counter()
        metrics.observe_phase(sources[0].result, "report", finished - scored_at)
        result = StudyResult(
            study_instance_uid=request.study_instance_uid,
            revision=request.revision,
            result_time=request.result_time,
            model=choice.identity,
            gate=request.gate,
            results=tuple(source.result for source in sources),
            objects=tuple(each.record for each in built),
            stage_seconds={
                "prepare": round(max(each.prepare_seconds for each in analysed), 4),
                "engine": round(max(each.engine_seconds for each in analysed), 4),
                "analyse": round(scored_at - started, 4),
                "report": round(finished - scored_at, 4),
            },
        )
        return StudyAnswer(result=result, objects=tuple(each.data for each in built))

    def _report(
        self, request: StudyRequest, headers: Sequence[Dataset], analysed: Sequence[Analysed]
    ) -> tuple[list[BuiltObject], list[SourceInstance]]:
        sources = [
            source_of(header, each.result, each.outcome)
            for header, each in zip(headers, analysed, strict=True)
        ]
        package = self._pipeline.packages[analysed[0].result.model.name]
        try:
            built = build_study(
                request=request,
                sources=sources,
                model=analysed[0].result.model,
                manifest=package.manifest,
                settings=self._report_settings,
            )
        except ReportFault as error:
            _log.error("a report is not fit to be sent", study=request.study_instance_uid, error=str(error))
            raise Fault(500, "report_fault", f"the report is not fit to be sent: {error}") from error
        return built, sources

    def _headers(self, request: StudyRequest, instances: Sequence[bytes]) -> list[Dataset]:
        return [self._header(request, number, data) for number, data in enumerate(instances)]

    def _header(self, request: StudyRequest, number: int, data: bytes) -> Dataset:
        field = f"instances[{number}]"
        try:
            dataset = read_header(data, limits=self._limits)
        except Exception as error:  # hostile bytes make pydicom raise anything
            raise Rejected(
                422,
                "not_dicom",
                f"{field} is not a DICOM file: {type(error).__name__}",
                field=field,
                fix="send DICOM Part 10 files; POST /v1/score takes PNG and JPEG",
            ) from error
        uid = str(dataset.get("SOPInstanceUID") or "")
        if not _UID.fullmatch(uid) or len(uid) > _UID_LENGTH:
            raise Rejected(
                422,
                "invalid_header",
                f"{field} has no valid SOP Instance UID",
                field=field,
                fix="leave it out",
            )
        if dataset.get("StudyInstanceUID") not in (None, "", request.study_instance_uid):
            raise Rejected(
                422,
                "wrong_study",
                f"{field} belongs to another study than the request says",
                field=field,
                fix="send the instances of one study in one request",
            )
        return dataset
