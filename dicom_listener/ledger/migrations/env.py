"""Run by alembic; the connection comes from `dicom_listener.ledger.connection`."""

from alembic import context

from dicom_listener.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
