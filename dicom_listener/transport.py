"""How bytes come off the wire: whole PDUs at a time, without polling, within limits, and never for ever.

pynetdicom's own acceptor reads 4 KiB at a time, looks at each of its queues every millisecond, waits without
end for the rest of a PDU, and believes any length a PDU claims.
"""

import queue
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socketserver import BaseServer
from typing import Any, Final

from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_listener import metrics
from dicom_listener.admission import Fault
from skiagraph import log

_log = log.get(__name__)
_HANDSHAKE_SECONDS: Final = 10.0
_LOOK_EVERY_SECONDS: Final = 0.05  # at timers and at the wish to stop; what arrives is seen at once
_PDU_HEADER_BYTES: Final = 6
_PDU_TYPES: Final = frozenset(range(1, 8))  # PS3.8 9.3.1
_LONGEST_PDU_BYTES: Final = 1024 * 1024  # as many as max_pdu_bytes can be; an A-ASSOCIATE-RQ is far shorter
_TLS_HANDSHAKE: Final = 0x16
_ABORT: Final = 0x07
_BY_PROVIDER: Final = 0x02


class Connection(AssociationSocket):
    """One peer's socket. fault: why it came to a bad end, once it has."""

    def __init__(self, assoc: Any, peer: socket.socket) -> None:
        super().__init__(assoc, client_socket=peer)
        peer.settimeout(assoc.network_timeout)
        self.fault: Fault | None = None
        self.bytes_received = 0
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)

    def ring(self) -> None:
        """Something is to be sent: `ready` need not wait any longer."""
        with suppress(OSError):  # full (it is ringing) or closed
            self._button.send(b"\0")

    @property
    def ready(self) -> bool:
        """Wait for bytes of the peer, a little; unlike the library's own, which is asked again and again."""
        peer = self.socket
        if peer is None or peer.fileno() < 0:
            if self._is_connected:
                self.close()  # somebody else has shut it: the state machine hears of it
            else:
                time.sleep(0.001)
            return False
        if isinstance(peer, ssl.SSLSocket) and peer.pending():
            return True
        look = select.poll()  # select.select fails above 1024 open files
        look.register(peer, select.POLLIN)
        look.register(self._bell, select.POLLIN)
        found = {handle for handle, _ in look.poll(_LOOK_EVERY_SECONDS * 1000)}
        with suppress(OSError):
            if self._bell.fileno() in found:
                self._bell.recv(4096)
        return bool(found - {self._bell.fileno()})

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or fewer where the peer has gone; raises OSError."""
        if nr_bytes > _LONGEST_PDU_BYTES:
            self.fault = Fault.TOO_LONG
            raise OSError(f"a PDU of {nr_bytes} bytes is longer than any that was agreed upon")
        received, done = bytearray(nr_bytes), 0
        peer = self.socket
        if peer is not None:
            # A sender that gathers small writes (Nagle) waits for our ACK, which Linux delays by 40 ms.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        with memoryview(received) as view:
            try:
                while peer is not None and done < nr_bytes and (count := peer.recv_into(view[done:])):
                    done += count
            except TimeoutError:
                self.fault = self.fault or Fault.STALLED
                raise
            finally:
                self.bytes_received += done
        if nr_bytes == _PDU_HEADER_BYTES and done and received[0] not in _PDU_TYPES:
            tls = received[0] == _TLS_HANDSHAKE
            self.fault = self.fault or (Fault.TLS_ON_PLAIN_PORT if tls else Fault.NOT_DICOM)
        elif done < nr_bytes and (done or nr_bytes != _PDU_HEADER_BYTES):
            self.fault = self.fault or Fault.CUT_SHORT
        return received if done == nr_bytes else received[:done]

    def send(self, bytestream: bytes) -> None:
        if bytestream[0] == _ABORT and bytestream[8] == _BY_PROVIDER:
            self.fault = self.fault or Fault.INVALID
        super().send(bytestream)

    def end(self) -> None:
        """Close all that is open; harmless when it is closed already."""
        peer = self.socket
        self.close()
        for one in (peer, self._bell, self._button):
            if one is not None:
                one.close()

    def _shutdown_socket(self) -> None:
        if self.socket is not None:
            with suppress(OSError):  # not connected any more
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class _ToPeer(queue.Queue[Any]):
    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._ring()


class _Messages(queue.Queue[Any]):
    """What the association's thread serves; `get(block=False)` waits a little instead of not at all.

    `get(block=True)` is for who waits for an answer to a request of ours, the association's thread paused:
    requests of the peer that come before the answer are kept for that thread.
    files: the data sets of the last ones; the library forgets those that it does not hand to a handler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: deque[Path] = deque(maxlen=8)
        self._requests: deque[Any] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        path = getattr(item[1], "_dataset_path", None)
        if path is not None:
            self.files.append(Path(path))
        super().put(item, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block:
            return self._requests.popleft() if self._requests else super().get(timeout=_LOOK_EVERY_SECONDS)
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            item = super().get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            if item[1] is None or not item[1].is_valid_request:
                return item
            self._requests.append(item)


class _Acceptor(RequestHandler):
    server: "AssociationServer"

    def _create_association(self) -> Any:
        assoc: Any = super()._create_association()
        connection = Connection(assoc, self.request)
        assoc.dul.socket = connection
        assoc.dul.event_queue.get_nowait()  # both sockets have announced the connection
        assoc.dul._run_loop_delay = 0
        assoc.dul.to_provider_queue = _ToPeer(connection.ring)
        assoc.dimse.send_msg = one_at_a_time(assoc.dimse.send_msg)
        assoc.dimse.msg_queue = messages = _Messages()
        # A release or an abort must not wait until `messages` is looked at again.
        assoc.dul.to_user_queue = _ToPeer(lambda: messages.put((None, None)))
        assoc.run = _guarded(assoc.run, connection, lambda: self._ended(assoc, connection))
        assoc.dul.run = _guarded(assoc.dul.run, connection, lambda: None)
        return assoc

    def _ended(self, assoc: Any, connection: Connection) -> None:
        assoc.dul.kill_dul()
        connection.end()
        for path in assoc.dimse.msg_queue.files:
            path.unlink(missing_ok=True)
        self.server.ended(assoc, connection)


def one_at_a_time(send: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    """Messages go out whole (PS3.8 Annex E): an answer must not come between two parts of our request."""
    sending = threading.Lock()

    def sent_whole(message: Any, context_id: int) -> None:
        with sending:
            send(message, context_id)

    return sent_whole


def _guarded(run: Callable[[], None], connection: Connection, afterwards: Callable[[], None]) -> Any:
    """A thread's run that ends in order, whatever the library makes of what it was sent."""

    def guarded() -> None:
        try:
            run()
        except Exception as error:
            connection.fault = connection.fault or Fault.INVALID
            _log.warning("an association ended badly", reason=f"{type(error).__name__}: {error}"[:200])
        finally:
            afterwards()

    return guarded


class AssociationServer(ThreadedAssociationServer):
    """Shakes hands in the connection's own thread: a silent peer does not keep others from the port.

    ended: called once for every connection that was let in, when everything about it is over.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, *args: Any, ended: Callable[[Any, Connection], None], **more: Any) -> None:
        self.ended = ended
        super().__init__(*args, **more)
        self.RequestHandlerClass = _Acceptor

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
        super().finish_request(secured, client_address)

    def shutdown(self) -> None:
        """As the library's own, which expects to have been started by `AE.start_server`."""
        BaseServer.shutdown(self)
        self.server_close()
