"""The index of open studies in the order in which they are listed."""

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _replace("last_received_at")


def downgrade() -> None:
    _replace("study_instance_uid")


def _replace(column: str) -> None:
    op.drop_index("ix_studies_open", "studies")
    op.create_index(
        "ix_studies_open",
        "studies",
        [column],
        unique=False,
        sqlite_where=text("open = 1"),
        postgresql_where=text("open"),
    )
