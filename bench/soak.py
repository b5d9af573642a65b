"""Many clients for minutes: how long they wait, and that none is refused.

    python -m bench.soak FOLDER [--minutes 3] [--clients 32]

FOLDER holds hand radiographs (DICOM, PNG, JPEG). Exit code 1 when a request failed.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from bench.serving import Load, accepted, serving
from runners.analysis import Analysis
from skiagraph.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--count", type=int, default=48, help="radiographs (48)")
    options = parser.parse_args()
    with Analysis(Settings()) as analysis:
        files = list(accepted(analysis, options.folder, options.count))
    with serving() as service:
        load = service.load(files, clients=options.clients, seconds=60 * options.minutes)
    _report(load, options.clients)
    return 1 if load.failed else 0


def _report(load: Load, clients: int) -> None:
    waits = "  ".join(f"p{part} {np.percentile(load.taken, part):.2f} s" for part in (50, 90, 99, 100))
    print(f"{clients} clients for {load.seconds:.0f} s on {os.cpu_count()} cores")
    print(f"{load.done / load.seconds:.2f} per second, {load.failed} failed: {load.outcomes}")
    print(waits)
    print(
        f"CPU for each: service {1000 * load.cpu_seconds / max(1, load.done):.1f} ms,"
        f" client {1000 * load.client_cpu_seconds / max(1, load.done):.1f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
