"""The chaos tests use the listener's fixtures."""

from tests.dicom_listener.conftest import collected_sockets, pytest_collection_modifyitems

__all__ = ["collected_sockets", "pytest_collection_modifyitems"]
