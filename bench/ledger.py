"""What a long ledger costs: two nodes, one with 1,000 studies and one with 100,000: `python -m bench.ledger`.

Both have finished studies only, as after months of work. They take turns at starting, receiving, listing and
answering a scrape; the ratios are of one turn's times.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from sqlalchemy import insert

from bench.intake import Receiver, make, measure, ours
from dicom_listener import studies as command
from dicom_listener.ledger import tables
from dicom_listener.ledger.connection import Database, ledger_url
from dicom_listener.ledger.purge import PURGED
from dicom_listener.ledger.states import DeliveryState, RevisionState
from skiagraph.settings.listener import ListenerSettings

_AT_ONCE = 5_000
_INSTANCES = 40


def fill(database: Database, count: int) -> None:
    """Enter studies of two instances each: scored, delivered and purged from the spool."""
    start = datetime.now(UTC) - timedelta(days=365)
    for first in range(0, count, _AT_ONCE):
        rows: dict[Any, list[dict[str, object]]] = defaultdict(list)
        for number in range(first, min(first + _AT_ONCE, count)):
            _enter(rows, number, start + timedelta(days=364) * (number / count))
        with database.write() as connection:
            for table in tables.metadata.sorted_tables:
                if rows[table]:
                    connection.execute(insert(table), rows[table])


def _enter(rows: dict[Any, list[dict[str, object]]], number: int, at: datetime) -> None:
    study = f"1.2.826.0.1.{number}"
    key: dict[str, object] = {"study_instance_uid": study}
    rows[tables.studies].append(
        key | {"first_received_at": at, "last_received_at": at, "open": False, "revision": 1, "purged_at": at}
    )
    for position in range(2):
        uids = {
            "series_instance_uid": f"{study}.{position}",
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
            "sop_instance_uid": f"{study}.{position}.1",
        }
        rows[tables.instances].append(
            key
            | uids
            | {
                "transfer_syntax_uid": "1.2.840.10008.1.2.1",
                "modality": "DX",
                "calling_ae": "MODALITY",
                "called_ae": "SKIAGRAPH",
                "peer_address": "127.0.0.1",
                "path": f"received/{study}/{position}.dcm",
                "size_bytes": 10_000_000,
                "received_at": at,
                "ignored": PURGED,
            }
        )
        rows[tables.objects].append(
            key
            | uids
            | {
                "revision": 1,
                "position": position,
                "kind": "structured_report",
                "path": f"results/{study}/1/{position}.dcm",
                "sha256": "0" * 64,
                "size_bytes": 100_000,
            }
        )
    done = {"attempts": 1, "retry_since": at, "next_attempt_at": at, "finished_at": at}
    rows[tables.revisions].append(
        key
        | done
        | {
            "revision": 1,
            "state": RevisionState.DELIVERED.value,
            "trigger": "quiet_period",
            "last_instance_id": 2 * number + 2,
            "result_time": at,
            "last_received_at": at,
            "gate": True,
            "priority": 5,
            "destinations": ["pacs"],
            "faults": 0,
            "result": {"results": []},
        }
    )
    rows[tables.deliveries].append(
        key
        | done
        | {
            "revision": 1,
            "destination": "pacs",
            "state": DeliveryState.DELIVERED.value,
            "accepted": [0, 1],
        }
    )
    kinds = ("instance_received", "instance_received", "revision_cut", "scored", "delivered")
    rows[tables.events] += [key | {"at": at, "kind": kind, "detail": {"status": "0x0000"}} for kind in kinds]


def _starts(folder: Path) -> float:
    started = time.monotonic()
    with ours(folder):
        return time.monotonic() - started


def _receives(receiver: Receiver, work: Path) -> float:
    paths = make(work / "sent", 256, _INSTANCES)
    try:
        seen = measure(receiver, paths, 1)
        if seen.refused:
            sys.exit("the node refused instances")
        return seen.seconds
    finally:
        shutil.rmtree(work / "sent")


def _seconds(what: Callable[..., object], *arguments: Any, **named: Any) -> float:
    started = time.monotonic()
    what(*arguments, **named)
    return time.monotonic() - started


def run(sizes: tuple[int, int], turns: int, work: Path) -> None:
    folders = [work / str(size) for size in sizes]
    settings = [ListenerSettings(folder=folder / "var") for folder in folders]
    for size, one in zip(sizes, settings, strict=True):
        one.folder.mkdir(parents=True)
        database = Database(ledger_url(one))
        seconds = _seconds(fill, database, size)
        database.close()
        megabytes = (one.folder / "ledger.sqlite").stat().st_size / 1e6
        print(f"{size} studies: {megabytes:.0f} MB, filled in {seconds:.0f} s", flush=True)
    times: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for _ in range(turns):
        times["start-up"].append(tuple(_starts(folder) for folder in folders))
    with ExitStack() as stack:
        nodes = [stack.enter_context(ours(folder)) for folder in folders]
        http = stack.enter_context(httpx.Client())
        for _ in range(turns):
            times[f"reception of {_INSTANCES}"].append(tuple(_receives(node, work) for node in nodes))
            for state in (None, "receiving", "dead_letter", "delivered"):
                name = f"studies list{f' --state {state}' if state else ''}"
                times[name].append(
                    tuple(_seconds(command.list_studies, one, state=state) for one in settings)
                )
            times["scrape"].append(tuple(_seconds(http.get, node.metrics) for node in nodes))
    print(f"{'':34}" + "".join(f"{size:>12}" for size in sizes) + "       ratio")
    for name, turns_of in times.items():
        small, large = (median(column) for column in zip(*turns_of, strict=True))
        ratio = median(second / first for first, second in turns_of)
        print(f"{name:34}{small * 1000:9.1f} ms{large * 1000:9.1f} ms{ratio:12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 studies and three turns")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="skiagraph-ledger-") as folder:
        run((1_000, 10_000 if quick else 100_000), 3 if quick else 9, Path(folder))


if __name__ == "__main__":
    main()
