"""From what the runners say to what goes over the wire: one for command line, HTTP API and DICOM path."""

from models.package import OperatingPoint
from models.rejection import Rejection
from runners.analysis import Scored
from runners.loaded import EngineReport
from service import contract
from service.contract import InstanceResult, ModelIdentity, RadiographResult, Region, Status


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
