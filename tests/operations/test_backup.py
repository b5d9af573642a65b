"""Backup and restore, carried out as docs/operations.md has them, with a study that waits for the service."""

import re
import shlex
import subprocess
from pathlib import Path

from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, send, until
from tests.operations import rules

_BLOCK = re.compile(r"<!-- carried out by tests/operations/test_backup.py -->\n```sh\n(.*?)```", re.DOTALL)


def _carry_out(block: str, node: NodeProcess, *, state: Path, backup: Path) -> None:
    """Line by line; systemctl is the node of this test, the two folders are ours."""
    for line in block.splitlines():
        match shlex.split(line):
            case ["systemctl", "stop", "skiagraph-listener"]:
                node.stop()
            case ["systemctl", "start", "skiagraph-listener"]:
                node.start()
            case _:
                here = line.replace("/var/lib/skiagraph", str(node.settings.folder))
                here = here.replace("/var/lib skiagraph", f"{state} {node.settings.folder.name}")
                here = here.replace("/var/lib", str(state))
                subprocess.run(here.replace("/backup", str(backup)), shell=True, check=True)  # noqa: S602 - as written


def test_a_study_that_waited_at_the_backup_is_answered_after_the_restore(tmp_path: Path) -> None:
    backup_block, restore_block = _BLOCK.findall(rules.RUNBOOK.read_text())
    state, backup = tmp_path / "state", tmp_path / "backup"
    backup.mkdir()
    with Pacs() as pacs, FakeService(tmp_path / "service") as service:
        url = service.url
        service.stop()
        node = NodeProcess(state, service_url=url, destinations=[pacs.destination])
        with node:
            before, after = radiograph(), radiograph()
            assert send(node.port, [before]) == [0]
            until(lambda: node.metric('skiagraph_queue_depth{stage="scoring"}') == 1)
            _carry_out(backup_block, node, state=state, backup=backup)
            assert send(node.port, [after]) == [0]
            until(lambda: node.metric('skiagraph_queue_depth{stage="scoring"}') == 2)
            _carry_out(restore_block, node, state=state, backup=backup)
            service.start()
            until(lambda: pacs.reports(before.StudyInstanceUID), seconds=30)
            assert not pacs.reports(after.StudyInstanceUID)
            # Sent again, as the page says: stored as if it had never been here.
            assert send(node.port, [after]) == [0]
            until(lambda: pacs.reports(after.StudyInstanceUID), seconds=30)
            assert len(pacs.reports(before.StudyInstanceUID)) == 1
