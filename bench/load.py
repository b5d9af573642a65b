"""Clients that ask for scores, each again as soon as it was answered: a process of its own, and a cheap one.

    python -m bench.load URL --clients 32 --seconds 10 < PATHS

PATHS: files to send, one a line. Prints one JSON object, the processor time of the clients themselves in it.
"""

import argparse
import http.client
import json
import sys
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 90


class Clients:
    """One connection each; kept alive, as a listener keeps it."""

    def __init__(self, url: str, bodies: list[bytes], seconds: float) -> None:
        self.address = urlsplit(url).netloc
        self.bodies = bodies
        self.until = time.perf_counter() + seconds
        self.number = count()
        self.taken: list[float] = []
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        """Ask until the time is over."""
        connection = http.client.HTTPConnection(self.address, timeout=_PATIENCE_SECONDS)
        while (started := time.perf_counter()) < self.until:
            try:
                connection.request("POST", "/v1/score", self.bodies[next(self.number) % len(self.bodies)])
                answer = connection.getresponse()
                answer.read()
                self.outcomes[str(answer.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[type(error).__name__] += 1
                connection.close()
            self.taken.append(time.perf_counter() - started)
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    bodies = [Path(line).read_bytes() for line in sys.stdin.read().splitlines()]
    started, used = time.perf_counter(), time.process_time()
    clients = Clients(options.url, bodies, options.seconds)
    threads = [threading.Thread(target=clients.run) for _ in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
        "outcomes": clients.outcomes,
        "taken": [round(each, 4) for each in clients.taken],
    }
    json.dump(report, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
