"""C-STORE SCU: the kept bytes of a result to one destination, as they are (PS3.4 annex B)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_listener import commitment, tls
from dicom_listener.errors import UnreachablePeerError
from dicom_listener.ledger.records import OutgoingObject, SopReference
from service.contract import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from skiagraph.settings.listener import Destination, ListenerSettings

_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_ECHO_SECONDS: Final = 10.0
_SAME_ASSOCIATION_SECONDS: Final = (
    1.0  # a report may come on the association of its request, while it is open
)


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    TRANSIENT = "transient"
    PERMANENT = "permanent"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What came of one attempt; error is empty when everything was accepted."""

    outcome: Outcome
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class CommitmentRequest:
    """What a destination is asked once it has every object.

    begin: makes a transaction durable, returns its UID. on_report: handler of an N-EVENT-REPORT.
    """

    items: tuple[SopReference, ...]
    begin: Callable[[], str]
    is_answered: Callable[[str], bool]
    on_report: Callable[[Any], tuple[int, None]]


def judge(status: int) -> Outcome:
    """What a C-STORE status means for another attempt (PS3.4 table B.2-1, PS3.7 annex C)."""
    # 0x0111 is Duplicate SOP Instance: an earlier attempt arrived, and its answer was lost.
    if status in (0x0000, 0x0111, 0xB000, 0xB006, 0xB007):
        return Outcome.ACCEPTED
    # SOP class not supported, not authorised, does not match, cannot understand: the same bytes fail again.
    if status in (0x0122, 0x0124, 0x0117) or status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000:
        return Outcome.PERMANENT
    return Outcome.TRANSIENT


def send(
    settings: ListenerSettings,
    destination: Destination,
    objects: Sequence[tuple[OutgoingObject, Path]],
    on_accepted: Callable[[OutgoingObject, int], None],
    ask: CommitmentRequest | None = None,
) -> Attempt:
    """Send the objects over one association; `on_accepted` is called at once for each that the peer took."""
    if not objects and ask is None:  # all of them were accepted before a crash
        return Attempt(outcome=Outcome.ACCEPTED)
    entity = new_entity(settings)
    syntaxes = {made.position: UID(read_file_meta_info(path).TransferSyntaxUID) for made, path in objects}
    for sop_class, syntax in dict.fromkeys(
        (made.sop_class_uid, offered)
        for made, _ in objects
        for offered in (_PLAIN if syntaxes[made.position] in _PLAIN else (syntaxes[made.position],))
    ):
        entity.requested_contexts = [*entity.requested_contexts, build_context(sop_class, syntax)]
    handlers: list[Any] = []
    if ask is not None:
        entity.requested_contexts = [
            *entity.requested_contexts,
            build_context(commitment.SOP_CLASS, [*_PLAIN]),
        ]
        handlers.append((evt.EVT_N_EVENT_REPORT, ask.on_report))
    try:
        association = associate(entity, destination, handlers)
    except UnreachablePeerError as error:
        return Attempt(outcome=Outcome.TRANSIENT, error=str(error))
    if not association.is_established:
        return Attempt(outcome=Outcome.TRANSIENT, error=f"{destination.name} {why_not(association)}")
    worst = Attempt(outcome=Outcome.ACCEPTED)
    try:
        for made, path in objects:
            attempt = _store(association, destination, made, path, syntaxes[made.position], on_accepted)
            if attempt.outcome is Outcome.TRANSIENT:
                return attempt
            if attempt.outcome is Outcome.PERMANENT:
                worst = attempt
        if ask is None or worst.outcome is not Outcome.ACCEPTED:
            return worst
        return _ask(association, destination, ask)
    finally:
        if association.is_established:
            association.release()


def echo(settings: ListenerSettings, destination: Destination) -> bool:
    """Whether the destination answers a C-ECHO."""
    entity = new_entity(settings)
    entity.acse_timeout = entity.dimse_timeout = min(_ECHO_SECONDS, settings.network_timeout_seconds)
    entity.add_requested_context(Verification)
    try:
        association = associate(entity, destination)
    except UnreachablePeerError:
        return False
    if not association.is_established:
        return False
    try:
        return getattr(association.send_c_echo(), "Status", None) == 0x0000
    finally:
        if association.is_established:
            association.release()


