"""The CPU half: bytes in, what the network is shown out, in as many processes as the settings say."""

from typing import Any

import bentoml
from pydantic import BaseModel, ConfigDict

from runners.dependent import configuration
from runners.lifetime import die_with_parent
from runners.parcel import PackedTensor, Parcel
from skiagraph import log
from skiagraph.settings import load

_settings = load()


class PrepareJob(BaseModel):
    """One radiograph to prepare for one model; drawn: with what a heatmap is drawn on."""

    model_config = ConfigDict(frozen=True)

    data: bytes
    model: str
    gate: bool = True
    drawn: bool = True


class PrepareOutcome(BaseModel):
    """What came of it, and the time it took without waiting; tensor: travels apart from what was prepared."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    parcel: Any  # Parcel[Prepared | Rejection]
    tensor: Any  # PackedTensor | None
    seconds: float


@bentoml.service(
    name="Preprocessor",
    workers=_settings.service.preprocess_workers,
    **configuration(_settings.service),
)
class Preprocessor:
    """Decoding, gate and geometry."""

    def __init__(self) -> None:
        # Here and not above: the processes of the other services import this module too, and need none of it.
        import cv2

        from runners.analysis import PrepareOptions
        from runners.gatekeeper import Gatekeeper
        from runners.loaded import open_packages

        die_with_parent()
        log.configure(json=_settings.log_json, level=_settings.log_level)
        cv2.setNumThreads(1)  # the processes are the parallelism
        self._packages = open_packages(_settings.service)
        self._gatekeepers = {name: Gatekeeper(package) for name, package in self._packages.items()}
        self._options = PrepareOptions.of(_settings)

    @bentoml.api
    def prepare(self, job: PrepareJob) -> PrepareOutcome:
        """Decode, ask the gate, bring into the network's square."""
        import time
        from dataclasses import replace

        from models.rejection import Rejection
        from runners.analysis import prepare

        started = time.perf_counter()
        outcome = prepare(
            job.data,
            package=self._packages[job.model],
            gatekeeper=self._gatekeepers[job.model] if job.gate else None,
            options=self._options,
            drawn=job.drawn,
        )
        tensor = None
        if not isinstance(outcome, Rejection):
            shown = outcome.model_input
            tensor = PackedTensor(shown.tensor)
            outcome = replace(outcome, model_input=replace(shown, tensor=shown.tensor[:, :0]))
        return PrepareOutcome(parcel=Parcel(outcome), tensor=tensor, seconds=time.perf_counter() - started)
