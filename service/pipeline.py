"""One radiograph through the runners: preprocessor, then scorer, both in processes of their own."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import ClientError
from bentoml.exceptions import BentoMLException, ServiceUnavailable

from models.package import ModelPackage, OperatingPoint
from models.rejection import Rejection
from runners.analysis import Prepared, Scored, conclude
from runners.loaded import EngineReport
from runners.preprocessor import PrepareJob, Preprocessor
from runners.scorer import AnomalyScorer, ScoreJob
from service import metrics
from service.contract import ModelIdentity, RadiographResult
from service.errors import REPAIR_SECONDS, Fault, Rejected, TryLater
from service.results import identity_of, result_of
from skiagraph import log
from skiagraph.settings.service import ServiceSettings

_log = log.get(__name__)
_Answer = TypeVar("_Answer")
_RETRY_SECONDS = 2
_PROBE_SECONDS = 5  # in all: probes and scrapes wait hardly longer


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What a request asked for, found."""

    package: ModelPackage
    operating_point: OperatingPoint
    identity: ModelIdentity


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysed:
    """One radiograph's outcome; the seconds are those of the stage itself, without waiting for it."""

    outcome: Scored | Rejection
    result: RadiographResult
    prepare_seconds: float
    engine_seconds: float


class Pipeline:
    """The runners as this process reaches them."""

    def __init__(
        self,
        *,
        preprocessor: Preprocessor,
        scorer: AnomalyScorer,
        packages: dict[str, ModelPackage],
        settings: ServiceSettings,
    ) -> None:
        self._preprocessor = preprocessor
        self._scorer = scorer
        self.packages = packages
        self._engines: dict[str, EngineReport] = {}
        # Few enough that a large study does not hold all its radiographs decoded at once.
        self._at_once = asyncio.Semaphore(2 * settings.preprocess_workers + settings.max_batch_size)

    async def engines(self) -> dict[str, EngineReport]:
        """The engine of each model; Fault when the scorer says that it cannot score."""
        if not self._engines:
            answer = await _asked(self._scorer.to_async.engines)  # type: ignore[attr-defined]
            if answer.fault is not None:
                raise Fault(503, "engine_fault", answer.fault, retry_after_seconds=REPAIR_SECONDS)
            self._engines = answer.parcel.content
            metrics.show_engines(self._engines.values())
        return self._engines

    async def ready(self) -> dict[str, EngineReport]:
        """The engines, asked of runners that answer now; TryLater or Fault says why not."""
        runners: tuple[Any, ...] = (self._preprocessor, self._scorer)
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                engines = await self.engines()
                answers = await asyncio.gather(*(_asked(runner.is_ready) for runner in runners))
        except TimeoutError as error:
            raise _runner_away() from error
        if not all(answers):
            raise _runner_away()
        return engines

    async def choose(self, model: str | None, operating_point: str | None) -> ModelChoice:
        """The model and operating point asked for, the defaults when None; Rejected when there is no such."""
        name = model or next(iter(self.packages))
        if name not in self.packages:
            raise Rejected(
                422,
                "unknown_model",
                f"there is no model {name!r} here",
                field="model",
                value=name,
                fix=f"ask for one of: {', '.join(self.packages)}",
            )
        package = self.packages[name]
        try:
            point = package.manifest.operating_point(operating_point)
        except KeyError as error:
            raise Rejected(
                422,
                "unknown_operating_point",
                str(error.args[0]),
                field="operating_point",
                value=operating_point,
                fix=f"ask for one of: {', '.join(each.name for each in package.manifest.operating_points)}",
            ) from None
        identity = identity_of((await self.engines())[name])
        return ModelChoice(package=package, operating_point=point, identity=identity)

    async def analyse(
        self, data: bytes, *, choice: ModelChoice, gate: bool = True, drawn: bool = True
    ) -> Analysed:
        """Prepare and score one radiograph; a bad one is a value. drawn: so that a picture can be made."""
        async with self._at_once:
            started = time.perf_counter()
            name = choice.package.manifest.name
            job = PrepareJob(data=data, model=name, gate=gate, drawn=drawn)
            answered = await _asked(self._preprocessor.to_async.prepare, job)  # type: ignore[attr-defined]
            prepared: Prepared | Rejection = answered.parcel.content
            outcome: Scored | Rejection
            engine_seconds, identity = 0.0, choice.identity
            if isinstance(prepared, Rejection):
                outcome = prepared
            else:
                jobs = [ScoreJob(tensor=answered.tensor, model=name)]
                (scored,) = await _asked(self._scorer.to_async.score, jobs)  # type: ignore[attr-defined]
                identity = self._identity(scored.engine.content)
                engine_seconds = scored.seconds
                outcome = conclude(
                    prepared,
                    scored.parcel.content,
                    package=choice.package,
                    operating_point=choice.operating_point,
                )
            seconds = time.perf_counter() - started
        analysed = Analysed(
            outcome=outcome,
            result=result_of(outcome, model=identity, seconds=seconds),
            prepare_seconds=answered.seconds,
            engine_seconds=engine_seconds,
        )
        metrics.count_result(analysed.result, prepare=answered.seconds, engine=engine_seconds)
        return analysed

    def _identity(self, engine: EngineReport) -> ModelIdentity:
        """Of the engine that answered: a scorer that was restarted may have come back on another one."""
        if self._engines.get(engine.model) != engine:
            self._engines[engine.model] = engine
            metrics.show_engines([engine])
        return identity_of(engine)


async def _asked(call: Callable[..., Awaitable[_Answer]], *arguments: object) -> _Answer:
    """A call into another process; what keeps it from answering becomes TryLater, what it breaks on Fault.

    A connection that breaks (its worker was killed) is tried again once: runners keep nothing between calls,
    and the next one waits in their socket until a worker is back.
    """
    try:
        try:
            return await call(*arguments)
        except ClientError:
            _log.warning("the connection to a runner broke, it is asked again")
            return await call(*arguments)
    except ServiceUnavailable as error:
        raise TryLater(
            503,
            "overloaded",
            "more radiographs are waiting than can be scored in time",
            retry_after_seconds=_RETRY_SECONDS,
        ) from error
    except BentoMLException as error:
        raise Fault(500, "runner_fault", "a runner failed: see the log of the service") from error
    except (TimeoutError, OSError, ClientError) as error:
        raise _runner_away() from error


def _runner_away() -> TryLater:
    return TryLater(
        503, "runner_away", "a runner is starting or restarting", retry_after_seconds=_RETRY_SECONDS
    )
