"""One attempt to score a revision: instances to the service, its result into the spool."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_listener.ledger import arrivals, revisions
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import OutgoingObject, Revision
from dicom_listener.ledger.states import RevisionState
from dicom_listener.spool import Spool
from service.client import Client
from service.contract import Reference, StudyRequest, StudyResult

_RESULT_FILE: Final = "result.json"


@dataclass(frozen=True, kw_only=True)
class KeptResult:
    """A result whose every byte is on disk."""

    result: StudyResult
    objects: tuple[OutgoingObject, ...]


def score(revision: Revision, *, database: Database, spool: Spool, client: Client) -> str:
    """Ask the service and keep what it answers; returns the path of the result below the spool.

    Raises service.client.ServiceError. Made again, it writes the same names again; nothing is sent from here.
    """
    uid, number = revision.study_instance_uid, revision.revision
    with database.read() as connection:
        instances = arrivals.instances_of(connection, uid, revision.last_instance_id)
        before = revisions.predecessor(connection, uid, number)
    request = StudyRequest(
        study_instance_uid=uid,
        result_time=revision.result_time,
        revision=number,
        predecessor=None
        if before is None
        else Reference(
            study_instance_uid=uid,
            series_instance_uid=before.series_instance_uid,
            sop_class_uid=before.sop_class_uid,
            sop_instance_uid=before.sop_instance_uid,
        ),
        model=revision.model,
        operating_point=revision.operating_point,
        gate=revision.gate,
    )
    result, contents = client.score_study(
        request,
        [spool.path(instance.path) for instance in instances],
        correlation_id=f"{uid}-{number}-{revision.attempts}",
    )
    for made, content in zip(result.objects, contents, strict=True):
        spool.keep_result(uid, number, _name(made.reference.sop_instance_uid), content)
    return spool.keep_result(uid, number, _RESULT_FILE, result.model_dump_json().encode())


def kept(path: str, spool: Spool) -> KeptResult:
    """Read back what `score` kept."""
    result = StudyResult.model_validate_json(spool.path(path).read_bytes())
    folder = Path(path).parent
    return KeptResult(
        result=result,
        objects=tuple(
            OutgoingObject(
                position=position,
                kind=made.kind.value,
                series_instance_uid=made.reference.series_instance_uid,
                sop_class_uid=made.reference.sop_class_uid,
                sop_instance_uid=made.reference.sop_instance_uid,
                path=str(folder / _name(made.reference.sop_instance_uid)),
                sha256=made.sha256,
                size_bytes=made.size_bytes,
            )
            for position, made in enumerate(result.objects)
        ),
    )


def enter(revision: Revision, path: str, *, database: Database, spool: Spool) -> RevisionState:
    """Enter the kept result into the ledger; the first one entered for a revision stands."""
    answer = kept(path, spool)
    with database.write() as connection:
        return revisions.scored(
            connection,
            revision.study_instance_uid,
            revision.revision,
            result=answer.result.model_dump(mode="json"),
            made=answer.objects,
        )


def _name(sop_instance_uid: str) -> str:
    return f"{sop_instance_uid}.dcm"
