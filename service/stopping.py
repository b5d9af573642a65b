"""Ends the requests under way before the runners that they still need.

BentoML stops all workers at once, which breaks such requests; it waits a day for one that does not stop; and
its stop is lost when it meets another command of its process supervisor (circus).
"""

import asyncio
import socket
from typing import Any, Final

_ENTRY: Final = "service"  # BentoML's names for the watcher of the entry service and for its socket
_LISTENING: Final = "_bento_api_server"
_RUNNER_SECONDS: Final = 5.0  # a runner whose caller is gone has nothing left to do
_DEAF_SECONDS: Final = 1.0  # an entry worker that was told to stop accepts nothing after this
_POLL_SECONDS: Final = 0.05


def drain(arbiter: Any, *, seconds: float) -> None:
    """Stop the entry workers of a running `bentoml.serve(…).arbiter`; who comes later is refused.

    A worker with a request that has not ended after so many seconds is killed.
    """
    asyncio.run_coroutine_threadsafe(_drain(arbiter, seconds), arbiter.loop.asyncio_loop).result()


async def _drain(arbiter: Any, seconds: float) -> None:
    arbiter.ctrl.caller.stop()  # it would start again what we stop
    for watcher in arbiter.watchers:
        watcher.graceful_timeout = seconds if watcher.name == _ENTRY else _RUNNER_SECONDS
    stopped = asyncio.create_task(_stop_entry(arbiter))
    await asyncio.wait({stopped}, timeout=_DEAF_SECONDS)
    # Every worker has a copy, the runners too: closing ours would leave the port open.
    arbiter.sockets[_LISTENING].shutdown(socket.SHUT_RDWR)
    await stopped


async def _stop_entry(arbiter: Any) -> None:
    from circus.exc import ConflictError

    while True:
        try:
            await arbiter.stop_watchers(lambda reverse: [arbiter.get_watcher(_ENTRY)])
            return
        except ConflictError:  # it is still starting workers, or looking after them
            await asyncio.sleep(_POLL_SECONDS)
