"""Memory of an idle product with default settings, process by process: `python -m bench.memory`.

PSS, the proportional share: what several processes map together is counted once. Exit code 1 above the limit.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from skiagraph.demo.product import running_product

LIMIT_MB: Final = 1200
_SETTLE_SECONDS: Final = 10.0
_NAMES: Final = ("Preprocessor", "AnomalyScorer", "Skiagraph", "serve", "listen", "up")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="skiagraph-memory-") as folder:
        work = Path(folder)
        with running_product(work / "product", listener={}, log=work / "up.log") as product:
            time.sleep(_SETTLE_SECONDS)
            found = pss_by_process(product.process.pid)
    for name, megabytes in found:
        print(f"{name:16}{megabytes:8.0f} MB")
    total = sum(megabytes for _, megabytes in found)
    print(f"{'together':16}{total:8.0f} MB of {LIMIT_MB} allowed, on {os.cpu_count()} cores")
    return 0 if total <= LIMIT_MB else 1


def pss_by_process(pid: int) -> list[tuple[str, float]]:
    """Name and megabytes of a process and of all below it."""
    root = psutil.Process(pid)
    return [(_name(process), _pss_mb(process.pid)) for process in (root, *root.children(recursive=True))]


def _name(process: psutil.Process) -> str:
    words = process.cmdline()
    return next((name for name in _NAMES if name in words), process.name())


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
