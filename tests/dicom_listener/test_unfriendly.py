"""A node among the unfriendly: a fuzzer with a fixed seed. No crash, no growth, each counted with a reason.

240 cases by default; `make fuzz` asks for 10,000 through SKIAGRAPH_FUZZ_CASES.
"""

import os
import random
import re
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

from tests.dicom_listener.peers import NodeProcess, radiograph, send, until

CASES = int(os.environ.get("SKIAGRAPH_FUZZ_CASES", "240"))
SEED = int(os.environ.get("SKIAGRAPH_FUZZ_SEED", "20260701"))
_AT_ONCE = 12
_SPARE_THREADS = 6  # of the console and the workflows, which come and go
_NETWORK_TIMEOUT_SECONDS = 2.0
_RELEASE = struct.pack(">BxL4x", 5, 4)


def _associate(called: str = "SKIAGRAPH", calling: str = "FUZZER") -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = calling, called
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    longest.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3.4"
    request.user_information = [longest, implementation]
    context: PresentationContext = build_context(
        DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
    )
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return bytes(pdu.encode())


def _store() -> list[bytes]:
    """The PDUs of a C-STORE request."""
    instance = radiograph(rows=32)
    content = BytesIO()
    instance.save_as(content, enforce_file_format=False, implicit_vr=False, little_endian=True)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = (
        instance.SOPClassUID,
        instance.SOPInstanceUID,
    )
    content.seek(0)
    request.DataSet = content
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pdus = []
    for primitive in message.encode_msg(1, 1024):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        pdus.append(bytes(pdu.encode()))
    return pdus


