"""Every metric of the listener: labels bounded and free of PHI, every set there from the start, at 0."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from dicom_listener.admission import Fault, Reason
from dicom_listener.commitment import Result
from dicom_listener.ledger.overview import Backlog
from dicom_listener.ledger.records import Trigger
from dicom_listener.readiness import Readiness
from skiagraph import __version__
from skiagraph.settings.listener import ListenerSettings
from skiagraph.settings.tls import not_after

OTHER: Final = "other"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_LONG_SECONDS: Final = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 72 * 3600)
_MODALITIES: Final = ("CR", "DX", "OT", OTHER)
_SYNTAXES: Final = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
    OTHER,
)

registry = CollectorRegistry()

associations_total = Counter(
    "skiagraph_associations_total",
    "Associations by outcome.",
    ("calling_ae", "result", "reason"),
    registry=registry,
)
associations_active = Gauge("skiagraph_associations_active", "Associations open now.", registry=registry)
instances_received_total = Counter(
    "skiagraph_instances_received_total",
    "C-STORE requests by the status they were answered with.",
    ("calling_ae", "modality", "transfer_syntax", "status"),
    registry=registry,
)
received_bytes_total = Counter(
    "skiagraph_received_bytes_total", "Bytes of the instances made durable.", registry=registry
)
store_duration_seconds = Histogram(
    "skiagraph_store_duration_seconds",
    "From the last byte of an instance to its durable acknowledgement.",
    buckets=_SECONDS,
    registry=registry,
)
last_instance_received = Gauge(
    "skiagraph_last_instance_received_timestamp_seconds",
    "When the last instance came, by calling AE title; 0: none since the start.",
    ("calling_ae",),
    registry=registry,
)
study_assembly_seconds = Histogram(
    "skiagraph_study_assembly_seconds",
    "From the first instance of a study to its revision.",
    buckets=_LONG_SECONDS,
    registry=registry,
)
studies_completed_total = Counter(
    "skiagraph_studies_completed_total", "Revisions cut, by trigger.", ("trigger",), registry=registry
)
late_instances_total = Counter(
    "skiagraph_late_instances_total", "Instances that came after a revision was cut.", registry=registry
)
stage_duration_seconds = Histogram(
    "skiagraph_stage_duration_seconds",
    "Time of one attempt at a stage.",
    ("stage",),
    buckets=_SECONDS,
    registry=registry,
)
retries_total = Counter(
    "skiagraph_retries_total", "Attempts that failed and will be made again.", ("stage",), registry=registry
)
turnaround_seconds = Histogram(
    "skiagraph_turnaround_seconds",
    "From the last instance in to every object accepted.",
    buckets=_LONG_SECONDS,
    registry=registry,
)
delivery_attempts_total = Counter(
    "skiagraph_delivery_attempts_total", "Attempts to deliver.", ("destination", "outcome"), registry=registry
)
storage_commitment_total = Counter(
    "skiagraph_storage_commitment_total",
    "Storage Commitment transactions by how they ended; role scu: ours, scp: of peers.",
    ("role", "result"),
    registry=registry,
)
peer_up = Gauge(
    "skiagraph_peer_up",
    "Whether the destination answered the last C-ECHO.",
    ("destination",),
    registry=registry,
)
certificate_not_after = Gauge(
    "skiagraph_certificate_not_after_timestamp_seconds",
    "When a certificate that we show ends, by the setting that names it.",
    ("certificate",),
    registry=registry,
)
spool_reserve_bytes = Gauge(
    "skiagraph_spool_reserve_bytes", "Free space below which nothing is accepted.", registry=registry
)
build_info = Gauge("skiagraph_build_info", "The running version.", ("version",), registry=registry)


def observe_turnaround(last_received_at: datetime) -> None:
    turnaround_seconds.observe(max(0.0, (datetime.now(UTC) - last_received_at).total_seconds()))


class BacklogCollector:
    """What waits, read from the ledger at each scrape: true after a restart, too."""

    def __init__(self, read: Callable[[], Backlog], free_bytes: Callable[[], int]) -> None:
        self._read = read
        self._free_bytes = free_bytes

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        backlog = self._read()
        depth = GaugeMetricFamily("skiagraph_queue_depth", "Studies waiting at a stage.", labels=["stage"])
        age = GaugeMetricFamily(
            "skiagraph_queue_oldest_age_seconds", "How long the oldest waits at a stage.", labels=["stage"]
        )
        for stage, queue in backlog.stages.items():
            depth.add_metric([stage], queue.depth)
            age.add_metric([stage], queue.oldest_age_seconds)
        pending = GaugeMetricFamily(
            "skiagraph_outbox_pending", "Results not yet delivered.", labels=["destination"]
        )
        oldest = GaugeMetricFamily(
            "skiagraph_outbox_oldest_age_seconds", "How long the oldest result waits.", labels=["destination"]
        )
        for destination, queue in backlog.outboxes.items():
            pending.add_metric([destination], queue.depth)
            oldest.add_metric([destination], queue.oldest_age_seconds)
        yield from (depth, age, pending, oldest)
        yield GaugeMetricFamily(
            "skiagraph_studies_open",
            "Studies that instances are still coming for.",
            backlog.stages["assembly"].depth,
        )
        yield GaugeMetricFamily(
            "skiagraph_dead_letter_studies",
            "Revisions that wait for somebody.",
            backlog.dead_letters,
        )
        yield GaugeMetricFamily("skiagraph_spool_free_bytes", "Free space of the spool.", self._free_bytes())


class ReadinessCollector:
    """What `/readyz` says, asked at each scrape."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily(
            "skiagraph_ready", "Whether a check of the listener's /readyz holds.", labels=["check"]
        )
        for check, holds in self._readiness.held().items():
            ready.add_metric([check], holds)
        yield ready


