"""Backup and restore, carried out as docs/operations.md has them, with a study that waits for the service."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, send, until
from tests.operations import rules

_BLOCK = re.compile(r"<!-- carried out by tests/operations/test_backup.py -->\n```sh\n(.*?)```", re.DOTALL)
# Asks the test to do it, and waits until it has.
_SYSTEMCTL = """#!/bin/sh
[ "$2" = skiagraph-listener ] || exit 4
touch "$ASKED/$1"
while [ -e "$ASKED/$1" ]; do sleep 0.02; done
"""


class Machine:
    """A node whose state is in a /var/lib of its own, and a shell that reaches it by `systemctl`."""

    def __init__(self, folder: Path, node: NodeProcess) -> None:
        self.node = node
        self.backup = folder / "backup"
        self._state = node.settings.folder.parent
        self._asked, self._programs = folder / "asked", folder / "programs"
        for made in (self.backup, self._asked, self._programs):
            made.mkdir()
        (self._programs / "systemctl").write_text(_SYSTEMCTL)
        (self._programs / "systemctl").chmod(0o755)

    def carry_out(self, block: str) -> int:
        """The whole block in one shell, as it would be pasted; its exit code."""
        here = block.replace("/var/lib", str(self._state)).replace("/backup", str(self.backup))
        environment = {"PATH": f"{self._programs}:{os.environ['PATH']}", "ASKED": str(self._asked)}
        process = subprocess.Popen(["bash", "-c", here], env=environment)
        try:
            while process.poll() is None:
                for verb, do in (("stop", self.node.stop), ("start", self.node.start)):
                    if (self._asked / verb).exists():
                        do()
                        (self._asked / verb).unlink()
                time.sleep(0.02)
        finally:
            process.kill()
        return process.returncode

    def in_backup(self) -> list[str]:
        listed = subprocess.run(
            ["tar", "--list", "--gzip", "--file", self.backup / "skiagraph.tar.gz"],
            capture_output=True,
            text=True,
            check=True,
        )
        return listed.stdout.splitlines()


@contextmanager
def _mounted(folder: Path) -> Iterator[None]:
    """A file system of its own at the folder; skips with the reason where there can be none."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("mount_point", [False, True], ids=["a folder", "a mount point"])
def test_a_study_that_waited_at_the_backup_is_answered_after_the_restore(
    tmp_path: Path, mount_point: bool, killed: bool
) -> None:
    backup_block, restore_block = _BLOCK.findall(rules.RUNBOOK.read_text())
    folder = tmp_path / "lib" / "skiagraph"
    with ExitStack() as stack:
        if mount_point:
            stack.enter_context(_mounted(folder))
        pacs = stack.enter_context(Pacs())
        service = stack.enter_context(FakeService(tmp_path / "service"))
        url = service.url
        service.stop()
        node = _node(tmp_path, folder, service_url=url, destinations=[pacs.destination])
        machine = Machine(tmp_path, node)
        stack.enter_context(node)
        before, after = radiograph(), radiograph()
        assert send(node.port, [before]) == [0]
        _waiting(node, 1)
        assert machine.carry_out(backup_block) == 0
        assert send(node.port, [after]) == [0]
        _waiting(node, 2)
        if killed:  # what was written last is in the files beside the databases
            node.kill()
            assert {path.name for path in folder.glob("*-wal")} == {
                "ledger.sqlite-wal",
                "workflow.sqlite-wal",
            }
        assert machine.carry_out(restore_block) == 0
        _waiting(node, 1)
        service.start()
        until(lambda: pacs.reports(before.StudyInstanceUID), seconds=30)
        assert not pacs.reports(after.StudyInstanceUID)
        # Sent again, as the page says: stored as if it had never been here.
        assert send(node.port, [after]) == [0]
        until(lambda: pacs.reports(after.StudyInstanceUID), seconds=30)
        assert len(pacs.reports(before.StudyInstanceUID)) == 1
        # What was there is kept, and is in no backup.
        assert (folder / "before" / "ledger.sqlite").exists()
        assert machine.carry_out(backup_block) == 0
        assert "skiagraph/ledger.sqlite" in machine.in_backup()
        assert not [name for name in machine.in_backup() if "before" in name]


@pytest.mark.parametrize("restored_before", [False, True])
def test_a_restore_that_cannot_go_on_leaves_the_listener_stopped(
    tmp_path: Path, restored_before: bool
) -> None:
    """There is no backup; or there is, and beside it what an earlier restore put aside."""
    backup_block, restore_block = _BLOCK.findall(rules.RUNBOOK.read_text())
    folder = tmp_path / "lib" / "skiagraph"
    with _node(tmp_path, folder) as node:
        machine = Machine(tmp_path, node)
        assert send(node.port, [radiograph()]) == [0]
        if restored_before:
            assert machine.carry_out(backup_block) == 0
            (folder / "before").mkdir()
        assert machine.carry_out(restore_block) != 0
        assert not node.running()
        kept = folder if restored_before else folder / "before"
        assert (kept / "ledger.sqlite").exists()


def _node(work: Path, folder: Path, **settings: object) -> NodeProcess:
    """A node whose state is in this folder."""
    node = NodeProcess(work / "node", **settings)
    node.settings = node.settings.model_copy(update={"folder": folder})
    return node


def _waiting(node: NodeProcess, studies: int) -> None:
    until(lambda: node.metric('skiagraph_queue_depth{stage="scoring"}') == studies)