class Fuzzer:
    """Draws cases; each is what a peer does with a connection of its own."""

    def __init__(self, port: int, tls_port: int) -> None:
        self._port, self._tls_port = port, tls_port
        self.draw = random.Random(SEED)
        self.seen: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], socket.socket]] = {
            "TLS to the plain port": self._tls_to_plain,
            "plain to the TLS port": self._plain_to_tls,
            "random bytes": lambda: self._raw(self.draw.randbytes(self.draw.randint(1, 300))),
            "request mutated": lambda: self._raw(self._mutated(_associate())),
            "request truncated": lambda: self._raw(self._truncated(_associate())),
            "length wrong": lambda: self._raw(self._other_length(_associate())),
            "unknown called AE": lambda: self._raw(_associate(called="NOBODY")),
            "out of order": lambda: self._raw(self.draw.choice([_RELEASE, *_store()[:2]])),
            "associated, then mutated": lambda: self._associated(self._mutated(b"".join(_store()))),
            "associated, then truncated": lambda: self._associated(self._truncated(b"".join(_store()))),
            "associated, then length wrong": lambda: self._associated(self._other_length(_store()[0])),
            "associated, then random bytes": lambda: self._associated(self.draw.randbytes(200)),
            "associated twice": lambda: self._associated(_associate()),
            "associated, then silent": lambda: self._associated(b""),
            "says nothing": lambda: self._raw(b""),
        }

    def case(self) -> socket.socket | None:
        """Do what one peer does; the connection that it leaves open."""
        kind = self.draw.choice(list(self._kinds))
        self.seen[kind] += 1
        with suppress(OSError):  # the node has closed the connection: that is an answer, too
            return self._kinds[kind]()
        return None

    def _raw(self, content: bytes, port: int = 0) -> socket.socket:
        peer = socket.create_connection(("127.0.0.1", port or self._port), timeout=10)
        peer.sendall(content)
        return peer

    def _associated(self, content: bytes) -> socket.socket:
        peer = self._raw(_associate())
        assert peer.recv(4096)[:1] == b"\x02", "no A-ASSOCIATE-AC"
        peer.sendall(content)
        return peer

    def _plain_to_tls(self) -> socket.socket:
        return self._raw(_associate(), self._tls_port)

    def _tls_to_plain(self) -> socket.socket:
        hello, context = ssl.MemoryBIO(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
        return self._raw(hello.read())

    def _mutated(self, content: bytes) -> bytes:
        mutated = bytearray(content)
        for _ in range(self.draw.randint(1, 8)):
            # Most of it near the start, where lengths and types are.
            limit = self.draw.choice([12, 100, len(mutated)])
            mutated[self.draw.randrange(min(limit, len(mutated)))] = self.draw.randrange(256)
        return bytes(mutated)

    def _truncated(self, content: bytes) -> bytes:
        return content[: self.draw.randrange(1, len(content))]

    def _other_length(self, content: bytes) -> bytes:
        length = self.draw.choice([0, 1, 3, 0xFFFF, 0x100000, 0x7FFFFFFF, 0xFFFFFFFF])
        return content[:2] + struct.pack(">L", length) + content[6:]


@pytest.fixture
def node(tmp_path: Path, certificates: Path) -> Iterator[NodeProcess]:
    with NodeProcess(
        tmp_path,
        tls={
            "port": 0,
            "certificate": certificates / "server.pem",
            "key": certificates / "server.key",
        },
        network_timeout_seconds=_NETWORK_TIMEOUT_SECONDS,
        max_associations=1000,
        quiet_period_seconds=3600,
        max_wait_seconds=7200,
    ) as running:
        yield running


def _counted(node: NodeProcess) -> Counter[str]:
    """Ends of connections, by outcome and reason."""
    sample = re.compile(r'skiagraph_associations_total\{.*reason="(.*?)",result="(.*?)"\} (\S+)')
    found: Counter[str] = Counter()
    for reason, result, value in sample.findall(node.http("/metrics").text):
        found[f"{result} {reason}".strip()] += int(float(value))
    return found


class _Size(NamedTuple):
    threads: int
    files: int
    kilobytes: int


def _size(node: NodeProcess) -> _Size:
    process = Path("/proc") / str(node.ports["pid"])
    status = (process / "status").read_text()
    threads, resident = (
        int(re.findall(rf"^{key}:\s+(\d+)", status, re.M)[0]) for key in ("Threads", "VmRSS")
    )
    return _Size(threads=threads, files=len(list((process / "fd").iterdir())), kilobytes=resident)


@pytest.mark.timeout(120 + CASES)
def test_unfriendly_traffic_neither_crashes_nor_grows_the_node(node: NodeProcess) -> None:
    fuzzer = Fuzzer(node.port, node.ports["dicom_tls"])
    sizes: list[_Size] = []
    quarter = CASES // 4
    before = _size(node)
    started = time.monotonic()
    for number in range(0, CASES, _AT_ONCE):
        with ExitStack() as left_open:
            for _ in range(min(_AT_ONCE, CASES - number)):
                peer = fuzzer.case()
                if peer is not None:
                    left_open.enter_context(peer)
            # Most peers go away at once, some stay until the node has had enough of them.
            if fuzzer.draw.random() < 0.1:
                time.sleep(_NETWORK_TIMEOUT_SECONDS * 1.5)
        if number // quarter != (number + _AT_ONCE) // quarter:
            sizes.append(_size(node))
    seconds = time.monotonic() - started
    until(lambda: _size(node).threads <= before.threads + _SPARE_THREADS, seconds=60, every=0.5)
    idle = _size(node)
    counted = _counted(node)
    print(f"\n{CASES} cases in {seconds:.0f} s: {dict(fuzzer.seen)}\nends: {dict(counted)}")
    print(f"threads, files, kB after each quarter: {sizes}; idle {idle}")

    assert send(node.port, [radiograph()]) == [0x0000]
    assert node.http("/readyz").status_code == 200
    ended = sum(count for end, count in counted.items() if not end.startswith("accepted"))
    assert ended >= CASES * 0.97, "connections came to nothing and were not counted"
    assert not list((node.settings.folder / "spool" / "incoming").iterdir()), (
        "left behind by cut associations"
    )
    assert idle.files <= before.files + 24  # the pools of the databases fill as they are used
    assert idle.kilobytes - sizes[0].kilobytes < 24 * 1024, "the node has grown"
    assert "Traceback" not in node.log(), "an exception that nobody expected"