def known_peers(settings: ListenerSettings) -> tuple[str, ...]:
    """The calling AE titles that get a label of their own."""
    return (*sorted({peer.ae_title for peer in settings.peers}), OTHER)


def calling_label(settings: ListenerSettings, calling_ae: str) -> str:
    return calling_ae if any(peer.ae_title == calling_ae for peer in settings.peers) else OTHER


def modality_label(modality: str) -> str:
    return modality if modality in _MODALITIES else OTHER


def syntax_label(transfer_syntax_uid: str) -> str:
    return transfer_syntax_uid if transfer_syntax_uid in _SYNTAXES else OTHER


def prepare(settings: ListenerSettings) -> None:
    """Make every label set exist at 0."""
    for calling in known_peers(settings):
        last_instance_received.labels(calling)
        associations_total.labels(calling, "accepted", "")
        associations_total.labels(calling, "aborted", "")
        associations_total.labels(calling, "rejected", "tls_handshake_failed")
        for reason in Reason:
            associations_total.labels(calling, "rejected", reason.value)
        for modality in _MODALITIES:
            for syntax in _SYNTAXES:
                for status in ("0x0000", "0xA700", "0xA900", "0xC000", "0xC211"):
                    instances_received_total.labels(calling, modality, syntax, status)
    for calling, fault in product(known_peers(settings), Fault):
        associations_total.labels(calling, "aborted", fault.value)
        associations_total.labels(OTHER, "failed", fault.value)
    for trigger in Trigger:
        studies_completed_total.labels(trigger.value)
    for stage in ("scoring", "delivery"):
        stage_duration_seconds.labels(stage)
        retries_total.labels(stage)
    for destination in settings.destinations:
        peer_up.labels(destination.name)
        for outcome in ("accepted", "transient", "permanent"):
            delivery_attempts_total.labels(destination.name, outcome)
    for role, result in product(("scp", "scu"), Result):
        storage_commitment_total.labels(role, result.value)
    spool_reserve_bytes.set(settings.reserve_bytes)
    build_info.labels(__version__).set(1)
    _show_certificates(settings)


def _show_certificates(settings: ListenerSettings) -> None:
    for setting, certificate in _certificates(settings):
        certificate_not_after.labels(setting).set(not_after(certificate))


def _certificates(settings: ListenerSettings) -> Iterator[tuple[str, Path]]:
    """Setting and file of every certificate that we show to others."""
    if settings.tls is not None:
        yield "listener.tls", settings.tls.certificate
    if settings.service_tls is not None and settings.service_tls.certificate is not None:
        yield "listener.service_tls", settings.service_tls.certificate
    named = [(f"destinations.{destination.name}", destination.tls) for destination in settings.destinations]
    named += [(f"peers.{peer.ae_title}", peer.tls) for peer in settings.peers]
    for name, tls in named:
        if tls is not None and tls.certificate is not None:
            yield f"listener.{name}.tls", tls.certificate
