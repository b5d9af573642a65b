"""The console over HTTP: `/livez`, `/readyz`, `/metrics`, and the state of a study at `/studies/UID`."""

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dicom_listener import metrics
from dicom_listener.errors import StartupError
from dicom_listener.readiness import Readiness
from skiagraph.settings.listener import ListenerSettings


class Console(AbstractContextManager["Console"]):
    """Serves from `__enter__` to `__exit__`. state_of: of a Study Instance UID; None: unknown."""

    def __init__(
        self,
        settings: ListenerSettings,
        readiness: Readiness,
        state_of: Callable[[str], str | None],
    ) -> None:
        self._settings = settings
        self._readiness = readiness
        self._state_of = state_of
        self._server = uvicorn.Server(
            uvicorn.Config(self._application(), log_config=None, access_log=False, lifespan="off")
        )
        self.thread: threading.Thread | None = None
        self.port = 0

    def __enter__(self) -> Self:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._settings.console_host, self._settings.console_port))
        except OSError as error:
            listening.close()
            raise StartupError(
                f"listener.console_host and listener.console_port {self._settings.console_host}:"
                f"{self._settings.console_port} cannot be bound: {error.strerror}"
            ) from error
        self.port = int(listening.getsockname()[1])
        self.thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="console", daemon=True
        )
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self.thread is not None:
            self.thread.join(timeout=5)

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/livez", _alive),
                Route("/readyz", self._ready),
                Route("/metrics", _metrics),
                Route("/studies/{study_instance_uid}", self._study),
            ]
        )

    def _ready(self, _request: Request) -> Response:
        held = self._readiness.held()
        return JSONResponse(held, status_code=200 if all(held.values()) else 503)

    def _study(self, request: Request) -> Response:
        state = self._state_of(request.path_params["study_instance_uid"])
        return JSONResponse({"state": state}, status_code=200 if state else 404)


async def _alive(_request: Request) -> Response:
    return PlainTextResponse("alive\n")


def _metrics(_request: Request) -> Response:
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
