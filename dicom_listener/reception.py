"""The C-STORE and C-ECHO SCP: bytes in, durable, acknowledged; pixels are never decoded (PS3.4 A, B)."""

import logging
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pydicom import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy.exc import SQLAlchemyError

from dicom_listener import admission, commitment, headers, metrics, tls
from dicom_listener.admission import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SUCCESS,
    Fault,
    Reason,
    StoreRefusal,
)
from dicom_listener.assembly import Assembly
from dicom_listener.errors import StartupError, UnreadableInstanceError
from dicom_listener.headers import Headers
from dicom_listener.ledger import arrivals, journal
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import Arrival
from dicom_listener.routing import rule_for, timing
from dicom_listener.spool import Spool
from dicom_listener.transport import AssociationServer, Connection
from service.contract import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

_log = log.get(__name__)
_LONGEST_COMMENT: Final = 64  # (0000,0902) Error Comment is LO
_CHECK_SPACE_EVERY_BYTES: Final = 1024 * 1024
_ABANDONED_AFTER_SECONDS: Final = 60.0


class Reception(AbstractContextManager["Reception"]):
    """Listens from `__enter__` to `__exit__`; `port` is the one that was bound."""

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        database: Database,
        spool: Spool,
        assembly: Assembly,
        handlers: Sequence[tuple[evt.EventType, Callable[[Any], Any]]] = (),
    ) -> None:
        self._settings = settings
        self._more_handlers = handlers
        self._database = database
        self._spool = spool
        self._assembly = assembly
        self._stopping = threading.Event()
        self._filing = [threading.Lock() for _ in range(64)]
        self._ae = application_entity(settings)
        self._servers: list[Any] = []
        self.port = 0
        self.tls_port = 0

    def __enter__(self) -> Self:
        # pynetdicom writes what it receives in chunks to temporary files: they belong into the spool.
        tempfile.tempdir = str(self._spool.incoming)
        _config.STORE_RECV_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"  # it would format every PDU for a log that nobody reads
        for part in ("dul", "fsm", "dimse", "association", "utils"):  # a stack trace for every bad PDU
            logging.getLogger(f"pynetdicom.{part}").setLevel(logging.CRITICAL)
        settings = self._settings
        self.port = self._listen("listener.port", settings.port, None)
        if settings.tls is not None:
            self.tls_port = self._listen(
                "listener.tls.port", settings.tls.port, tls.server_context(settings.tls)
            )
        return self

    def _listen(self, name: str, port: int, context: ssl.SSLContext | None) -> int:
        """Start one server; returns the port it is bound to."""
        host = self._settings.host
        try:
            server = self._ae.make_server(
                (host, port),
                ssl_context=context,
                evt_handlers=self._handlers(),
                server_class=AssociationServer,
                ended=self._ended,
            )
        except OSError as error:
            raise StartupError(
                f"listener.host and {name} {host}:{port} cannot be bound: {error.strerror};"
                " is another node running?"
            ) from error
        threading.Thread(target=server.serve_forever, name=f"scp-{port}", daemon=True).start()
        self._servers.append(server)
        return int(server.server_address[1])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no new association, let the open ones finish until the deadline, cut the rest."""
        self._stopping.set()
        deadline = time.monotonic() + self._settings.drain_seconds
        while self._ae.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        for server in self._servers:
            server.shutdown()
        self._ae.shutdown()
        tempfile.tempdir = None

    def remove_abandoned(self) -> None:
        """Remove what was being received when an association's thread died, of a full disk, say."""
        messages = [one.dimse.message for one in self._ae.active_associations if one.dimse is not None]
        under_way = {str(getattr(message, "_data_set_path", None)) for message in messages}
        for path in self._spool.incoming.iterdir():
            with suppress(FileNotFoundError):
                age = time.time() - path.stat().st_mtime
                if str(path) not in under_way and age > _ABANDONED_AFTER_SECONDS:
                    path.unlink()
                    _log.warning("removed an instance that was never received to its end", age_seconds=age)

    def alive(self) -> bool:
        return bool(self._servers) and not self._stopping.is_set()

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_PDU_RECV, self._pdu),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            *self._more_handlers,
        ]

    def _requested(self, event: Any) -> None:
        request = event.assoc.requestor.primitive
        calling = str(request.calling_ae_title).strip()
        refusal = admission.associate(
            self._settings,
            calling_ae=calling,
            called_ae=str(request.called_ae_title).strip(),
            address=event.assoc.requestor.address,
            implementation_class_uid=str(event.assoc.requestor.implementation_class_uid or ""),
            free_bytes=self._spool.free_bytes(),
            active=sum(one.is_established for one in self._ae.active_associations),
            stopping=self._stopping.is_set(),
        )
        if refusal is None:
            return
        self._count(calling, "rejected", refusal.reason.value)
        self._note_refusal("association_rejected", event, calling, reason=refusal.reason.value)
        event.assoc.acse.send_reject(refusal.result, refusal.source, refusal.diagnostic)
        event.assoc.kill()

    def _established(self, event: Any) -> None:
        event.assoc.skiagraph_checked_at_bytes = 0
        metrics.associations_active.inc()
        self._count(event.assoc.requestor.ae_title, "accepted", "")

    def _ended(self, assoc: Any, connection: Connection) -> None:
        """Everything of one connection is over: what it was, and what it leaves behind."""
        if assoc.requestor.primitive is None:
            fault = connection.fault or (Fault.INVALID if connection.bytes_received else Fault.NOTHING_SENT)
            self._count("", "failed", fault.value)
            if fault is not Fault.NOTHING_SENT:  # as every probe of the port does
                self._note_end("no association", assoc, fault)
        elif hasattr(assoc, "skiagraph_checked_at_bytes"):  # it was established
            metrics.associations_active.dec()
            if not assoc.is_released:
                self._count(assoc.requestor.ae_title, "aborted", connection.fault or "")
                self._note_end("association ended without a release", assoc, connection.fault)
        message = assoc.dimse.message
        unfinished = getattr(message, "_data_set_path", None)
        if unfinished is not None:
            message._data_set_file.close()
            Path(unfinished).unlink(missing_ok=True)

    def _note_end(self, what: str, assoc: Any, fault: Fault | None) -> None:
        _log.warning(what, address=assoc.requestor.address, reason=fault.value if fault else "aborted")

    def _pdu(self, event: Any) -> None:
        """Cut an instance that outgrows the limit, or the disk, while it is still coming."""
        assoc = event.assoc
        if not hasattr(assoc, "skiagraph_checked_at_bytes"):
            return
        received = assoc.dul.socket.bytes_received
        if received - assoc.skiagraph_checked_at_bytes < _CHECK_SPACE_EVERY_BYTES:
            return
        assoc.skiagraph_checked_at_bytes = received
        path = getattr(assoc.dimse.message, "_data_set_path", None)
        size = Path(path).stat().st_size if path is not None and Path(path).exists() else 0
        if (
            size > self._settings.max_instance_bytes
            or self._spool.free_bytes() < self._settings.reserve_bytes // 2
        ):
            _log.warning(
                "instance cut: too large, or no space left", size_bytes=size, address=assoc.requestor.address
            )
            if path is not None:
                Path(path).unlink(missing_ok=True)
            assoc.acse.send_abort(0x00)

    def _store(self, event: Any) -> int | Dataset:
        started = time.monotonic()
        calling = str(event.assoc.requestor.ae_title).strip()
        syntax = str(event.context.transfer_syntax)
        found: Headers | None = None
        try:
            found = self._read(event)
            self._file(event, found, calling)
            status = SUCCESS
            metrics.store_duration_seconds.observe(time.monotonic() - started)
            metrics.last_instance_received.labels(
                metrics.calling_label(self._settings, calling)
            ).set_to_current_time()
        except _Refused as error:
            status = error.refusal.status
            self._refused(event, error.refusal, calling)
            return _response(error.refusal)
        except (SQLAlchemyError, OSError) as error:  # a full disk, a ledger that is away: they may come back
            _log.exception("an instance could not be kept", calling_ae=calling)
            refusal = StoreRefusal(
                reason=Reason.NOT_KEPT, status=OUT_OF_RESOURCES, text=f"not kept: {type(error).__name__}"
            )
            status = refusal.status
            self._refused(event, refusal, calling)
            return _response(refusal)
        except Exception:
            status = 0xC211
            _log.exception("an instance could not be stored", calling_ae=calling)
            raise
        finally:
            metrics.instances_received_total.labels(
                metrics.calling_label(self._settings, calling),
                metrics.modality_label(found.modality if found else ""),
                metrics.syntax_label(syntax),
                f"0x{status:04X}",
            ).inc()
        return status

    def _read(self, event: Any) -> Headers:
        path = event.dataset_path
        sop_class, sop_instance = (
            str(event.request.AffectedSOPClassUID),
            str(event.request.AffectedSOPInstanceUID),
        )
        refusal = admission.before_reading(
            self._settings,
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            size_bytes=path.stat().st_size,
            free_bytes=self._spool.free_bytes(),
        )
        if refusal is None:
            try:
                found = headers.read(path)
            except UnreadableInstanceError as error:
                refusal = StoreRefusal(reason=Reason.UNREADABLE, status=CANNOT_UNDERSTAND, text=str(error))
            else:
                refusal = admission.after_reading(
                    found, sop_class_uid=sop_class, sop_instance_uid=sop_instance
                )
                if refusal is None:
                    return found
        raise _Refused(refusal)

    def _file(self, event: Any, found: Headers, calling: str) -> None:
        called = str(event.assoc.requestor.primitive.called_ae_title).strip()
        size = event.dataset_path.stat().st_size
        with self._filing[hash(found.sop_instance_uid) % len(self._filing)]:
            with self._database.read() as connection:
                known = arrivals.newest(connection, found.study_instance_uid, found.sop_instance_uid)
            if known is not None and self._spool.same_bytes(known.path, event.dataset_path):
                _log.info("instance received again, same bytes", study=found.study_instance_uid)
                return
            path = self._spool.file(
                event.dataset_path,
                study_instance_uid=found.study_instance_uid,
                sop_instance_uid=found.sop_instance_uid,
            )
            arrival = Arrival(
                study_instance_uid=found.study_instance_uid,
                series_instance_uid=found.series_instance_uid,
                sop_class_uid=found.sop_class_uid,
                sop_instance_uid=found.sop_instance_uid,
                transfer_syntax_uid=found.transfer_syntax_uid,
                modality=found.modality,
                calling_ae=calling,
                called_ae=called,
                peer_address=event.assoc.requestor.address,
                path=path,
                size_bytes=size,
                received_at=datetime.now(UTC),
                ignored=admission.ignored(found),
            )
            late: bool | None = None
            try:
                with self._database.write() as connection:
                    late = arrivals.record(connection, arrival, replaces=known is not None)
            except SQLAlchemyError:
                if late is None or not self._may_be_entered(arrival):  # None: before the COMMIT
                    self._spool.path(path).unlink(missing_ok=True)
                self._tell_assembly(arrival, found)
                raise
        metrics.received_bytes_total.inc(size)
        metrics.late_instances_total.inc(late)
        self._tell_assembly(arrival, found)

    def _may_be_entered(self, arrival: Arrival) -> bool:
        """After a COMMIT that failed for us: it may have worked, and its answer been lost."""
        try:
            with self._database.read() as connection:
                return arrivals.is_entered(connection, arrival)
        except SQLAlchemyError:  # nobody knows: the file stays, and the sweep asks again
            return True

    def _tell_assembly(self, arrival: Arrival, found: Headers) -> None:
        if arrival.ignored is None:
            titles = {"CallingAETitle": arrival.calling_ae, "CalledAETitle": arrival.called_ae}
            rule = rule_for(self._settings.rules_in_order, [{**found.attributes, **titles}])
            self._assembly.arrived(
                arrival.study_instance_uid,
                timing(self._settings, rule),
                [found.attributes.get("ViewPosition", "")],
            )

    def _refused(self, event: Any, refusal: StoreRefusal, calling: str) -> None:
        self._note_refusal(
            "instance_refused",
            event,
            calling,
            reason=refusal.reason.value,
            status=f"0x{refusal.status:04X}",
            text=refusal.text,
        )

    def _note_refusal(self, kind: str, event: Any, calling: str, **why: str) -> None:
        """Into the log and, while it can be written, the ledger."""
        address = event.assoc.requestor.address
        _log.warning(kind.replace("_", " "), calling_ae=calling, address=address, **why)
        with suppress(SQLAlchemyError), self._database.write() as connection:
            journal.note(connection, kind, None, None, calling_ae=calling, peer_address=address, **why)

    def _count(self, calling: str, result: str, reason: str) -> None:
        metrics.associations_total.labels(
            metrics.calling_label(self._settings, str(calling).strip()), result, reason
        ).inc()


class _Refused(Exception):
    def __init__(self, refusal: StoreRefusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


def _response(refusal: StoreRefusal) -> Dataset:
    response = Dataset()
    response.Status = refusal.status
    response.ErrorComment = refusal.text[:_LONGEST_COMMENT]
    return response


def application_entity(settings: ListenerSettings) -> AE:
    """What this node says it can receive."""
    entity = AE(ae_title=settings.ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = settings.max_pdu_bytes
    entity.maximum_associations = 10_000  # admission counts them, and says why
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = settings.network_timeout_seconds
    entity.add_supported_context(Verification)
    # Both roles: peers ask us, and destinations report to us.
    entity.add_supported_context(commitment.SOP_CLASS, scu_role=True, scp_role=True)
    for sop_class in (*admission.SOP_CLASSES, *settings.other_sop_classes):
        entity.add_supported_context(sop_class, ALL_TRANSFER_SYNTAXES)
    return entity
