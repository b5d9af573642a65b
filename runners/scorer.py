"""The graph's half: prepared radiographs in, answers out, batched over all requests that are waiting."""

from contextlib import ExitStack
from typing import Any

import bentoml
from pydantic import BaseModel, ConfigDict

from runners.dependent import configuration
from runners.errors import RunnerFault
from runners.lifetime import die_with_parent
from runners.parcel import Parcel
from skiagraph import log
from skiagraph.settings import load

_settings = load()
_log = log.get(__name__)


class ScoreJob(BaseModel):
    """What one model is to be shown."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    tensor: Any  # PackedTensor
    model: str


class ScoreOutcome(BaseModel):
    """engine: what answered; batch: how many radiographs shared the run; seconds: of that run."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    parcel: Any  # Parcel[Answer]
    engine: Any  # Parcel[EngineReport]
    batch: int
    seconds: float


class EngineReports(BaseModel):
    """One EngineReport per model; fault: why nothing can be scored."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    parcel: Any  # Parcel[dict[str, EngineReport]]
    fault: str | None = None


@bentoml.service(
    name="AnomalyScorer",
    workers=1,  # one process per GPU; on a CPU the engine uses the cores itself
    **configuration(_settings.service),
)
class AnomalyScorer:
    """The engines, one per model package; ready only when each is warm and in parity."""

    def __init__(self) -> None:
        from runners.loaded import LoadedModel, open_packages

        die_with_parent()
        log.configure(json=_settings.log_json, level=_settings.log_level)
        self._models: dict[str, LoadedModel] = {}
        self._stack = ExitStack()
        self._fault: str | None = None
        try:
            for name, package in open_packages(_settings.service).items():
                self._models[name] = self._stack.enter_context(LoadedModel(package, _settings.service))
        except RunnerFault as error:  # stay, not ready, so that `/readyz` can say why
            self._fault = str(error)
            _log.error("nothing can be scored", reason=self._fault)

    def __is_ready__(self) -> bool:
        return self._fault is None

    @bentoml.api(
        batchable=True,
        max_batch_size=_settings.service.max_batch_size,
        # What would wait longer is answered 503 by the dispatcher: half of the time a request may take.
        max_latency_ms=round(_settings.service.request_timeout_seconds * 500),
    )
    def score(self, jobs: list[ScoreJob]) -> list[ScoreOutcome]:
        """Run the graph once per model in the batch; order kept."""
        import time

        import numpy as np

        outcomes: dict[int, ScoreOutcome] = {}
        for name in {job.model for job in jobs}:
            places = [place for place, job in enumerate(jobs) if job.model == name]
            started = time.perf_counter()
            model = self._models[name]
            answers = model.infer(np.stack([jobs[place].tensor.unpack() for place in places]))
            seconds = time.perf_counter() - started
            for place, answer in zip(places, answers, strict=True):
                outcomes[place] = ScoreOutcome(
                    parcel=Parcel(answer), engine=Parcel(model.report), batch=len(places), seconds=seconds
                )
        return [outcomes[place] for place in range(len(jobs))]

    @bentoml.api
    def engines(self) -> EngineReports:
        """Which engine runs each model, and why."""
        reports = {name: model.report for name, model in self._models.items()}
        return EngineReports(parcel=Parcel(reports), fault=self._fault)

    @bentoml.on_shutdown
    def close(self) -> None:
        self._stack.close()


# Else BentoML would derive it from a JSON schema, made anew for each answer.
AnomalyScorer.apis["score"].output_spec.media_type = "application/vnd.bentoml+pickle"  # type: ignore[attr-defined]
