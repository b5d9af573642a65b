"""The BentoML entry service: our routes, before two dependent services, the runners of the design.

"Runner" here is the design's word for a dependent service; BentoML's own class of that name, from before 1.2,
is not used. Light on purpose: the supervisor and every worker import this module.
"""

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from runners.lifetime import die_with_parent
from runners.preprocessor import Preprocessor
from runners.scorer import AnomalyScorer
from service.access import OPEN_PATHS
from service.guard import Guard
from service.http import Rooms, api
from skiagraph import log
from skiagraph.settings import load

_settings = load()
_log = log.get(__name__)
_guarded = Guard(api, _settings.service)


class OurRoutes:
    """Answers every request in BentoML's place: of its own pages and documents none is offered.

    BentoML's mount (`bentoml.asgi_app`) comes after those, and does not know a path with a line break in it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] in OPEN_PATHS:
            await api(scope, receive, send)  # asked every few seconds: not logged
        else:
            await _guarded(scope, receive, send)


@bentoml.service(
    name="Skiagraph",
    workers=1,
    # Ours comes first and says so in problem details; this one only ends what hangs.
    traffic={"timeout": _settings.service.request_timeout_seconds + 10},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},  # its spans would be exported nowhere
    # BentoML's would make a series of every path that anybody asks for. Ours are in service/metrics.py.
    metrics={"enabled": False},
)
class Skiagraph:
    """Scores hand radiographs and reports on studies."""

    preprocessor = bentoml.depends(Preprocessor)
    scorer = bentoml.depends(AnomalyScorer)

    def __init__(self) -> None:
        # Here and not above: the processes of the runners import this module too, and need none of it.
        from runners.errors import RunnerFault
        from runners.loaded import open_packages
        from service import metrics
        from service.pipeline import Pipeline
        from service.study import StudyPipeline

        die_with_parent()
        log.configure(json=_settings.log_json, level=_settings.log_level)
        if _settings.service.tls is not None:
            metrics.show_certificate(_settings.service.tls)
        try:
            packages = open_packages(_settings.service)
        except RunnerFault as error:
            _log.error("the service cannot score", reason=str(error))
            api.state.rooms = Rooms(settings=_settings, fault=str(error))
            return
        pipeline = Pipeline(
            preprocessor=self.preprocessor,
            scorer=self.scorer,
            packages=packages,
            settings=_settings.service,
        )
        studies = StudyPipeline(pipeline=pipeline, settings=_settings)
        api.state.rooms = Rooms(settings=_settings, pipeline=pipeline, studies=studies)


Skiagraph.add_asgi_middleware(OurRoutes)  # type: ignore[attr-defined]  # a bentoml Service by now
