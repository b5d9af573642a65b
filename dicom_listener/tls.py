"""TLS for associations in both directions (PS3.15 B.9: TLS 1.2 or later)."""

import socket
import ssl
from socketserver import BaseServer
from typing import Any, Final

from pynetdicom.transport import ThreadedAssociationServer

from dicom_listener import metrics
from dicom_listener.errors import StartupError
from skiagraph import log
from skiagraph.settings import tls
from skiagraph.settings.listener import TlsServer
from skiagraph.settings.tls import TlsClient

_log = log.get(__name__)
_HANDSHAKE_SECONDS: Final = 10.0


def server_context(settings: TlsServer) -> ssl.SSLContext:
    """Raises StartupError where a file cannot be used."""
    try:
        return tls.server_context(settings, "listener.tls")
    except OSError as error:
        raise StartupError(str(error)) from error


def client_context(settings: TlsClient, where: str = "listener.destinations.tls") -> ssl.SSLContext:
    """Raises StartupError where a file cannot be used."""
    try:
        return tls.client_context(settings, where)
    except OSError as error:
        raise StartupError(str(error)) from error


class AssociationServer(ThreadedAssociationServer):
    """Shakes hands in the connection's own thread: a silent peer does not keep others from the port."""

    def get_request(self) -> tuple[socket.socket, Any]:
        listening: Any = self.socket
        accepted: tuple[socket.socket, Any] = listening.accept()
        return accepted

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.ssl_context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_HANDSHAKE_SECONDS)
        try:
            secured = self.ssl_context.wrap_socket(request, server_side=True)
        except OSError as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            _log.warning("TLS handshake failed", address=client_address[0], reason=str(reason))
            metrics.associations_total.labels(metrics.OTHER, "rejected", "tls_handshake_failed").inc()
            request.close()
            return
        secured.settimeout(None)
        super().finish_request(secured, client_address)

    def shutdown(self) -> None:
        """As the library's own, which expects to have been started by `AE.start_server`."""
        BaseServer.shutdown(self)
        self.server_close()
