"""Child processes that never outlive us: stopped with a deadline, and by the kernel when we are killed."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> Callable[[], None]:
    """For `preexec_fn`: SIGTERM from the kernel when the thread that starts the child is gone (prctl(2))."""
    parent = os.getpid()

    def ask() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


def stop(process: subprocess.Popen[bytes], *, deadline_seconds: float) -> bool:
    """SIGTERM, after the deadline SIGKILL; False when that was needed. Idempotent.

    The process leads a group of its own: grandchildren that it has left behind are killed too.
    """
    in_time = True
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            in_time = False
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return in_time
