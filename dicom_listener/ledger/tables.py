"""The tables of the ledger: states change, `events` only grows. UIDs, AE titles, paths and codes; no PHI."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime in Python, a naive UTC one in the database."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData()
_uid = String(64)
_ae = String(16)
_id = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only an INTEGER key

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", _uid, primary_key=True),
    Column("first_received_at", UtcDateTime, nullable=False),
    Column("last_received_at", UtcDateTime, nullable=False, index=True),
    Column("open", Boolean, nullable=False),  # instances have come that no revision covers yet
    Column("revision", Integer, nullable=False),  # the latest; 0 before the first
    Column("purged_at", UtcDateTime),
    Index(
        "ix_studies_open", "last_received_at", sqlite_where=text("open = 1"), postgresql_where=text("open")
    ),
)

instances = Table(
    "instances",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("study_instance_uid", _uid, nullable=False),
    Column("series_instance_uid", _uid, nullable=False),
    Column("sop_class_uid", _uid, nullable=False),
    Column("sop_instance_uid", _uid, nullable=False, index=True),
    Column("transfer_syntax_uid", _uid, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("calling_ae", _ae, nullable=False),
    Column("called_ae", _ae, nullable=False),
    Column("peer_address", String(64), nullable=False),
    Column("path", Text, nullable=False),  # below the spool
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("ignored", String(64)),  # why it is kept but never scored; or that it was purged
    ForeignKeyConstraint(["study_instance_uid"], ["studies.study_instance_uid"]),
    Index("ix_instances_study", "study_instance_uid", "id"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("study_instance_uid", _uid, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("rule", String(32)),
    Column("last_instance_id", BigInteger, nullable=False),  # it covers the study's instances up to this one
    Column("result_time", UtcDateTime, nullable=False),
    Column("last_received_at", UtcDateTime, nullable=False),
    Column("model", Text),
    Column("operating_point", Text),
    Column("gate", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("destinations", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("faults", Integer, nullable=False),
    Column("retry_since", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("error", Text),
    Column("result", JSON),  # the service's StudyResult
    Column("finished_at", UtcDateTime),
    ForeignKeyConstraint(["study_instance_uid"], ["studies.study_instance_uid"]),
    Index("ix_revisions_state", "state", "next_attempt_at"),
    Index("ix_revisions_listing", "state", "last_received_at"),
)

objects = Table(
    "objects",
    metadata,
    Column("study_instance_uid", _uid, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("series_instance_uid", _uid, nullable=False),
    Column("sop_class_uid", _uid, nullable=False),
    Column("sop_instance_uid", _uid, nullable=False, index=True),
    Column("path", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["study_instance_uid", "revision"], ["revisions.study_instance_uid", "revisions.revision"]
    ),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("study_instance_uid", _uid, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("destination", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("retry_since", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("error", Text),
    Column("accepted", JSON, nullable=False),  # positions of the objects the destination has
    Column("finished_at", UtcDateTime),
    ForeignKeyConstraint(
        ["study_instance_uid", "revision"], ["revisions.study_instance_uid", "revisions.revision"]
    ),
    Index("ix_deliveries_due", "destination", "state", "next_attempt_at"),
)

commitments = Table(  # Storage Commitment that we asked a destination for
    "commitments",
    metadata,
    Column("transaction_uid", _uid, primary_key=True),
    Column("study_instance_uid", _uid, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("destination", String(32), nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("answered_at", UtcDateTime),
    ForeignKeyConstraint(
        ["study_instance_uid", "revision", "destination"],
        ["deliveries.study_instance_uid", "deliveries.revision", "deliveries.destination"],
    ),
)

reports = Table(  # Storage Commitment that we were asked for
    "reports",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("transaction_uid", _uid, nullable=False),
    Column("calling_ae", _ae, nullable=False),
    Column("called_ae", _ae, nullable=False),
    Column("peer_address", String(64), nullable=False),
    Column("items", JSON, nullable=False),  # [SOP Class UID, SOP Instance UID] each
    Column("requested_at", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("retry_since", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("error", Text),
    Column("finished_at", UtcDateTime),
    UniqueConstraint("calling_ae", "transaction_uid"),
    Index("ix_reports_due", "state", "next_attempt_at"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("study_instance_uid", _uid, nullable=False),
    Column("model", Text),
    Column("done_at", UtcDateTime),
    Column("outcome", Text),
    Index(
        "ix_requests_open",
        "id",
        sqlite_where=text("done_at IS NULL"),
        postgresql_where=text("done_at IS NULL"),
    ),
)

events = Table(
    "events",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("study_instance_uid", _uid),
    Column("revision", Integer),
    Column("detail", JSON, nullable=False),
    Index("ix_events_study", "study_instance_uid", "id"),
)
