"""What HTTP, access and validation cost above the runner call, and whether memory stays flat.

    python -m bench.http                    # 10 MB bodies, one at a time: raw and as a form, with a token
    python -m bench.http --requests 10000   # small bodies by the thousand, the memory of all processes

Overhead is the time that the client waits less the time that the service itself measured in its runners for
the same request (`seconds` of the result), so that the radiograph's own cost drops out.
"""

import argparse
import hashlib
import http.client
import io
import json
import secrets
import statistics
import sys
import time
from urllib.parse import urlsplit

import psutil

from bench.serving import Serving, serving
from skiagraph.phantom import PhantomKind, as_dicom, draw

_LIMIT_MS = 10.0
_REPEATS = 60
_BODY_BYTES = 10_000_000
_FLAT_BYTES_A_REQUEST = 1_000.0


def main() -> int:
    """1 when the overhead is over its limit, or memory grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=0, help="measure memory over so many instead")
    options = parser.parse_args()
    token = secrets.token_hex(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    with serving(SKIAGRAPH_SERVICE__TOKENS=json.dumps([{"name": "bench", "sha256": digest}])) as service:
        client = _Client(service.url, token)
        return _memory(service, client, options.requests) if options.requests else _overhead(client)


class _Client:
    """One connection, kept alive, and as little of a client as there can be."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"}

    def score(self, body: bytes, content_type: str) -> tuple[float, float]:
        """Seconds that the client waited, and those of the runners; RuntimeError when it was not scored."""
        started = time.perf_counter()
        self._connection.request("POST", "/v1/score", body, self._headers | {"Content-Type": content_type})
        answer = self._connection.getresponse()
        content = answer.read()
        waited = time.perf_counter() - started
        result = json.loads(content)
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {result}")
        return waited, float(result["seconds"])


def _overhead(client: _Client) -> int:
    radiograph = _instance(_BODY_BYTES)
    kinds: dict[str, tuple[bytes, str]] = {
        "raw body": (radiograph, "application/dicom"),
        "form": (_form(radiograph), "multipart/form-data; boundary=bench"),
    }
    above: dict[str, list[float]] = {kind: [] for kind in kinds}
    inside: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(_REPEATS + 3):
        for kind, (body, content_type) in kinds.items():  # in turn: what else the machine does hits both
            waited, seconds = client.score(body, content_type)
            above[kind].append(1000 * (waited - seconds))
            inside[kind].append(1000 * seconds)
    print(f"{len(radiograph) / 1e6:.1f} MB over loopback with a token, {_REPEATS} each")
    for kind in kinds:
        overhead, runners = above[kind][3:], inside[kind][3:]
        p95 = statistics.quantiles(overhead, n=20)[-1]
        print(
            f"{kind:10} overhead p50 {statistics.median(overhead):6.1f} ms, p95 {p95:6.1f} ms;"
            f" runners p50 {statistics.median(runners):6.1f} ms"
        )
    return int(statistics.median(above["raw body"][3:]) > _LIMIT_MS)


def _memory(service: Serving, client: _Client, requests: int) -> int:
    body = _instance(0)
    every = max(1, requests // 50)
    samples: list[tuple[int, int]] = []
    for number in range(requests + 1):
        client.score(body, "application/dicom")
        if number % every == 0:
            samples.append((number, _proportional_bytes(service)))
    # What is cached once is there after the first fifth.
    steady = [(number, size) for number, size in samples if number >= requests // 5]
    slope = statistics.linear_regression(*zip(*steady, strict=True)).slope
    first, last = steady[0][1] / 1e6, steady[-1][1] / 1e6
    print(f"{requests} requests of {len(body) / 1e3:.0f} kB: PSS {samples[0][1] / 1e6:.1f} MB at the first,")
    print(f"{first:.1f} MB after a fifth, {last:.1f} MB at the end; slope {slope:+.0f} bytes a request")
    return int(slope > _FLAT_BYTES_A_REQUEST)


def _proportional_bytes(service: Serving) -> int:
    """Of all processes of the service; what they share is counted once."""
    supervisor = psutil.Process(service.process.pid)
    return sum(
        process.memory_full_info().pss for process in [supervisor, *supervisor.children(recursive=True)]
    )


def _instance(size_bytes: int) -> bytes:
    """A drawn hand that passes the gate, with pixels for so many bytes or few."""
    height = round((size_bytes / 2 * 1.25) ** 0.5) if size_bytes else 320
    instance = as_dicom(
        draw(PhantomKind.PLAIN, seed=3, width=height * 4 // 5, height=height), study_instance_uid="1.2.3"
    )
    file = io.BytesIO()
    instance.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _form(content: bytes) -> bytes:
    head = b'--bench\r\nContent-Disposition: form-data; name="file"; filename="hand.dcm"\r\n\r\n'
    return head + content + b"\r\n--bench--\r\n"


if __name__ == "__main__":
    sys.exit(main())
