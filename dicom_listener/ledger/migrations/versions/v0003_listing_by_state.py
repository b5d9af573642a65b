"""An index for listing the latest studies in one state, however many there are."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_revisions_listing", "revisions", ["state", "last_received_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_revisions_listing", "revisions")
