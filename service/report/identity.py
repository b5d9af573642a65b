"""UIDs of what we make: derived, so that the same facts give the same UID and other facts another."""

import hashlib
import uuid

from service.contract import UID_NAMESPACE


def derived_uid(*facts: str) -> str:
    """A UUID-derived UID (PS3.5 B.2) of `facts`."""
    digest = hashlib.sha256("\x1f".join((UID_NAMESPACE, *facts)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"