def _store(
    association: Association,
    destination: Destination,
    made: OutgoingObject,
    path: Path,
    syntax: UID,
    on_accepted: Callable[[OutgoingObject, int], None],
) -> Attempt:
    offered = {
        str(context.transfer_syntax[0])
        for context in association.accepted_contexts
        if context.abstract_syntax == made.sop_class_uid
    }
    if not offered:
        return Attempt(
            outcome=Outcome.PERMANENT, error=f"{destination.name} takes no {UID(made.sop_class_uid).name}"
        )
    try:
        # A path is sent as it is; a data set is re-encoded for a peer that only takes Implicit VR.
        status = association.send_c_store(path if syntax in offered else dcmread(path))
    except (RuntimeError, ValueError, OSError) as error:
        return Attempt(outcome=Outcome.TRANSIENT, error=f"{destination.name}: {type(error).__name__}")
    code = getattr(status, "Status", None)
    if code is None:
        return Attempt(outcome=Outcome.TRANSIENT, error=f"{destination.name} gave no answer to C-STORE")
    outcome = judge(int(code))
    if outcome is Outcome.ACCEPTED:
        on_accepted(made, int(code))
        return Attempt(outcome=outcome)
    return Attempt(outcome=outcome, error=f"{destination.name} answered 0x{int(code):04X}")


def _ask(association: Association, destination: Destination, ask: CommitmentRequest) -> Attempt:
    if all(context.abstract_syntax != commitment.SOP_CLASS for context in association.accepted_contexts):
        return Attempt(
            outcome=Outcome.PERMANENT,
            error=f"{destination.name} offers no Storage Commitment: set its storage_commitment to false",
        )
    transaction = ask.begin()
    try:
        status, _ = association.send_n_action(
            commitment.action(transaction, ask.items),
            commitment.REQUEST,
            commitment.SOP_CLASS,
            commitment.SOP_INSTANCE,
        )
    except (RuntimeError, ValueError) as error:
        return Attempt(outcome=Outcome.TRANSIENT, error=f"{destination.name}: {type(error).__name__}")
    if (code := getattr(status, "Status", None)) != 0x0000:
        said = "no answer" if code is None else f"0x{int(code):04X}"
        return Attempt(outcome=Outcome.TRANSIENT, error=f"{destination.name}: {said} to N-ACTION")
    deadline = time.monotonic() + _SAME_ASSOCIATION_SECONDS
    while association.is_established and time.monotonic() < deadline and not ask.is_answered(transaction):
        time.sleep(0.02)
    return Attempt(outcome=Outcome.ACCEPTED)


def associate(
    entity: AE, destination: Destination, handlers: Sequence[Any] = (), **options: Any
) -> Association:
    """Ask for an association; whether it is established is for the caller to see. UnreachablePeerError."""
    context = tls.client_context(destination.tls) if destination.tls else None
    try:
        return entity.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            tls_args=(context, destination.host) if context else None,
            evt_handlers=[*handlers, (evt.EVT_CONN_OPEN, _never_wait_for_ever)],
            **options,
        )
    except (OSError, UnicodeError) as error:  # the name is looked up in our thread
        raise UnreachablePeerError(f"{destination.host} cannot be reached: {error}") from error


def _never_wait_for_ever(event: Any) -> None:
    """The library takes all limits off a connection: a peer that stops in mid PDU would hold us."""
    event.assoc.dul.socket.socket.settimeout(event.assoc.network_timeout)


def why_not(association: Association) -> str:
    return "rejected the association" if association.is_rejected else "does not answer"


def new_entity(settings: ListenerSettings, ae_title: str | None = None) -> AE:
    """Our side of an association that we ask for."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    entity = AE(ae_title=ae_title or settings.ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = settings.max_pdu_bytes
    entity.connection_timeout = min(10.0, settings.network_timeout_seconds)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = settings.network_timeout_seconds
    return entity
