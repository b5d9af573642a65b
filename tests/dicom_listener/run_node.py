"""A node as a process of its own, forked from a server that has imported everything already."""

import multiprocessing
import os
import sys
from pathlib import Path

from dicom_listener import node
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.dicom_listener.run_node", "tests.dicom_listener.fake_service"])


def main(settings: str, log_file: Path) -> None:
    """Run in a process group of its own until SIGTERM. settings: JSON."""
    os.setsid()
    with log_file.open("ab", buffering=0) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        log.configure(json=True)
        sys.exit(node.run(ListenerSettings.model_validate_json(settings)))
