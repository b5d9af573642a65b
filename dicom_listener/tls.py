"""TLS for associations in both directions (PS3.15 B.9: TLS 1.2 or later)."""

import ssl
from functools import cache

from dicom_listener.errors import StartupError
from skiagraph.settings import tls
from skiagraph.settings.listener import TlsServer
from skiagraph.settings.tls import TlsClient


def server_context(settings: TlsServer) -> ssl.SSLContext:
    """Raises StartupError where a file cannot be used."""
    try:
        return tls.server_context(settings, "listener.tls")
    except OSError as error:
        raise StartupError(str(error)) from error


@cache
def client_context(settings: TlsClient, where: str = "listener.destinations.tls") -> ssl.SSLContext:
    """Raises StartupError where a file cannot be used. Files are read once, at the start: while a certificate
    is being replaced, it and its key do not fit."""
    try:
        return tls.client_context(settings, where)
    except OSError as error:
        raise StartupError(str(error)) from error
