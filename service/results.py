"""From what the runners say to what goes over the wire: one for command line, HTTP API and DICOM path."""

from pydicom.dataset import Dataset

from models.package import OperatingPoint
from models.rejection import Rejection
from runners.analysis import Scored
from runners.loaded import EngineReport
from service import contract
from service.contract import InstanceResult, ModelIdentity, RadiographResult, Region, Status
from service.report.inputs import SourceInstance


def identity_of(report: EngineReport) -> ModelIdentity:
    """The arithmetic that answers."""
    return ModelIdentity(
        name=report.model,
        version=report.model_version,
        engine=f"{report.engine} {report.engine_version}",
        precision=report.precision,
        parity=report.parity,
        weights_sha256=report.weights_sha256,
    )


def result_of(
    outcome: Scored | Rejection, *, model: ModelIdentity, seconds: float, file: str = ""
) -> RadiographResult:
    """The result of one radiograph."""
    if isinstance(outcome, Rejection):
        return RadiographResult(
            file=file,
            status=Status.ERROR if outcome.code.unreadable else Status.NOT_ANALYSABLE,
            reason_code=outcome.code.value,
            reason=outcome.reason,
            model=model,
            seconds=round(seconds, 4),
        )
    finding = outcome.finding
    return RadiographResult(
        file=file,
        status=Status.SCORED,
        score=finding.score,
        percentile=finding.percentile,
        novelty=finding.novelty,
        abnormal=finding.abnormal,
        regions=tuple(Region(**vars(region)) for region in finding.regions),
        model=model,
        operating_point=_wire(outcome.operating_point),
        seconds=round(seconds, 4),
    )


def instance_result(result: RadiographResult, sop_instance_uid: str) -> InstanceResult:
    """The same result, said of one instance of a study."""
    return InstanceResult(**dict(result), sop_instance_uid=sop_instance_uid)


def _wire(point: OperatingPoint) -> contract.OperatingPoint:
    return contract.OperatingPoint(
        name=point.name,
        specificity=point.specificity,
        threshold=point.threshold,
        sensitivity=point.sensitivity,
        sensitivity_low=point.sensitivity_low,
        sensitivity_high=point.sensitivity_high,
        sensitivity_statement=point.statement,
    )


def source_of(
    dataset: Dataset, answer: RadiographResult, outcome: Scored | Rejection | None
) -> SourceInstance:
    """What the report is built from, for one instance; dataset: its header, without PixelData."""
    result = instance_result(answer, str(dataset.SOPInstanceUID))
    if not isinstance(outcome, Scored):
        return SourceInstance(
            dataset=dataset, display=None, source_width_px=0, source_height_px=0, result=result
        )
    return SourceInstance(
        dataset=dataset,
        display=outcome.display,
        source_width_px=outcome.prepared.source_width_px,
        source_height_px=outcome.prepared.source_height_px,
        result=result,
        anomaly_map=outcome.map_on_display(),
    )
