"""Metrics of the inference half; safe in several processes. Labels are bounded and free of PHI."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from models.rejection import RejectionCode
from service.contract import RadiographResult, Status
from skiagraph.settings.tls import TlsFiles, not_after

if TYPE_CHECKING:
    from runners.loaded import EngineReport

_ARITHMETIC = ("model", "version", "engine")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_duration = Histogram(
    "skiagraph_inference_duration_seconds",
    "Time of one phase for one radiograph, without waiting",
    (*_ARITHMETIC, "phase"),
    buckets=_SECONDS,
)
_requests = Counter("skiagraph_inference_requests", "Radiographs by outcome", (*_ARITHMETIC, "outcome"))
_fallbacks = Counter(
    "skiagraph_engine_fallback", "Starts on another engine than the wanted one", ("from", "to", "reason")
)
_model_info = Gauge(
    "skiagraph_model_info",
    "1 for each model that is loaded",
    (*_ARITHMETIC, "precision"),
    multiprocess_mode="max",
)
_parity = Gauge(
    "skiagraph_engine_parity_deviation",
    "Largest deviation from the golden outputs at start-up",
    _ARITHMETIC,
    multiprocess_mode="max",
)
_score = Histogram(
    "skiagraph_anomaly_score_percentile",
    "Anomaly score as its percentile among held-out normals",
    ("model",),
    buckets=(5, 10, 25, 50, 75, 90, 95, 99, 100),
)
_verdicts = Counter("skiagraph_verdicts", "Scored radiographs by verdict", ("model", "verdict"))
_rejected = Counter("skiagraph_input_rejected", "Radiographs that were not analysed", ("reason",))
_http = Histogram(
    "skiagraph_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer",
    ("route", "status"),
    buckets=_SECONDS,
)
_certificate = Gauge(
    "skiagraph_certificate_not_after_timestamp_seconds",
    "When a certificate that we show ends, by the setting that names it",
    ("certificate",),
    multiprocess_mode="max",
)
_problems = Counter("skiagraph_http_problems", "Requests that ended in a problem", ("code", "status"))

for _code in RejectionCode:
    _rejected.labels(_code.value)


def show_engines(reports: "Iterable[EngineReport]") -> None:
    """Say once which engines run; every label set exists from then on."""
    for report in reports:
        arithmetic = (report.model, report.model_version, report.engine)
        _model_info.labels(*arithmetic, report.precision).set(1)
        _parity.labels(*arithmetic).set(report.parity)
        for status in Status:
            _requests.labels(*arithmetic, status.value)
        for phase in ("prepare", "engine", "report"):
            _duration.labels(*arithmetic, phase)
        _score.labels(report.model)
        for verdict in ("abnormal", "unremarkable"):
            _verdicts.labels(report.model, verdict)
        fallbacks = _fallbacks.labels("tensorrt", "onnxruntime", "refused")
        if report.fallback:
            fallbacks.inc()


def show_certificate(tls: TlsFiles) -> None:
    _certificate.labels("service.tls").set(not_after(tls.certificate))


def count_result(result: RadiographResult, *, prepare: float, engine: float) -> None:
    """Count one radiograph."""
    name = result.model.engine.split(" ")[0]
    arithmetic = (result.model.name, result.model.version, name)
    _requests.labels(*arithmetic, result.status.value).inc()
    _duration.labels(*arithmetic, "prepare").observe(prepare)
    if result.status is not Status.SCORED:
        _rejected.labels(result.reason_code or "").inc()
        return
    _duration.labels(*arithmetic, "engine").observe(engine)
    _score.labels(result.model.name).observe(result.percentile or 0.0)
    _verdicts.labels(result.model.name, "abnormal" if result.abnormal else "unremarkable").inc()


def observe_phase(result: RadiographResult, phase: str, seconds: float) -> None:
    """Time of a phase that follows scoring, such as the report."""
    name = result.model.engine.split(" ")[0]
    _duration.labels(result.model.name, result.model.version, name, phase).observe(seconds)


def count_problem(code: str, status: int) -> None:
    _problems.labels(code, str(status)).inc()


def observe_request(route: str, status: int, seconds: float) -> None:
    """One answered request; route: the pattern, never the path, which anybody may choose."""
    _http.labels(route, str(status)).observe(seconds)


class _Ready(Collector):
    """Of this scrape alone; a Gauge would stay in a file when its process is gone."""

    def __init__(self, ready: bool) -> None:
        self._ready = ready

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "skiagraph_service_ready", "Whether radiographs can be scored now, as /readyz says", self._ready
        )


def exposition(*, ready: bool) -> bytes:
    """Everything that is counted, by this process and by the others of the service."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(_Ready(ready))
    return bytes(generate_latest(registry))
