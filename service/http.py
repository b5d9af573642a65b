"""The routes: JSON, pictures and DICOM objects over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from models.rejection import Rejection
from service import metrics
from service.ahead import in_order
from service.contract import RadiographResult
from service.errors import REPAIR_SECONDS, Fault, ProblemError, Rejected, TryLater
from service.guard import answer, as_problem
from service.openapi import description
from service.parts import multipart_related, read_radiograph, read_radiographs, read_study, taken, zipped
from service.rejections import FIXES
from skiagraph import __version__

if TYPE_CHECKING:
    from models.package import ModelPackage
    from runners.analysis import Scored
    from runners.loaded import EngineReport
    from service.pipeline import Analysed, Pipeline
    from service.study import StudyPipeline
    from skiagraph.settings import Settings

_MAPS = ("overlay", "raw")
_AHEAD = 32  # radiographs of a batch that are scored before the client has taken their lines


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """What the routes answer from; fault: why there is nothing to answer from."""

    settings: "Settings"
    pipeline: "Pipeline | None" = None
    studies: "StudyPipeline | None" = None
    fault: str | None = None


async def post_study(request: Request) -> Response:
    """Score the instances of one study."""
    rooms = _rooms(request)
    studies = rooms.studies
    if studies is None:
        raise _broken(rooms)
    asked, instances = await read_study(request, max_instances=rooms.settings.service.max_instances)
    answered = await studies.run(asked, instances)
    if "application/zip" in request.headers.get("Accept", ""):
        return await asyncio.to_thread(zipped, answered.result, answered.objects)
    return multipart_related(answered.result, answered.objects)


async def post_score(request: Request) -> Response:
    """Score one radiograph."""
    analysed = await _analysed(request, drawn=False)
    if isinstance(analysed.outcome, Rejection):
        return _not_scored(analysed.outcome, analysed.result)
    return JSONResponse(analysed.result.model_dump(mode="json"))


async def post_scores(request: Request) -> Response:
    """Score many radiographs: a line of JSON for each, in order, sent as soon as it is known."""
    pipeline, limit = _pipeline(request), _rooms(request).settings.service.max_instances
    query = request.query_params
    choice = await pipeline.choose(query.get("model"), query.get("operating_point"))
    form = await read_radiographs(request, max_radiographs=limit)

    async def line(file: UploadFile) -> str:
        analysed = await pipeline.analyse(await taken(file), choice=choice, drawn=False)
        return analysed.result.model_copy(update={"file": file.filename or ""}).model_dump_json() + "\n"

    async def lines() -> AsyncIterator[str]:
        try:
            async for text in in_order(line, form.files, ahead=_AHEAD):
                yield text
        finally:
            await form.close()

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def post_heatmap(request: Request) -> Response:
    """The overlay of one radiograph, or its anomaly map in grey."""
    kind = request.query_params.get("map", "overlay")
    if kind not in _MAPS:
        raise Rejected(
            422, "invalid_query", "there is no such map", field="map", value=kind, fix="overlay or raw"
        )
    analysed = await _analysed(request, drawn=True)
    if isinstance(analysed.outcome, Rejection):
        return _not_scored(analysed.outcome, analysed.result)
    package = _pipeline(request).packages[analysed.result.model.name]
    settings = _rooms(request).settings
    png = await asyncio.to_thread(_png, kind, analysed.outcome, analysed.result, package, settings)
    return Response(png, media_type="image/png")


async def get_models(request: Request) -> Response:
    """The models that can be asked for, the default first."""
    pipeline = _pipeline(request)
    return JSONResponse({"models": [_described(package) for package in pipeline.packages.values()]})


async def get_model(request: Request) -> Response:
    """One model: operating points, evaluation, what it was trained on."""
    pipeline, name = _pipeline(request), request.path_params["name"]
    if name not in pipeline.packages:
        raise Rejected(
            404,
            "unknown_model",
            "there is no such model here",
            field="name",
            value=name,
            fix=f"ask for one of: {', '.join(pipeline.packages)}",
        )
    package = pipeline.packages[name]
    evaluation = package.manifest.evaluation
    return JSONResponse({**_described(package), "evaluation": evaluation})


async def get_openapi(request: Request) -> Response:
    """What this API is, for programs."""
    pipeline = _rooms(request).pipeline
    packages = pipeline.packages if pipeline else {}
    points = {
        point.name: None for package in packages.values() for point in package.manifest.operating_points
    }
    return JSONResponse(description(__version__, models=list(packages), operating_points=list(points)))


async def get_live(_: Request) -> Response:
    """That this process answers at all."""
    return JSONResponse({"alive": True})


async def get_metrics(request: Request) -> Response:
    """The metrics of all processes of the service."""
    try:
        ready = bool(await _engines(_rooms(request)))
    except ProblemError:
        ready = False
    text = await asyncio.to_thread(metrics.exposition, ready=ready)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def get_ready(request: Request) -> Response:
    """Whether radiographs can be scored, by which engine and why by that one."""
    try:
        engines = await _engines(_rooms(request))
    except ProblemError as error:
        status, headers = 503, {"Retry-After": "2"} | error.headers
        body: dict[str, Any] = {"ready": False, "code": error.problem.code, "reason": error.problem.detail}
    else:
        status, headers = 200, {}
        body = {"ready": True, "engines": [vars(report) for report in engines.values()]}
    return JSONResponse(body, status_code=status, headers=headers)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What starlette itself refuses: no such path, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    code, field = {404: ("not_found", "path"), 405: ("method_not_allowed", "method")}.get(
        error.status_code, ("bad_request", "body")
    )
    return answer(
        Rejected(
            error.status_code,
            code,
            error.detail,
            field=field,
            value=request.method if field == "method" else None,
            fix="GET /v1/openapi.json lists every path and method",
            headers=error.headers,
        )
    )


async def on_error(_: Request, error: Exception) -> Response:
    """What our own code raises, foreseen or not; that the client went away is for Guard to say."""
    if isinstance(error, ClientDisconnect):
        raise error
    return answer(as_problem(error))


class Api(Starlette):
    """Starlette without its outermost layer, which answers what nobody foresaw in plain text."""

    def build_middleware_stack(self) -> ASGIApp:
        return ExceptionMiddleware(self.router, handlers=self.exception_handlers)


api = Api(
    routes=[
        Route("/v1/studies", post_study, methods=["POST"]),
        Route("/v1/score", post_score, methods=["POST"]),
        Route("/v1/scores", post_scores, methods=["POST"]),
        Route("/v1/heatmap", post_heatmap, methods=["POST"]),
        Route("/v1/models", get_models),
        Route("/v1/models/{name}", get_model),
        Route("/v1/openapi.json", get_openapi),
        Route("/livez", get_live),
        Route("/readyz", get_ready),
        Route("/metrics", get_metrics),
    ],
    exception_handlers={HTTPException: on_http_exception, Exception: on_error},
)


def _rooms(request: Request) -> Rooms:
    rooms: Rooms = request.app.state.rooms
    return rooms


def _pipeline(request: Request) -> "Pipeline":
    rooms = _rooms(request)
    if rooms.pipeline is None:
        raise _broken(rooms)
    return rooms.pipeline


def _broken(rooms: Rooms) -> ProblemError:
    if rooms.fault is None:
        return TryLater(503, "starting", "the service is starting", retry_after_seconds=2)
    return Fault(503, "package_fault", rooms.fault, retry_after_seconds=REPAIR_SECONDS)


async def _engines(rooms: Rooms) -> "dict[str, EngineReport]":
    """The engines that can score now; TryLater or Fault says why there are none."""
    if rooms.pipeline is None:
        raise _broken(rooms)
    return await rooms.pipeline.ready()


async def _analysed(request: Request, *, drawn: bool) -> "Analysed":
    pipeline = _pipeline(request)
    query = request.query_params
    choice = await pipeline.choose(query.get("model"), query.get("operating_point"))
    return await pipeline.analyse(await read_radiograph(request), choice=choice, drawn=drawn)


def _not_scored(rejection: Rejection, result: RadiographResult) -> Response:
    """A rejection is an answer of its own: 422, with the result as the command line prints it."""
    problem = Rejected(422, rejection.code.value, rejection.reason, field="body", fix=FIXES[rejection.code])
    return answer(problem, result=result.model_dump(mode="json"))


def _described(package: "ModelPackage") -> dict[str, Any]:
    manifest = package.manifest
    return manifest.model_dump(
        mode="json",
        include={
            "name",
            "version",
            "title",
            "created",
            "operating_points",
            "default_operating_point",
            "training_data",
            "licence",
        },
    ) | {"weights_sha256": package.weights_sha256}


def _png(
    kind: str, scored: "Scored", result: RadiographResult, package: "ModelPackage", settings: "Settings"
) -> bytes:
    import cv2
    import numpy as np

    from service.report.heatmap import draw

    anomaly_map = scored.map_on_display()
    if kind == "raw":  # white where the package's calibration draws full opacity
        ceiling = package.manifest.calibration.map_ceiling
        picture = np.rint(np.clip(anomaly_map / ceiling, 0, 1) * 65535).astype(np.uint16)
    else:
        prepared = scored.prepared
        drawn = draw(
            display=scored.display,
            anomaly_map=anomaly_map,
            source_width_px=prepared.source_width_px,
            source_height_px=prepared.source_height_px,
            result=result,
            manifest=package.manifest,
            settings=settings.report,
        )
        picture = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".png", picture)[1])
